import json
import logging
import math
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader

from pcsa.datasets import keypointnet
from pcsa.datasets.keypointnet import (
    CLASS_IDS,
    KeypointNet,
    check_root,
    download,
    rotated_labelings,
    rotation_groups,
)
from pcsa.datasets.pcd import read_pcd, write_pcd

BED = CLASS_IDS["bed"]
MODELS = ("aa", "bb", "cc", "dd")


def points_of(model_id: str) -> np.ndarray:
    seed = sum(map(ord, model_id))
    return np.random.default_rng(seed).random((seed % 7 + 10, 3)).astype(np.float32)


def record(model_id: str, keypoints: dict[int, int], rotation: list, reflection: list) -> dict[str, Any]:
    points = points_of(model_id)
    return {
        "class_id": BED,
        "model_id": model_id,
        "keypoints": [
            {"xyz": points[i].tolist(), "rgb": [1, 2, 3], "semantic_id": k, "pcd_info": {"point_index": i}}
            for k, i in keypoints.items()
        ],
        "symmetries": {
            "reflection": [{"kp_indexes": pair} for pair in reflection],
            "rotation": [{"kp_indexes": g, "is_circle": c, "circle": {}} for g, c in rotation],
        },
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Beds with semantic ids 2, 5, 9; `dd` is annotated and has no cloud, `ee` is named and nowhere."""
    root = tmp_path / "root"
    for folder in ("annotations", f"pcds/{BED}", "splits"):
        (root / folder).mkdir(parents=True)
    records = [
        # The list is in another order than the ids: its places 0, 1, 2 are the columns 2, 0, 1.
        record("aa", {9: 4, 2: 1, 5: 0}, [([0, 1], False), ([2], True)], [[0, 1], [2, 0]]),
        record("bb", {5: 3}, [], []),
        record("cc", {2: 0, 9: 9}, [([0, 1], True)], [[1, 0]]),
        record("dd", {2: 0}, [], []),
    ]
    (root / "annotations" / "bed.json").write_text(json.dumps(records))
    for model_id in MODELS[:3]:
        points = points_of(model_id)
        colors = None if model_id == "bb" else np.tile(np.arange(len(points))[:, None], 3)
        write_pcd(root / "pcds" / BED / f"{model_id}.pcd", points, colors)
    (root / "splits" / "train.txt").write_text(f"{BED}-aa\n0000-xx\n{BED}-bb\n{BED}-ee\n")
    (root / "splits" / "val.txt").write_text(f"{BED}-cc")
    (root / "splits" / "test.txt").write_text(f"{BED}-dd\n")
    return root


def edit(root: Path, change: Callable[[list[dict[str, Any]]], None]) -> None:
    path = root / "annotations" / "bed.json"
    records = json.loads(path.read_text())
    change(records)
    path.write_text(json.dumps(records))


def test_items(root: Path) -> None:
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
    (lambda r: r[1].pop("keypoints"), "record 1: .*keypoints"),
    (lambda r: r[1]["keypoints"][0].update(xyz=[1, 2]), "record 1"),
    (lambda r: r.append(r[0]), "model aa is annotated more than once"),
    (lambda r: r[1].update(class_id="1"), "more than one class id"),
    (lambda r: [x.update(keypoints=[], symmetries={}) for x in r], "no keypoint"),
    (lambda r: r.clear(), "at least one"),
]


@pytest.mark.parametrize(("change", "message"), FAULTS)
def test_broken_annotations(root: Path, change: Callable[[list], None], message: str) -> None:
    edit(root, change)
    with pytest.raises(ValueError, match=message) as error:
        KeypointNet(root, "bed", "train")
    assert "bed.json" in str(error.value)
    problems = [str(problem) for problem in check_root(root)]
    assert any(message.split(":")[-1].split(".*")[0].strip() in problem for problem in problems)


def test_rounding_of_xyz_passes(root: Path) -> None:
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


# The processed file


def reads(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    read: list[Any] = []

    def spy(path: Any) -> Any:
        read.append(path)
        return read_pcd(path)

    monkeypatch.setattr(keypointnet, "read_pcd", spy)
    return read


def test_cache_is_used_and_gives_the_same(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = reads(monkeypatch)
    first = KeypointNet(root, "bed", "train")
    assert len(read) == 3
    assert [p.name for p in (root / "processed").iterdir()] == ["bed.npz"]
    second = KeypointNet(root, "bed", "val")
    assert len(read) == 3
    assert second.semantic_ids == first.semantic_ids
    third = KeypointNet(root, "bed", "train")
    for a, b in zip(first, third, strict=True):
        assert all(torch.equal(value, b[key]) for key, value in a.to_dict().items() if key != "model_id")


@pytest.mark.parametrize("what", ["cloud", "same size", "new cloud", "removed", "annotation"])
def test_cache_is_rebuilt_when_files_change(root: Path, what: str) -> None:
    KeypointNet(root, "bed", "train")
    cloud = root / "pcds" / BED / "aa.pcd"
    if what == "cloud":
        stat = cloud.stat()
        points = points_of("aa")
        points[7] += 0.5
        write_pcd(cloud, points)
        os.utime(cloud, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
        np.testing.assert_array_equal(KeypointNet(root, "bed", "train")[0].pos.numpy(), points)
    elif what == "same size":
        size = cloud.stat().st_size
        cloud.write_text(cloud.read_text().removesuffix("\n")[:-1] + "0\n")
        assert cloud.stat().st_size == size
        os.utime(cloud, ns=(1, 1))
        assert KeypointNet(root, "bed", "train")[0].color[-1].tolist() == read_pcd(cloud).colors[-1].tolist()
    elif what == "new cloud":
        write_pcd(root / "pcds" / BED / "dd.pcd", points_of("dd"))
        assert KeypointNet(root, "bed", "test").model_ids == ["dd"]
    elif what == "removed":
        cloud.unlink()
        assert KeypointNet(root, "bed", "train").missing == ["aa", "ee"]
    else:
        edit(root, lambda records: records[1]["keypoints"][0].update(semantic_id=4))
        assert KeypointNet(root, "bed", "train").semantic_ids == (2, 4, 5, 9)


def test_damaged_cache_is_rebuilt(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    KeypointNet(root, "bed", "train")
    path = root / "processed" / "bed.npz"
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[whole.index(points_of("aa").tobytes()) + 5] ^= 1
    for content in (b"", whole[:-100], b"x" * 100, bytes(flipped)):
        path.write_bytes(content)
        caplog.clear()
        dataset = KeypointNet(root, "bed", "train")
        assert "built again" in caplog.text
        np.testing.assert_array_equal(dataset[0].pos.numpy(), points_of("aa"))
        assert path.read_bytes()[:2] == b"PK"
        caplog.clear()
        KeypointNet(root, "bed", "train")
        assert "built again" not in caplog.text


def test_cache_in_another_folder(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = reads(monkeypatch)
    KeypointNet(root, "bed", "train", cache_dir=tmp_path / "cache")
    assert not (root / "processed").exists()
    KeypointNet(root, "bed", "train", cache_dir=tmp_path / "cache")
    assert len(read) == 3


@pytest.mark.parametrize("by_mode", [False, True])
def test_read_only_root(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by_mode: bool) -> None:
    if by_mode:  # nothing is written to such a folder even by the superuser, who could
        root.chmod(0o555)
    else:  # a file where the folder would be: not writable for anyone
        (root / "processed").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    read = reads(monkeypatch)
    KeypointNet(root, "bed", "train")
    KeypointNet(root, "bed", "train")
    assert len(read) == 3
    assert len(list((tmp_path / "home" / "pcsa").glob("*/bed.npz"))) == 1
    assert not (root / "processed").is_dir()
    root.chmod(0o755)
    # Two roots do not share a file.
    shutil.copytree(root, tmp_path / "other")
    (tmp_path / "other").chmod(0o555 if by_mode else 0o755)
    KeypointNet(tmp_path / "other", "bed", "train")
    (tmp_path / "other").chmod(0o755)
    assert len(list((tmp_path / "home" / "pcsa").glob("*/bed.npz"))) == 2


def test_no_place_for_a_cache(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (root / "processed").write_text("")
    (tmp_path / "home").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    assert len(KeypointNet(root, "bed", "train")) == 2
    assert "cannot be written" in caplog.text


def test_built_by_several_at_once(root: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        datasets = list(pool.map(lambda _: KeypointNet(root, "bed", "val"), range(12)))
    assert all(torch.equal(d[0].pos, datasets[0][0].pos) for d in datasets)
    assert [p.name for p in (root / "processed").iterdir()] == ["bed.npz"]


# Rotational symmetry


def ring(n: int, center: tuple[float, float] = (1.0, -2.0), height: float = 0.5) -> torch.Tensor:
    angle = torch.arange(n) * (2 * math.pi / n)
    return torch.stack([center[0] + angle.cos(), torch.full((n,), height), center[1] + angle.sin()], 1)


def test_rotated_labelings_of_a_square() -> None:
    # Points 0..7 on a circle, keypoints on the even ones plus one in the middle; a fifth column is missing.
    pos = torch.cat([ring(8), torch.tensor([[1.0, 0.0, -2.0]])])
    keypoints = torch.cat([pos[[0, 2, 4, 6, 8]], torch.zeros(1, 3)])
    visible = torch.tensor([True] * 5 + [False])
    labelings, index = rotated_labelings(pos, keypoints, visible, [([0, 1, 2, 3], False)])
    # Every quarter turn takes 0 -> 2 -> 4 -> 6 -> 0 one way round, and the middle stays.
    turns = [tuple(row[:4].tolist()) for row in index]
    assert turns[0] == (0, 2, 4, 6)
    assert set(turns) == {(0, 2, 4, 6), (2, 4, 6, 0), (4, 6, 0, 2), (6, 0, 2, 4)}
    assert index[:, 4].tolist() == [8] * 4
    assert index[:, 5].tolist() == [-1] * 4
    assert (labelings[:, 5] == 0).all()
    assert torch.equal(labelings[:, :5], pos[index[:, :5]])


def test_number_of_rotations() -> None:
    pos = ring(72)
    keypoints, visible = pos[[0, 36]], torch.tensor([True, True])

    def count(groups: list, category: str | None = None) -> int:
        return len(rotated_labelings(pos, keypoints, visible, groups, category=category)[0])

    assert count([]) == 1
    assert count([([0, 1], False)]) == 2
    assert count([([0, 1], True)]) == 36
    assert count([([0, 1], True), ([0], False)]) == 2  # the size of the first group, as not all are circles
    assert count([([0, 1], True)], category="chair") == 1
    index = rotated_labelings(pos, keypoints, visible, [([0, 1], True)])[1]
    assert sorted(index[:, 0].tolist()) == list(range(0, 72, 2))
    assert ((index[:, 1] - index[:, 0]) % 72 == 36).all()


def test_rotated_labelings_keep_the_annotation_first() -> None:
    pos = ring(8)
    keypoints = pos[:2] + 0.01  # not cloud points, as after dropping some
    for groups in ([], [([0, 1], False)]):
        labelings, index = rotated_labelings(pos, keypoints, torch.tensor([True, True]), groups)
        assert torch.equal(labelings[0], keypoints)
        assert index[0].tolist() == [0, 1]


# Download


def test_download_asks_for_the_right_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    calls: list[tuple[tuple, dict]] = []

    def fetch(*args: Any, **kwargs: Any) -> None:
        calls.append((args, kwargs))
        shutil.copytree(root, kwargs["local_dir"])

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    download(tmp_path / "new", ["bed"], meshes=True)
    (args, kwargs) = calls[0]
    assert args == ("qq456cvb/KeypointNet",)
    assert kwargs["repo_type"] == "dataset"
    assert kwargs["allow_patterns"] == [
        "splits/*.txt",
        "annotations/bed.json",
        "pcds/02818832/*",
        "ShapeNetCore.v2.ply/02818832/*",
    ]
    assert len(KeypointNet(tmp_path / "new", "bed", "train")) == 2


def test_download_without_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("Name or service not known")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    with pytest.raises(ConnectionError, match=r"qq456cvb/KeypointNet.*Name or service.*by hand"):
        download(tmp_path, ["bed"])
    # Some versions of the client return what is there, which is nothing.
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *args, **kwargs: None)
    with pytest.raises(ConnectionError, match="did not deliver `bed`"):
        download(tmp_path, ["bed"])

    def no_space(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device", "somewhere")

    monkeypatch.setattr("huggingface_hub.snapshot_download", no_space)
    with pytest.raises(OSError, match="No space"):
        download(tmp_path, ["bed"])
    for categories in (["sofa"], []):
        with pytest.raises(ValueError, match="airplane"):
            download(tmp_path, categories)


# The check of a root


def test_check_of_a_whole_root(root: Path) -> None:
    write_pcd(root / "pcds" / BED / "dd.pcd", points_of("dd"))
    (root / "splits" / "train.txt").write_text(f"{BED}-aa\n0000-xx\n{BED}-bb\n")
    assert check_root(root) == []
    KeypointNet(root, "bed", "all", strict=True)
    assert check_root(root) == []  # the processed file is no problem


def test_check_lists_everything(root: Path, tmp_path: Path) -> None:
    edit(root, lambda records: (set_index(records, 99), records[2]["keypoints"][0].update(semantic_id=9)))
    (root / "annotations" / "cap.json").write_text("nonsense")
    write_pcd(root / "pcds" / BED / "ff.pcd", points_of("ff"))
    (root / "pcds" / "1234").mkdir()
    path = root / "pcds" / BED / "bb.pcd"
    path.write_text(path.read_text().replace(path.read_text().split("\n")[11], "0 nan 0"))
    (root / "splits" / "val.txt").write_text(f"{BED}-bb\n{BED}-bb\n")
    (root / "splits" / "test.txt").unlink()
    found = [str(problem) for problem in check_root(root)]
    expected = [
        ("annotations/bed.json", "model aa: `point_index` 99"),
        ("annotations/bed.json", "model cc: semantic id 9 occurs 2 times"),
        ("annotations/bed.json", "1 annotated clouds are not in"),
        (f"pcds/{BED}/bb.pcd", "1 points are not finite"),
        ("annotations/cap.json", "JSON"),
        (f"pcds/{BED}/ff.pcd", "without annotation"),
        ("pcds/1234", "no annotations"),
        ("splits/train.txt", "1 clouds of class"),
        ("splits/val.txt", "named 2 times"),
        ("splits/val.txt", "split 'train' too"),
        ("splits/test.txt", "missing"),
        ("splits", "1 clouds of class 02818832 are in no split"),
    ]
    for where, what in expected:
        assert sum(line.startswith(f"{where}: ") and what in line for line in found) == 1, (
            where,
            what,
            found,
        )
    assert len(found) == len(expected), found

    assert [p.message for p in check_root(tmp_path / "absent")] == ["no such folder"]
    (tmp_path / "empty").mkdir()
    assert [p.path for p in check_root(tmp_path / "empty")] == ["annotations", "pcds", "splits"]


# The real data


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], KeypointNet]:
    folder = os.environ.get("PCSA_TEST_DATA")
    if not folder:
        pytest.skip("PCSA_TEST_DATA is not set")
    cache = tmp_path_factory.mktemp("cache")
    return lambda category, split: KeypointNet(Path(folder, "keypointnet"), category, split, cache_dir=cache)


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
