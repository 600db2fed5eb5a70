import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pcsa.datasets.keypointnet import (
    CLASS_IDS,
    KeypointNet,
    check_root,
    rotated_labelings,
)

BED = CLASS_IDS["bed"]


@pytest.fixture(scope="module")
def real(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], KeypointNet]:
    cache = tmp_path_factory.mktemp("cache")
    return lambda category, split: KeypointNet(real_data / "keypointnet", category, split, cache_dir=cache)


@pytest.mark.parametrize(
    ("category", "train", "val", "total", "columns", "missing"),
    [
        ("bathtub", 344, 49, 393, 24, 99),
        ("bed", 102, 14, 116, 20, 30),
        ("airplane", 11, None, 11, 16, 715 - 11 + 102 + 205),
        ("chair", 1, None, 1, 10, 699 - 1 + 100 + 200),
    ],
)
def test_real_counts_and_points(
    real: Callable, category: str, train: int, val: int | None, total: int, columns: int, missing: int
) -> None:
    assert len(real(category, "train")) == train
    if val is None:
        with pytest.raises(FileNotFoundError):
            real(category, "val")
    else:
        assert len(real(category, "val")) == val
    dataset = real(category, "all")
    assert len(dataset) == total
    assert len(dataset.missing) == missing
    assert dataset.num_keypoints == columns
    records = {r["model_id"]: r for r in json.loads((dataset.root / f"annotations/{category}.json").read_text())}
    for data in dataset:
        assert data.pos.shape == (2048, 3)
        place = {semantic_id: column for column, semantic_id in enumerate(dataset.semantic_ids)}
        keypoints = records[data.model_id]["keypoints"]
        assert data.visible.sum() == len(keypoints)
        chosen = [place[k["semantic_id"]] for k in keypoints]
        assert data.keypoint_index[0, chosen].tolist() == [k["pcd_info"]["point_index"] for k in keypoints]
        xyz = torch.tensor([k["xyz"] for k in keypoints])
        torch.testing.assert_close(data.keypoints[0, chosen], xyz, rtol=0, atol=1e-6)


def test_real_colors(real: Callable) -> None:
    dataset = real("bed", "train")
    records = {r["model_id"]: r for r in json.loads((dataset.root / "annotations/bed.json").read_text())}
    annotated, read = [], []
    for data in dataset:
        for k in records[data.model_id]["keypoints"]:
            annotated.append(k["rgb"])
            read.append(data.color[k["pcd_info"]["point_index"]].tolist())
    # The annotations repeat the point's color exactly, in the one right order of channels.
    assert annotated == read
    assert annotated != [color[::-1] for color in read]


def test_real_symmetries(real: Callable) -> None:
    rotating, unpaired, several = {}, {}, {}
    for category in ("bathtub", "bed"):
        dataset = real(category, "all")
        symmetries = [dataset.symmetry(i) for i in range(len(dataset))]
        rotating[category] = sum(bool(s.rotation) for s in symmetries)
        unpaired[category] = sum(not s.reflection for s in symmetries)
        counts = [torch.tensor(s.reflection).flatten().bincount() for s in symmetries if s.reflection]
        several[category] = sum(bool((c > 1).any()) for c in counts)
        for i, symmetry in enumerate(symmetries):
            columns = [c for group, _ in symmetry.rotation for c in group]
            columns += [c for pair in symmetry.reflection for c in pair]
            assert dataset[i].visible[0, columns].all()
    assert rotating == {"bathtub": 184, "bed": 10}
    assert unpaired == {"bathtub": 34, "bed": 46}
    assert several["bathtub"] == 184


def test_real_rotations_exchange_the_groups(real: Callable) -> None:
    dataset = real("bathtub", "train")
    gaps = []
    for i in range(len(dataset)):
        groups = dataset.symmetry(i).rotation
        if groups and not groups[0][1]:
            data = dataset[i]
            labelings, index = rotated_labelings(data.pos, data.keypoints[0], data.visible[0], groups)
            assert len(labelings) == len(groups[0][0])
            assert torch.equal(labelings[0], data.keypoints[0])
            assert torch.equal(labelings[0][data.visible[0]], data.pos[index[0, data.visible[0]]])
            turned = labelings[1][groups[0][0]]
            gaps.append(torch.cdist(turned, data.keypoints[0, groups[0][0]]).amin(1).mean())
    # A turn takes the keypoints of a group onto one another, to within a few spacings of the points.
    assert torch.stack(gaps).median() < 0.03


def test_real_check(real: Callable) -> None:
    problems = check_root(real("bed", "train").root)
    # Nothing but the clouds that the folder leaves out.
    assert {problem.path for problem in problems} == {f"splits/{s}.txt" for s in ("train", "val", "test")}
    assert all("named and not there" in problem.message for problem in problems)
