"""Clouds that stand on another axis than y: the same shapes, with their axes exchanged, are varied alike."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch_geometric.data import Batch

from pcsa.datasets.custom import write_labeled
from pcsa.datasets.keypointnet import KeypointCategories, KeypointNet, check_root
from pcsa.datasets.mirrors import category_mirrors
from pcsa.datasets.transforms import Augment, item_generator, rotate_up
from pcsa.tasks.common.categories import KeypointLabels
from pcsa.tasks.supervised import TASK, SupervisedConfig, SupervisedData

NAMES = ["left", "right", "top"]
# Takes y up to z up and x up, by turns of the axes: right hands stay right.
TURNED = {"y": [0, 1, 2], "z": [2, 0, 1], "x": [1, 2, 0], "none": [0, 1, 2]}


def boxes(up: str) -> list[tuple]:
    """Clouds whose mirror plane is x = 0 where y is up."""
    items = []
    for seed in range(8):
        points = np.random.default_rng(seed).normal(size=(40, 3)) * (1, 2, 0.5)
        points = np.concatenate([points, points * (-1, 1, 1)])
        points[[0, 40, 1]] = [1.5, 0.1, 1.0], [-1.5, 0.1, 1.0], [0, 5, 0]
        points[41] = [0, 5, 0.01]
        points = points[:, TURNED[up]]
        items.append((points, points[[0, 40, 1]], NAMES))
    return items


def opened(tmp_path: Path, up: str) -> KeypointNet:
    write_labeled(tmp_path / up, "box", boxes(up), mirror_pairs=[("left", "right")], up=up)
    assert check_root(tmp_path / up) == []
    return KeypointNet(tmp_path / up, "box", "train")


def test_where_y_is_up_nothing_is_written_or_said(tmp_path: Path) -> None:
    clouds = opened(tmp_path, "y")
    assert clouds.up == "y"
    assert "up" not in clouds[0]
    assert '"up"' not in (tmp_path / "y" / "annotations" / "box.json").read_text()


@pytest.mark.parametrize("up", ["x", "z"])
def test_turned_axes_turn_every_variation(tmp_path: Path, up: str) -> None:
    reference, clouds = opened(tmp_path, "y"), opened(tmp_path, up)
    assert clouds.up == up
    augment = Augment(mirror=0.5, rotate=180, jitter=0)
    mirrored = 0
    for i in range(len(clouds)):
        expected = augment(reference[i], item_generator(0, 0, i))
        found = augment(clouds[i], item_generator(0, 0, i))
        torch.testing.assert_close(found.pos, expected.pos[:, TURNED[up]])
        torch.testing.assert_close(found.keypoints, expected.keypoints[..., TURNED[up]])
        mirrored += int(bool((found.keypoint_index != clouds[i].keypoint_index).any()))
    assert 0 < mirrored < len(clouds)
    axis = TURNED[up].index(0)
    assert category_mirrors(clouds, 3) == {axis: (1, 0, 2)}
    labels = KeypointLabels.of(clouds, category_mirrors(clouds, 3))
    assert labels.up == up
    assert [labels.mirror_x, labels.mirror_y, labels.mirror_z][axis] == (1, 0, 2)
    assert Batch.from_data_list([clouds[0], clouds[1]]).up.tolist() == ["xyz".index(up)] * 2


def test_without_an_axis_that_points_up_all_planes_count_and_no_turn(tmp_path: Path) -> None:
    clouds = opened(tmp_path, "none")
    assert clouds[0].up == -1
    assert category_mirrors(clouds, 3) == {0: (1, 0, 2)}
    with pytest.raises(ValueError, match="no axis of the cloud points up"):
        rotate_up(clouds[0], 0.1)
    config = SupervisedConfig(data=SupervisedData(root=tmp_path / "none", category="box", augment=Augment(rotate=5)))
    with pytest.raises(ValueError, match=r"`data.augment.rotate` \(=5\) must be 0 for clouds whose `up` is 'none'"):
        TASK.training(config)


def test_categories_of_one_network_stand_alike(tmp_path: Path) -> None:
    for category, up in (("one", "y"), ("two", "z"), ("three", "z")):
        write_labeled(tmp_path, category, boxes(up), up=up, groups=range(8))
    parts = {name: KeypointNet(tmp_path, name, "train") for name in ("one", "two", "three")}
    with pytest.raises(ValueError, match="one axis that points up: one y, two z"):
        KeypointCategories([parts["one"], parts["two"]])
    both = KeypointCategories([parts["two"], parts["three"]])
    assert both.up == "z"
    assert both[0].up == 2


def test_annotations_that_disagree_are_refused(tmp_path: Path) -> None:
    opened(tmp_path, "z")
    path = tmp_path / "z" / "annotations" / "box.json"
    text = path.read_text()
    path.write_text(text.replace('"up": "z"', '"up": "x"', 1))
    with pytest.raises(ValueError, match="more than one axis that points `up`: x, z"):
        KeypointNet(tmp_path / "z", "box", "train")
    path.write_text(text.replace('"up": "z"', '"up": 2', 1))
    with pytest.raises(ValueError, match=r"`up` \(=2\) must be one of x, y, z, none"):
        KeypointNet(tmp_path / "z", "box", "train")
