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

from pcsa.datasets.coco import NAMES, CocoKeypoints, check_coco, official, oks_nms
from pcsa.datasets.crops import to_source
from pcsa.metrics import COCO_SIGMAS, coco_average_precision

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
        annotation(2, 8, keypoints=flat(some), num_keypoints=16, bbox=[-10.0, 10.0, 60.0, 200.0]),
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


def test_pictures_that_cannot_be_read_do_not_count(root: Path) -> None:
    dataset = CocoKeypoints(root / "truth.json", root)
    gone = dataset._items[0]["image_id"]
    whole, rest = dataset.coco_annotations(), dataset.coco_annotations(without=[0])
    assert [picture["id"] for picture in rest["images"]] == [i for i in (7, 8) if i != gone]
    assert rest["annotations"] == [one for one in whole["annotations"] if one["image_id"] != gone]
    assert 0 < len(rest["annotations"]) < len(whole["annotations"])
    # The picture is there still for those who read it later.
    assert dataset.coco_annotations() == whole


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


def perfect(dataset: CocoKeypoints) -> float | None:
    """The average precision of the truth, through crop and back."""
    samples = default_collate([dataset[i] for i in range(len(dataset))])
    points = to_source(samples["keypoints"], samples["to_source"])
    results = dataset.results(points, samples["visible"].float())
    return coco_average_precision(dataset.coco_annotations(), results)["AP"]


def cut(content: Any) -> None:
    """Leave out those that have no box in the picture: nobody can find them, and they count."""
    content["annotations"] = [entry for entry in content["annotations"] if entry["id"] not in (5, 6)]


def renamed(content: Any) -> None:
    """Ids as other tools count them: from 0, anew in each picture, and the persons are category 3 of 3."""
    for i, entry in enumerate(content["annotations"]):
        entry.update(id=i % 2, category_id=3)
    content["categories"][0]["id"] = 3
    content["categories"] = [{"id": 0, "name": "thing"}, {"id": 1, "name": "person"}, *content["categories"]]
    content["annotations"].append({"id": 0, "image_id": 7, "category_id": 0, "bbox": "any"})
    content["annotations"].append({"id": 0, "image_id": 7, "category_id": 1})


def as_texts(content: Any) -> None:
    for entry in (*content["images"], *content["annotations"]):
        entry["id"] = f"n{entry['id']}"
    for entry in content["annotations"]:
        entry["image_id"] = f"n{entry['image_id']}"


@pytest.mark.parametrize("change", [renamed, as_texts])
def test_ids_of_other_tools(root: Path, change: Callable[[Any], None]) -> None:
    edit(root / "truth.json", cut)
    before = CocoKeypoints(root / "truth.json", root)
    edit(root / "truth.json", change)
    dataset = CocoKeypoints(root / "truth.json", root)
    others = {"of another category": 2} if change is renamed else {}
    assert dataset.skipped == {**before.skipped, **others}
    assert [dataset.source(i)["annotation_id"] for i in range(2)] == ([0, 1] if change is renamed else ["n1", "n2"])
    assert torch.equal(dataset[1]["image"], before[1]["image"])
    assert perfect(dataset) == perfect(before) == 1.0
    # As pycocotools gets them; that of a picture that is not there is left out.
    assert sorted(dataset.coco.anns) == [1, 2, 3, 4]
    assert {result["category_id"] for result in dataset.results(torch.zeros(2, 17, 2), torch.ones(2, 17))} == (
        {3} if change is renamed else {1}
    )


def test_a_thing_without_keypoints_is_no_person(root: Path) -> None:
    def add(content: Any) -> None:
        cut(content)
        for i in range(20):
            content["annotations"].append({"id": 50 + i, "image_id": 7, "category_id": 1, "num_keypoints": 17})

    edit(root / "truth.json", add)
    dataset = CocoKeypoints(root / "truth.json", root)
    assert len(dataset) == 2
    assert dataset.skipped["no labeled joint"] == 21
    assert perfect(dataset) == 1.0


