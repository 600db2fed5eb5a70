import logging
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader

from pcsa.datasets.keypointnet import CLASS_IDS, KeypointNet, check_root, rotation_groups
from pcsa.datasets.pcd import read_pcd, write_pcd

BED = CLASS_IDS["bed"]


def test_items(root: Path, points_of: Callable) -> None:
    dataset = KeypointNet(root, "bed", "train")
    assert dataset.semantic_ids == (2, 5, 9)
    assert dataset.names == ("2", "5", "9")
    assert dataset.class_id == BED
    assert repr(dataset) == "KeypointNet(bed, train, 2 clouds, 3 keypoints)"
    first, second = dataset
    np.testing.assert_array_equal(first.pos.numpy(), points_of("aa"))
    assert first.color[:, 0].tolist() == list(range(len(first.pos)))
    assert (second.color == 255).all()
    assert (first.model_id, second.model_id) == ("aa", "bb")
    assert first.keypoint_index.tolist() == [[1, 0, 4]]
    assert first.visible.tolist() == [[True, True, True]]
    np.testing.assert_array_equal(first.keypoints[0].numpy(), points_of("aa")[[1, 0, 4]])
    assert second.keypoint_index.tolist() == [[-1, 3, -1]]
    assert second.visible.tolist() == [[False, True, False]]
    assert (second.keypoints[0, [0, 2]] == 0).all()


def test_symmetries_are_columns(root: Path) -> None:
    dataset = KeypointNet(root, "bed", "train")
    # Places 0, 1, 2 of the list are columns 2, 0, 1.
    assert dataset.symmetry(0).rotation == [([2, 0], False), ([1], True)]
    assert dataset.symmetry(0).reflection == [(2, 0), (1, 2)]
    assert dataset.symmetry(1) == ([], [])
    data = dataset[0]
    assert data.reflection.shape == (1, 2, 2)
    assert rotation_groups(data.rotation[0], data.is_circle[0]) == dataset.symmetry(0).rotation


def test_batches(root: Path) -> None:
    dataset = KeypointNet(root, "bed", "all")
    batch = next(iter(DataLoader(dataset, batch_size=3)))
    assert batch.keypoints.shape == (3, 3, 3)
    assert batch.keypoint_index.tolist() == [[1, 0, 4], [-1, 3, -1], [0, -1, 9]]
    assert batch.reflection.shape == (3, 2, 2)
    assert batch.rotation.shape == (3, 2, 2)
    assert batch.model_id == ["aa", "bb", "cc"]
    rows = batch.keypoint_index + batch.ptr[:-1, None]
    assert torch.equal(batch.pos[rows[batch.visible]], batch.keypoints[batch.visible])
    for i, data in enumerate(dataset):
        assert torch.equal(batch[i].keypoint_index, data.keypoint_index)


def test_items_do_not_share_memory_with_the_dataset(root: Path) -> None:
    def spoil(data: Data) -> Data:
        for value in (data.pos, data.color, data.keypoint_index, data.reflection, data.rotation):
            value.zero_()
        return data

    dataset = KeypointNet(root, "bed", "train")
    before = dataset[0]
    dataset.transform = spoil
    assert (dataset[0].pos == 0).all()
    dataset.transform = None
    for key in ("pos", "color", "keypoint_index", "reflection", "rotation"):
        assert torch.equal(dataset[0][key], before[key])


