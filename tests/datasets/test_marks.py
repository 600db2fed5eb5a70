"""Keypoints between the points of a cloud, and the marks of several raters."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch_geometric.data import Batch

from pcsa.datasets.custom import LabeledCloud, check_labeled, write_labeled
from pcsa.datasets.keypointnet import KeypointCategories, KeypointNet, check_root
from pcsa.datasets.transforms import Augment, Normalize, denormalize, item_generator, random_mirror, take_points

NAMES = ["left", "right", "top"]
GRID = np.stack(np.meshgrid(np.arange(-2.0, 3), np.arange(4.0), np.arange(-1.0, 2)), -1).reshape(-1, 3)
PLACES = np.array([[-1.2, 1.1, 0.3], [1.3, 1.2, 0.4], [0.1, 2.8, 0.0]])
MARKS = [PLACES[[0, 0]] + [[0.1], [-0.1]], PLACES[[1]], PLACES[[2, 2, 2]]]


def opened(root: Path, category: str = "grid", **options: object) -> KeypointNet:
    items = [LabeledCloud(GRID + i, PLACES + i, NAMES, None, None, [m + i for m in MARKS]) for i in range(3)]
    items[2] = LabeledCloud(GRID, PLACES[:1], NAMES[:1])
    write_labeled(root, category, items, mirror_pairs=[("left", "right")], fractions=(1, 0, 0), snap=False, **options)  # type: ignore[arg-type]
    assert check_root(root) == []
    return KeypointNet(root, category, "train")


def test_keypoints_and_marks_are_where_they_were(tmp_path: Path) -> None:
    clouds = opened(tmp_path)
    item = clouds[1]
    assert item.keypoints.dtype == item.marks.dtype == torch.float32
    np.testing.assert_allclose(item.keypoints[0].numpy(), PLACES + 1, rtol=1e-6)
    assert item.marks.shape == (1, 3, 3, 3)
    assert item.marked[0].tolist() == [[True, True, False], [True, False, False], [True, True, True]]
    np.testing.assert_allclose(item.marks[0, 0, :2].numpy(), MARKS[0] + 1, rtol=1e-6)
    # The nearest point, as KeypointNet has it.
    assert item.pos[item.keypoint_index[0, 0]].tolist() == [0, 2, 1]
    rare = clouds[2]
    assert rare.visible[0].tolist() == [True, False, False]
    assert not rare.marked.any()
    assert (rare.keypoints[0, 1:] == 0).all()
    assert Batch.from_data_list([clouds[0], clouds[2]]).marks.shape == (2, 3, 3, 3)


def test_columns_that_are_chosen(tmp_path: Path) -> None:
    opened(tmp_path)
    item = KeypointNet(tmp_path, "grid", "train", keypoint_ids=[2, 0])[0]
    np.testing.assert_allclose(item.keypoints[0].numpy(), PLACES[[2, 0]], rtol=1e-6)
    assert item.marked[0].sum(1).tolist() == [3, 2]


def test_marks_move_with_the_cloud(tmp_path: Path) -> None:
    item = opened(tmp_path)[0]
    moved = Augment(scale=0.3, shift=0.2, rotate=30)(Normalize()(item), item_generator(0, 0, 0))
    # The mean of the marks stays the keypoint.
    np.testing.assert_allclose(moved.marks[0, 0, :2].mean(0), moved.keypoints[0, 0], atol=1e-6)
    assert (moved.marks[~moved.marked] == 0).all()
    back = Normalize()(item)
    torch.testing.assert_close(denormalize(back.marks, back.offset, back.scale)[item.marked], item.marks[item.marked])
    fewer = take_points(item, torch.tensor([0, 5, 9]))
    assert fewer.marks.shape == item.marks.shape
    # Only x = 0 has every keypoint on it, or its partner across.
    mirrored = random_mirror(item, torch.Generator().manual_seed(0), probability=1.0, tolerance=0.04)
    assert mirrored.marked[0].sum(1).tolist() == [1, 2, 3]
    np.testing.assert_allclose(mirrored.marks[0, 1, :2].numpy(), MARKS[0] * [-1, 1, 1], atol=1e-6)


def test_several_categories_have_as_many_marks_as_that_with_the_most(tmp_path: Path) -> None:
    write_labeled(tmp_path, "plain", [(GRID / 2, PLACES / 2, NAMES)], fractions=(1, 0, 0), snap=False)
    two = [LabeledCloud(GRID, PLACES, NAMES, None, None, [m[:1] for m in MARKS])]
    write_labeled(tmp_path, "two", two, fractions=(1, 0, 0), snap=False)
    parts = [opened(tmp_path, "one"), *(KeypointNet(tmp_path, name, "train") for name in ("plain", "two"))]
    several = KeypointCategories(parts)
    np.testing.assert_allclose(several[0].keypoints[0, :3].numpy(), PLACES, rtol=1e-6)
    first, plain, last = (several[i] for i in (0, len(parts[0]), len(several) - 1))
    assert first.marked[0].sum(1).tolist() == [2, 1, 3, 0, 0, 0, 0, 0, 0]
    assert not plain.marked.any()
    assert last.marked[0].sum(1).tolist() == [0, 0, 0, 0, 0, 0, 1, 1, 1]
    np.testing.assert_allclose(last.marks[0, 6, 0].numpy(), MARKS[0][0], rtol=1e-6)
    np.testing.assert_allclose(first.marks[0, 0, :2].numpy(), MARKS[0], rtol=1e-6)
    assert Batch.from_data_list([first, plain, last]).marks.shape == (3, 9, 3, 3)
    assert "marks" not in KeypointCategories([parts[1]])[0]


def test_far_from_the_origin_nothing_is_lost(tmp_path: Path) -> None:
    far = np.array([5e5, 4.6e6, 300.0])
    write_labeled(tmp_path, "far", [(GRID / 50 + far, PLACES / 50 + far, NAMES)], snap=False)
    item = KeypointNet(tmp_path, "far", "train")[0]
    np.testing.assert_allclose(item.keypoints[0].numpy() - far, PLACES / 50, atol=1e-8)


@pytest.mark.parametrize(
    ("marks", "fault"),
    [
        ([[[0, 0, 0]]], "`marks` must be a list of places for each of the 3 keypoints"),
        ([[[0, 0, 0]], [[0, 0]], [[0, 0, 0]]], r"`marks` of 'right' [1, 2] must be finite, [M, 3]"),
        ([[[0, 0, 0]], [[0, 0, np.nan]], [[0, 0, 0]]], r"`marks` of 'right' [1, 3] must be finite, [M, 3]"),
        ([[["x"]], [[0, 0, 0]], [[0, 0, 0]]], "`marks` of 'left' must be an array of numbers (dtype <U1)"),
    ],
)
def test_broken_marks(marks: list, fault: str) -> None:
    found = check_labeled([LabeledCloud(GRID, GRID[:3], NAMES, None, None, marks)])
    assert found == [f"item 0 ('000000'): {fault}"]


def test_broken_places_in_the_file(tmp_path: Path) -> None:
    opened(tmp_path)
    path = tmp_path / "annotations" / "grid.json"
    text = path.read_text()
    for old, new, message in (
        ('"target": [', '"target": [NaN, ', r"keypoint 0: `target` \(=\[NaN, .* must be three finite numbers"),
        ('"marks": [[', '"marks": [[1, ', r"keypoint 0: `marks` \(=\[1, .* must be three finite numbers"),
        ('"marks": [[', '"marks": 3, "x": [[', r"`marks` \(=3\) must be a list"),
    ):
        path.write_text(text.replace(old, new, 1))
        with pytest.raises(ValueError, match=message):
            KeypointNet(tmp_path, "grid", "train")