def test_number_of_keypoints_is_counted_anew(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    edit(root / "truth.json", lambda c: (cut(c), [a.update(num_keypoints=0) for a in c["annotations"]]))
    dataset = CocoKeypoints(root / "truth.json", root)
    assert "4 annotations have another num_keypoints than labeled joints, first id 1: counted anew" in caplog.text
    assert perfect(dataset) == 1.0


def test_a_box_may_leave_the_picture_and_names_may_be_of_windows(root: Path) -> None:
    (root / "deep").mkdir()
    (root / "7.png").rename(root / "deep" / "7.png")
    edit(root / "truth.json", lambda c: c["images"][0].update(file_name="deep\\7.png", width=120.0))
    dataset = CocoKeypoints(root / "truth.json", root, detections=root / "found.json")
    assert dataset.source(1)["box"].tolist() == [0, 0, 45, 100]
    assert [problem.path for problem in check_coco(root / "truth.json", root)] == [str(root / "truth.json")]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["images"][1].pop("width"), r"images[1] (id 8): `width` (missing) must be a whole number of at"),
        (lambda c: c["images"][1].update(height="100"), r"images[1] (id 8): `height` (='100') must be"),
        (lambda c: c["images"][1].update(height=0), r"images[1] (id 8): `height` (=0) must be"),
        (lambda c: c["images"][1].update(width=float("nan")), r"images[1] (id 8): `width` (=nan) must be"),
        (lambda c: c["images"][1].pop("file_name"), r"images[1] (id 8): `file_name` (missing) must be"),
        (lambda c: c["images"][1].update(id=7), r"images[1]: `id` (=7) must be of one entry alone, images[0] has it"),
        (lambda c: c["annotations"][0].pop("bbox"), r"annotations[0] (id 1): `bbox` (missing) must be"),
        (lambda c: c["annotations"][0].pop("area"), r"annotations[0] (id 1): `area` (missing) must be"),
        (lambda c: c["annotations"][0].update(iscrowd="no"), r"annotations[0] (id 1): `iscrowd` (='no') must be 0 or"),
        (
            lambda c: c["annotations"][0].update(image_id="7"),
            r"annotations[0] (id 1): `image_id` (='7') must be a",
        ),
        (lambda c: c.update(categories=[]), r"must have one category with COCO's 17 keypoints in their order"),
        (
            lambda c: c["categories"].append({**c["categories"][0], "id": 2}),
            r"has 2 (keypoints by category id: 1: 17",
        ),
        (lambda c: c["categories"][0]["keypoints"].reverse(), r"has 0 (keypoints by category id: 1: 17)"),
    ],
)
def test_fields_are_checked_as_the_file_is_opened(root: Path, change: Callable[[Any], Any], message: str) -> None:
    edit(root / "truth.json", change)
    with pytest.raises(ValueError, match=r"^`.*truth\.json`: ") as caught:
        CocoKeypoints(root / "truth.json", root)
    assert message in str(caught.value)
    assert any(message in str(problem) for problem in check_coco(root / "truth.json", root))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score": None}, r"detections[1]: `score` (=None) must be a finite number of at least 0"),
        ({"score": float("nan")}, r"detections[1]: `score` (=nan) must be"),
        ({"score": "0.5"}, r"detections[1]: `score` (='0.5') must be"),
        ({"bbox": [0, 0, -5, 5]}, r"detections[1]: `bbox` (=[0, 0, -5, 5]) must be"),
        ({"image_id": "7"}, r"detections[1]: `image_id` (='7') must be a whole number: images[0] has 7"),
    ],
)
def test_fields_of_detections_are_checked(root: Path, change: dict[str, Any], message: str) -> None:
    edit(root / "found.json", lambda found: found[1].update(change))
    with pytest.raises(ValueError, match=r"^`.*found\.json`: ") as caught:
        CocoKeypoints(root / "truth.json", root, detections=root / "found.json")
    assert message in str(caught.value)
    assert any(message in str(problem) for problem in check_coco(root / "truth.json", root, root / "found.json"))


def corners(entries: list[Any]) -> None:
    for entry in entries:
        x, y, width, height = entry["bbox"]
        entry["bbox"] = [x, y, x + width, y + height]


def shares(content: Any) -> None:
    for entry in content["annotations"]:
        entry["bbox"] = [x / 120 for x in entry["bbox"]]


def half(content: Any) -> None:
    """Keypoints as of a picture of half the size."""
    for entry in content["annotations"]:
        entry["keypoints"] = [x / 2 if i % 3 < 2 else x for i, x in enumerate(entry["keypoints"])]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: corners(c["annotations"]), r"`bbox` must be \[x, y, width, height\]: 5 of 5 boxes leave their"),
        (shares, "`bbox` must be in pixels: those of all 5 end by 0.975, they are shares of the pictures"),
        (half, "must be in pixels of one picture: 5 of 5 persons have no labeled joint in their box"),
    ],
)
def test_units_of_all_annotations(root: Path, change: Callable[[Any], None], message: str) -> None:
    def place(content: Any) -> None:
        del content["annotations"][1:]
        content["annotations"] *= 5
        for i, entry in enumerate(content["annotations"]):
            content["annotations"][i] = {**entry, "bbox": [50 + i, 50 + i, 50, 45], "keypoints": [80, 80, 2] * 17}
        content["annotations"][0]["bbox"] = [0.6 * 120, 0.6 * 120, 45, 28]

    edit(root / "truth.json", place)
    assert len(CocoKeypoints(root / "truth.json", root)) == 5
    edit(root / "truth.json", change)
    with pytest.raises(ValueError, match=message):
        CocoKeypoints(root / "truth.json", root)
    assert len(check_coco(root / "truth.json", root)) == 1


def test_detections_as_corners_are_refused(root: Path) -> None:
    found = [{"image_id": 7, "category_id": 1, "score": 0.5, "bbox": [50.0 + i, 50.0, 60.0, 45.0]} for i in range(3)]
    corners(found)
    write(root / "found.json", found)
    with pytest.raises(ValueError, match=r"found\.json`: `bbox` must be \[x, y, width, height\]: 3 of 3 boxes leave"):
        CocoKeypoints(root / "truth.json", root, detections=root / "found.json")