def test_missing_clouds_are_counted(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        dataset = KeypointNet(root, "bed", "train")
    assert dataset.missing == ["ee"]
    assert "1 of the 3 bed clouds" in caplog.text
    assert KeypointNet(root, "bed", "val", strict=True).missing == []
    assert KeypointNet(root, "bed", "all").missing == ["ee", "dd"]
    with pytest.raises(FileNotFoundError, match=r"1 of the 3 .*: ee"):
        KeypointNet(root, "bed", "train", strict=True)
    with pytest.raises(FileNotFoundError, match="1 of the 1"):  # none left
        KeypointNet(root, "bed", "test")
    (root / "splits" / "test.txt").write_text("")
    with pytest.raises(FileNotFoundError, match="split 'test' names no cloud of bed"):
        KeypointNet(root, "bed", "test")
    (root / "splits" / "test.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"test\.txt"):
        KeypointNet(root, "bed", "test")
    assert len(KeypointNet(root, "bed", "all")) == 3


def test_keypoint_ids(root: Path) -> None:
    dataset = KeypointNet(root, "bed", "train", keypoint_ids=[9, 2])
    assert dataset.num_keypoints == 2
    assert dataset[0].keypoint_index.tolist() == [[4, 1]]
    assert dataset[1].visible.tolist() == [[False, False]]
    # The pair and the group with id 5 are gone; the others are counted in the new columns.
    assert dataset.symmetry(0) == ([([0, 1], False)], [(0, 1)])
    for ids in ([2, 3], [], [2, 2], range(4)):
        with pytest.raises(ValueError, match=r"`keypoint_ids`.*\[2, 5, 9\]"):
            KeypointNet(root, "bed", "train", keypoint_ids=ids)


def test_unknown_names_and_empty_folders(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`category` .*airplane.*vessel"):
        KeypointNet(root, "sofa", "train")
    with pytest.raises(ValueError, match="`split`"):
        KeypointNet(root, "bed", "training")
    with pytest.raises(FileNotFoundError, match=r"chair\.json"):
        KeypointNet(root, "chair", "train")
    with pytest.raises(FileNotFoundError, match="absent"):
        KeypointNet(tmp_path / "absent", "bed", "train")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"bed\.json"):
        KeypointNet(tmp_path / "empty", "bed", "train")
    for path in (root / "pcds" / BED).iterdir():
        path.unlink()
    with pytest.raises(FileNotFoundError, match="3 of the 3"):
        KeypointNet(root, "bed", "train")


def test_binary_clouds_give_the_same(root: Path) -> None:
    before = KeypointNet(root, "bed", "train")[0]
    path = root / "pcds" / BED / "aa.pcd"
    cloud = read_pcd(path)
    write_pcd(path, cloud.points, cloud.colors, binary=True)
    after = KeypointNet(root, "bed", "train")[0]
    assert torch.equal(before.pos, after.pos)
    assert torch.equal(before.color, after.color)


def set_index(records: list, value: int) -> None:
    records[0]["keypoints"][0]["pcd_info"]["point_index"] = value


def move_xyz(records: list, by: float) -> None:
    records[0]["keypoints"][0]["xyz"][1] += by


FAULTS: list[tuple[Callable[[list], None], str]] = [
    (lambda r: set_index(r, 10**6), "model aa: `point_index` 1000000 of keypoint 9 is out of range"),
    (lambda r: set_index(r, -1), "model aa: `point_index` -1"),
    (lambda r: set_index(r, 5), "model aa: `xyz` of keypoint 9"),
    (lambda r: move_xyz(r, 1e-3), "model aa: `xyz`"),
    (lambda r: move_xyz(r, math.nan), "model aa: `xyz`"),
    (lambda r: r[0]["keypoints"][0].update(semantic_id=5), "model aa: semantic id 5 occurs 2 times"),
    (lambda r: r[0]["symmetries"]["reflection"][0].update(kp_indexes=[0, 3]), "model aa: `kp_indexes`"),
    (lambda r: r[1].pop("keypoints"), r"record 1 \(model bb\): `keypoints` is missing"),
    (lambda r: r[1]["keypoints"][0].update(xyz=[1, 2]), "record 1"),
    (lambda r: r.append(r[0]), "model aa is annotated more than once"),
    (lambda r: r[1].update(class_id="1"), "more than one class id"),
    (lambda r: [x.update(keypoints=[], symmetries={}) for x in r], "no keypoint"),
    (lambda r: r.clear(), "at least one"),
]


@pytest.mark.parametrize(("change", "message"), FAULTS)
def test_broken_annotations(root: Path, change: Callable[[list], None], message: str, edit: Callable) -> None:
    edit(root, change)
    with pytest.raises(ValueError, match=message) as error:
        KeypointNet(root, "bed", "train")
    assert "bed.json" in str(error.value)
    problems = [str(problem) for problem in check_root(root)]
    assert any(message.split(":")[-1].split(".*")[0].strip() in problem for problem in problems)


def test_rounding_of_xyz_passes(root: Path, edit: Callable) -> None:
    edit(root, lambda records: move_xyz(records, 5e-7))
    assert len(KeypointNet(root, "bed", "train")) == 2


def test_broken_files(root: Path) -> None:
    path = root / "pcds" / BED / "aa.pcd"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"aa\.pcd"):
        KeypointNet(root, "bed", "train")
    write_pcd(path, np.zeros((0, 3)))
    with pytest.raises(ValueError, match="model aa: the cloud has no points"):
        KeypointNet(root, "bed", "train")
    (root / "annotations" / "bed.json").write_text("[{")
    with pytest.raises(ValueError, match=r"bed\.json.*JSON"):
        KeypointNet(root, "bed", "train")


def test_keypoint_ids_are_whole_numbers(root: Path) -> None:
    assert KeypointNet(root, "bed", "train", keypoint_ids=np.array([9, 2])).semantic_ids == (9, 2)
    assert KeypointNet(root, "bed", "train", keypoint_ids=torch.tensor([5])).semantic_ids == (5,)
    for ids in ([2.0, 5.5], ["2"], np.array([2.5])):
        with pytest.raises(ValueError, match=r"`keypoint_ids` .* must be whole numbers"):
            KeypointNet(root, "bed", "train", keypoint_ids=ids)
