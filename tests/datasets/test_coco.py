from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import default_collate

from pcsa.datasets.coco import NAMES, CocoKeypoints, official, oks_nms
from pcsa.datasets.crops import to_source
from pcsa.metrics import COCO_SIGMAS

JOINTS = [[30 + 2 * k, 20 + 3 * k, 1 + k % 2] for k in range(17)]


def flat(joints: list[list[int]]) -> list[int]:
    return [value for joint in joints for value in joint]


def annotation(number: int, image_id: int = 7, **changes: Any) -> dict[str, Any]:
    base = {"id": number, "image_id": image_id, "category_id": 1, "iscrowd": 0, "area": 1500.0, "num_keypoints": 17}
    return base | {"bbox": [25.0, 10.0, 50.0, 70.0], "keypoints": flat(JOINTS)} | changes


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for image_id in (7, 8):
        pixels = np.zeros((100, 120, 3), dtype=np.uint8)
        for x, y, _ in JOINTS:
            pixels[y, x] = 255
        Image.fromarray(pixels).save(tmp_path / f"{image_id}.png")
    images = [{"id": i, "file_name": f"{i}.png", "width": 120, "height": 100} for i in (7, 8)]
    some = copy.deepcopy(JOINTS)
    some[3] = [0, 0, 0]
    annotations = [
        annotation(1),
        annotation(2, 8, keypoints=flat(some), bbox=[-10.0, 10.0, 60.0, 200.0]),
        annotation(3, keypoints=[0] * 51, num_keypoints=0),
        annotation(4, iscrowd=1),
        annotation(5, bbox=[10.0, 10.0, 0.0, 5.0]),
        annotation(6, bbox=[200.0, 10.0, 10.0, 5.0]),
        annotation(9, image_id=99),
    ]
    categories = [{"id": 1, "name": "person", "keypoints": list(NAMES), "skeleton": []}]
    write(tmp_path / "truth.json", {"images": images, "annotations": annotations, "categories": categories})
    box = {"category_id": 1, "image_id": 7, "bbox": [25.0, 10.0, 50.0, 70.0], "score": 0.5}
    detections = [
        box,
        box | {"score": 0.9, "bbox": [-5.0, -5.0, 50.0, 200.0]},
        box | {"image_id": 8, "score": 0.1},
        box | {"bbox": [130.0, 0.0, 5.0, 5.0]},
        box | {"image_id": 99},
        box | {"category_id": 2},
    ]
    write(tmp_path / "found.json", detections)
    return tmp_path


def write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content))


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    content = json.loads(path.read_text())
    change(content)
    write(path, content)


def test_persons_with_labeled_joints(root: Path, capsys: pytest.CaptureFixture) -> None:
    dataset = CocoKeypoints(root / "truth.json", root)
    assert capsys.readouterr().out == ""
    assert len(dataset) == 2
    assert dataset.skipped == {
        "no labeled joint": 1,
        "crowd": 1,
        "box without area in the picture": 2,
        "picture not in the annotation file": 1,
    }
    first, second = dataset.source(0), dataset.source(1)
    assert first["image"].shape == (3, 100, 120)
    assert first["keypoints"].tolist() == [joint[:2] for joint in JOINTS]
    assert first["visible"].all()  # covered ones too
    assert first["box"].tolist() == [25, 10, 50, 70]
    assert (first["image_id"], first["annotation_id"], first["score"], first["area"]) == (7, 1, 1.0, 1500.0)
    assert second["visible"].tolist() == [k != 3 for k in range(17)]
    assert second["keypoints"][3].tolist() == [0, 0]
    assert second["box"].tolist() == [0, 10, 50, 90]  # what is in the picture
    # The annotated pixel is the pixel: nothing is added.
    for x, y in first["keypoints"].long().tolist():
        assert first["image"][:, y, x].tolist() == [1, 1, 1]


def test_samples(root: Path) -> None:
    dataset = CocoKeypoints(root / "truth.json", root, input_size=(64, 48))
    assert dataset.input_size == (64, 48)
    assert dataset.num_keypoints == 17
    batch = default_collate([dataset[i] for i in range(2)])
    assert batch["image"].shape == (2, 3, 64, 48)
    assert batch["index"].tolist() == [0, 1]
    assert batch["image_id"].tolist() == [7, 8]
    back = to_source(batch["keypoints"], batch["to_source"])
    torch.testing.assert_close(back[0], dataset.source(0)["keypoints"], rtol=0, atol=1e-3)
    varied = dataset.augmented(0, torch.Generator().manual_seed(0))
    assert set(varied) == set(dataset[0])
    assert not torch.equal(varied["to_source"], dataset[0]["to_source"])
    assert dataset[-1]["index"] == 1
    assert len(list(dataset)) == 2