def test_a_picture_of_another_size_is_refused(root: Path) -> None:
    Image.new("RGB", (60, 50)).save(root / "7.png")
    dataset = CocoKeypoints(root / "truth.json", root)
    with pytest.raises(ValueError, match=r"7\.png`: size \(=60 x 50\) must be the 120 x 100 pixels of the annotations"):
        dataset[0]
    dataset[1]


def test_all_faults_are_in_one_list(root: Path) -> None:
    def spoil(content: Any) -> None:
        content["images"] += [
            {"id": i, "file_name": name, "width": 120, "height": 100}
            for i, name in enumerate(("gone.png", "small.png", "turned.png", "text.png"))
        ]
        content["annotations"][0].pop("area")
        content["annotations"][1]["keypoints"][2] = 5

    edit(root / "truth.json", spoil)
    Image.new("RGB", (12, 10)).save(root / "small.png")
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.new("RGB", (120, 100)).save(root / "turned.png", exif=exif)
    (root / "text.png").write_text("text")
    edit(root / "found.json", lambda found: found[0].pop("score"))
    problems = check_coco(root / "truth.json", root, root / "found.json")
    assert [Path(problem.path).name for problem in problems] == [
        *("truth.json", "truth.json", "truth.json", "found.json", "found.json"),
        *("gone.png", "small.png", "turned.png", "text.png"),
    ]
    for problem, part in zip(
        problems,
        (
            "annotations[0] (id 1): `area` (missing)",
            "annotations[1] (id 2): `keypoints[2]` (=5)",
            "1 of 7 annotations have an `image_id` that `images` lack and are left out, first 99",
            "detections[0]: `score` (missing)",
            "1 of 6 detections have an `image_id` that `images` lack and are left out, first 99",
            "is missing",
            "size (=12 x 10) must be the 120 x 100 pixels",
            "EXIF orientation (=3) must be 1",
            "cannot be read as a picture",
        ),
        strict=True,
    ):
        assert part in problem.message
    assert all("`/" not in problem.message for problem in problems)


@pytest.mark.parametrize("content", ["", "[]", "{}", "5", '{"images": [5], "annotations": [[]], "categories": [null]}'])
def test_checking_never_raises(root: Path, content: str) -> None:
    (root / "bad.json").write_text(content)
    for truth, found in (("bad", "found"), ("truth", "bad"), ("bad", "bad"), ("none", "none")):
        where = [str(root / f"{name}.json") for name in (truth, found)]
        problems = check_coco(where[0], root, where[1])
        named = {problem.path for problem in problems}
        assert {path for path in where if "truth" not in path and "found" not in path} - named <= (
            {where[1]} if content == "[]" else set()
        )
    assert check_coco(root / "truth.json", root / "none")[-1] == (str(root / "none"), "is missing")


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


def test_real_files_have_no_faults(real: Path) -> None:
    assert check_coco(real / "test_coco.json", real, real / "test_coco_det_AP_H_56.json") == []


@pytest.mark.parametrize("ids", [lambda i, a: i, lambda i, a: 5, lambda i, a: a["id"] % 3])
def test_real_scores_do_not_hang_on_ids(real: Path, tmp_path: Path, ids: Callable[[int, Any], int]) -> None:
    content = json.loads((real / "test_coco.json").read_text())
    for i, entry in enumerate(content["annotations"]):
        entry["id"] = ids(i, entry)
    write(tmp_path / "a.json", content)
    assert perfect(CocoKeypoints(tmp_path / "a.json", real)) == 1.0


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


def test_boxes_as_shares_of_the_pictures_are_refused(root: Path) -> None:
    found = [{"image_id": 7, "category_id": 1, "score": 0.5, "bbox": [0.2, 0.1, 0.5, 0.1 * i]} for i in (7, 8)]
    write(root / "found.json", found)
    with pytest.raises(ValueError, match=r"found\.json`: `bbox` must be in pixels: those of all 2 end by 0\.9"):
        CocoKeypoints(root / "truth.json", root, detections=root / "found.json")

    def share(content: Any) -> None:
        content["annotations"] = content["annotations"][:1]
        (person,) = content["annotations"]
        person["bbox"] = [value / 120 for value in person["bbox"]]
        person["keypoints"] = [v if i % 3 == 2 else v / 120 for i, v in enumerate(person["keypoints"])]

    edit(root / "truth.json", share)
    with pytest.raises(ValueError, match=r"truth\.json`: `bbox` must be in pixels"):
        CocoKeypoints(root / "truth.json", root)


def test_files_without_a_person_are_named(root: Path) -> None:
    edit(root / "found.json", lambda content: [box.update(category_id=0) for box in content])
    found = [str(problem) for problem in check_coco(root / "truth.json", root, root / "found.json")]
    assert any("must have a person: none of its 6 detections is one (`category_id` 1)" in line for line in found)
    edit(root / "truth.json", lambda content: [a.pop("keypoints") for a in content["annotations"]])
    found = [str(problem) for problem in check_coco(root / "truth.json", root)]
    assert any("must have a person with a labeled joint: none of its 7 annotations" in line for line in found)