def test_pairs_and_bones() -> None:
    for left, right in CocoKeypoints.pairs:
        assert NAMES[left].replace("left", "right") == NAMES[right]
        assert NAMES[left] != NAMES[right]
    assert len(CocoKeypoints.pairs) == 8
    swap = {a: b for pair in CocoKeypoints.pairs for a, b in (pair, pair[::-1])}
    bones = {frozenset(bone) for bone in CocoKeypoints.bones}
    assert len(bones) == 19
    assert {frozenset(swap.get(k, k) for k in bone) for bone in bones} == bones


def test_detections(root: Path) -> None:
    dataset = CocoKeypoints(root / "truth.json", root, detections=root / "found.json", score_threshold=0.2)
    assert len(dataset) == 2
    assert dataset.skipped == {
        "score below the threshold": 1,
        "box without area in the picture": 1,
        "picture not in the annotation file": 1,
        "of another category": 1,
    }
    source = dataset.source(1)
    assert source["box"].tolist() == [0, 0, 45, 100]
    assert source["annotation_id"] == -1
    assert source["score"] == 0.9
    assert source["area"] == 4500
    assert not dataset[1]["visible"].any()
    assert (dataset[1]["keypoints"] == 0).all()


def test_results_by_hand(root: Path) -> None:
    dataset = CocoKeypoints(root / "truth.json", root, detections=root / "found.json")
    keypoints = torch.stack([torch.tensor(JOINTS)[:, :2].float() + shift for shift in (0.0, 0.1, 0.0)])
    confidence = torch.full((3, 17), 0.6)
    confidence[0, :10], confidence[0, 10:] = 0.1, 0.8  # those below 0.2 do not count
    confidence[2] = 0.15
    results = dataset.results(keypoints, confidence)
    # Items 0 and 1 are nearly the same in picture 7: scores 0.5 * 0.8 and 0.9 * 0.6.
    assert [result["image_id"] for result in results] == [7, 8]
    assert results[0]["score"] == pytest.approx(0.54)
    assert results[1]["score"] == 0
    assert results[0]["category_id"] == 1
    assert results[0]["keypoints"][:3] == pytest.approx([30.1, 20.1, 0.6])
    assert len(results[0]["keypoints"]) == 51
    scores = [result["score"] for result in dataset.results(keypoints, confidence, nms=None)]
    assert scores == pytest.approx([0.4, 0.54, 0])
    one = dataset.results(keypoints[:1], confidence[:1], indices=[2])
    assert one[0]["image_id"] == 8
    assert one[0]["score"] == pytest.approx(0.08)
    json.dumps(results)


def test_bad_results(root: Path) -> None:
    dataset = CocoKeypoints(root / "truth.json", root)
    with pytest.raises(ValueError, match="`keypoints`"):
        dataset.results(torch.zeros(1, 17, 2), torch.zeros(1, 17))
    with pytest.raises(ValueError, match="`confidence`"):
        dataset.results(torch.zeros(2, 17, 2), torch.zeros(2, 16))
    with pytest.raises(ValueError, match="finite"):
        dataset.results(torch.full((2, 17, 2), torch.nan), torch.zeros(2, 17))
    with pytest.raises(IndexError, match="`index`"):
        dataset.results(torch.zeros(1, 17, 2), torch.zeros(1, 17), indices=[2])


def naive_oks(a: np.ndarray, b: np.ndarray, area: float) -> float:
    total = 0.0
    for k in range(17):
        total += np.exp(-((a[k] - b[k]) ** 2).sum() / (2 * area * (2 * COCO_SIGMAS[k]) ** 2))
    return total / 17


def test_oks_nms_is_greedy() -> None:
    rng = np.random.default_rng(0)
    base = rng.uniform(0, 100, (4, 17, 2))
    persons = np.concatenate([base, base + rng.normal(0, 1.5, base.shape), base + rng.normal(0, 3, base.shape)])
    scores, areas = rng.uniform(size=12), rng.uniform(500, 3000, 12)
    kept: list[int] = []
    for i in np.argsort(-scores):
        if all(naive_oks(persons[i], persons[j], (areas[i] + areas[j]) / 2) <= 0.8 for j in kept):
            kept.append(int(i))
    found = oks_nms(torch.tensor(persons), torch.tensor(scores), torch.tensor(areas), threshold=0.8)
    assert found.tolist() == kept
    assert 4 <= len(kept) < 12
    assert oks_nms(torch.zeros(0, 17, 2), torch.zeros(0), torch.zeros(0)).tolist() == []


def test_similarity_is_pycocotools(root: Path) -> None:
    from pycocotools.cocoeval import COCOeval

    dataset = CocoKeypoints(root / "truth.json", root)
    shifted = torch.tensor(JOINTS)[:, :2].double() + torch.linspace(0, 3, 17, dtype=torch.float64)[:, None]
    result = dataset.results(shifted[None].float(), torch.ones(1, 17), indices=[0])
    evaluation = COCOeval(dataset.coco, dataset.coco.loadRes(result), "keypoints")
    evaluation.params.imgIds = [7]
    evaluation._prepare()
    theirs = evaluation.computeOks(7, 1)[0][0]
    assert 0.2 < theirs < 0.95
    persons = torch.stack([torch.tensor(JOINTS)[:, :2].double(), shifted])
    scores, areas = torch.tensor([2.0, 1.0]), torch.full((2,), 1500.0).double()
    assert len(oks_nms(persons, scores, areas, threshold=theirs + 1e-5)) == 2
    assert len(oks_nms(persons, scores, areas, threshold=theirs - 1e-5)) == 1


def test_bad_oks_nms() -> None:
    good = (torch.zeros(2, 17, 2), torch.zeros(2), torch.zeros(2))
    with pytest.raises(ValueError, match="`keypoints`"):
        oks_nms(torch.zeros(2, 5, 2), *good[1:])
    with pytest.raises(ValueError, match="`scores`"):
        oks_nms(good[0], torch.zeros(3), good[2])
    with pytest.raises(ValueError, match="`threshold`"):
        oks_nms(*good, threshold=1.5)


def test_bad_files(root: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.json"):
        CocoKeypoints(root / "none.json", root)
    with pytest.raises(FileNotFoundError, match="pictures"):
        CocoKeypoints(root / "truth.json", root / "pictures")
    with pytest.raises(FileNotFoundError, match=r"boxes\.json"):
        CocoKeypoints(root / "truth.json", root, detections=root / "boxes.json")
    (root / "bad.json").write_text("nonsense")
    with pytest.raises(ValueError, match=r"bad\.json.*JSON"):
        CocoKeypoints(root / "bad.json", root)
    with pytest.raises(ValueError, match=r"bad\.json.*JSON"):
        CocoKeypoints(root / "truth.json", root, detections=root / "bad.json")
    write(root / "bad.json", [1, 2])
    with pytest.raises(ValueError, match=r"bad\.json"):
        CocoKeypoints(root / "bad.json", root)
    with pytest.raises(ValueError, match=r"bad\.json`: detections\[0\]: `1` must be an object with image_id"):
        CocoKeypoints(root / "truth.json", root, detections=root / "bad.json")
    write(root / "bad.json", {"images": []})
    with pytest.raises(ValueError, match=r"bad\.json.*annotations"):
        CocoKeypoints(root / "bad.json", root)
    (root / "8.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"8\.png"):
        CocoKeypoints(root / "truth.json", root)[1]
    edit(root / "truth.json", lambda c: c["annotations"][0].update(keypoints=[1, 2, 2]))
    with pytest.raises(ValueError, match=r"annotations\[0\] \(id 1\): `keypoints` \(3 numbers\) must be 51"):
        CocoKeypoints(root / "truth.json", root)
    edit(root / "truth.json", lambda c: c["categories"][0].update(keypoints=["nose"]))
    with pytest.raises(ValueError, match="17 keypoints"):
        CocoKeypoints(root / "truth.json", root)
    with pytest.raises(ValueError, match="`input_size`"):
        CocoKeypoints(root / "truth.json", root, input_size=(0, 4))


def test_official_layout() -> None:
    annotations, images = official("root", "train")
    assert annotations == Path("root/annotations/person_keypoints_train2017.json")
    assert images == Path("root/train2017")
    with pytest.raises(ValueError, match="`split`"):
        official("root", "test")  # type: ignore[arg-type]


# The real data


@pytest.fixture(scope="module")
def real(real_data: Path) -> Path:
    return real_data / "coco"


def test_real_counts(real: Path) -> None:
    dataset = CocoKeypoints(real / "test_coco.json", real)
    assert len(dataset) == 12
    assert dataset.skipped == {"no labeled joint": 2}
    found = CocoKeypoints(real / "test_coco.json", real, detections=real / "test_coco_det_AP_H_56.json")
    assert len(found) == 118
    assert found.skipped == {}
    for i in range(12):
        assert dataset[i]["visible"].sum() == dataset.source(i)["visible"].sum() > 0


def test_the_truth_gets_full_precision(real: Path, capsys: pytest.CaptureFixture) -> None:
    from pycocotools.cocoeval import COCOeval

    dataset = CocoKeypoints(real / "test_coco.json", real)
    # Through crop and back: what a perfect network would predict.
    samples = default_collate([dataset[i] for i in range(len(dataset))])
    points = to_source(samples["keypoints"], samples["to_source"])
    confidence = samples["visible"].float()

    def precision(shift: float) -> float:
        found = dataset.coco.loadRes(dataset.results(points + shift, confidence))
        evaluation = COCOeval(dataset.coco, found, "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        return float(evaluation.stats[0])

    assert precision(0.0) == pytest.approx(1.0)
    assert precision(5.0) < 0.9
    capsys.readouterr()
