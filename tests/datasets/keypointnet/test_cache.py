import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pcsa.datasets.keypointnet import CLASS_IDS, KeypointNet, processed
from pcsa.datasets.pcd import read_pcd, write_pcd

BED = CLASS_IDS["bed"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache, empty."""
    monkeypatch.setenv("PCSA_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "arrays"


def reads(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    read: list[Any] = []

    def spy(path: Any) -> Any:
        read.append(path)
        return read_pcd(path)

    monkeypatch.setattr(processed, "read_pcd", spy)
    return read


def names(folder: Path) -> list[str]:
    return sorted(path.name.partition("-")[0] for path in folder.glob("*.npz"))


def test_cache_is_used_and_gives_the_same(root: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sorted(path for path in root.rglob("*"))
    read = reads(monkeypatch)
    first = KeypointNet(root, "bed", "train")
    assert len(read) == 3
    assert names(folder) == ["bed"]
    second = KeypointNet(root, "bed", "val")
    assert len(read) == 3
    assert second.semantic_ids == first.semantic_ids
    third = KeypointNet(root, "bed", "train")
    for a, b in zip(first, third, strict=True):
        assert all(torch.equal(value, b[key]) for key, value in a.to_dict().items() if key != "model_id")
    # Nothing was written where the data lies.
    assert sorted(path for path in root.rglob("*")) == before


def test_a_processed_folder_of_the_root_is_not_trusted(root: Path) -> None:
    (root / "processed").mkdir()
    (root / "processed" / "bed.npz").write_bytes(b"something else")
    assert len(KeypointNet(root, "bed", "train")) == 2
    assert (root / "processed" / "bed.npz").read_bytes() == b"something else"


@pytest.mark.parametrize("what", ["cloud", "same size", "same time", "new cloud", "removed", "annotation"])
def test_cache_is_rebuilt_when_files_change(root: Path, what: str, points_of: Callable, edit: Callable) -> None:
    KeypointNet(root, "bed", "train")
    cloud = root / "pcds" / BED / "aa.pcd"
    if what == "cloud":
        points = points_of("aa")
        points[7] += 0.5
        write_pcd(cloud, points)
        np.testing.assert_array_equal(KeypointNet(root, "bed", "train")[0].pos.numpy(), points)
    elif what in ("same size", "same time"):
        stat = cloud.stat()
        cloud.write_text(cloud.read_text().removesuffix("\n")[:-1] + "0\n")
        assert cloud.stat().st_size == stat.st_size
        os.utime(cloud, ns=(1, 1) if what == "same size" else (stat.st_atime_ns, stat.st_mtime_ns))
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


def test_damaged_cache_is_rebuilt(
    root: Path, folder: Path, caplog: pytest.LogCaptureFixture, points_of: Callable
) -> None:
    KeypointNet(root, "bed", "train")
    (path,) = folder.glob("*.npz")
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


def test_cache_in_another_folder(root: Path, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = reads(monkeypatch)
    KeypointNet(root, "bed", "train", cache_dir=tmp_path / "other")
    assert names(tmp_path / "other") == ["bed"]
    assert not folder.exists()
    KeypointNet(root, "bed", "train", cache_dir=str(tmp_path / "other"))
    assert len(read) == 3


def test_the_same_data_at_two_places_share_a_file(
    root: Path, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, edit: Callable
) -> None:
    read = reads(monkeypatch)
    first = KeypointNet(root, "bed", "train")
    shutil.copytree(root, tmp_path / "copy")
    second = KeypointNet(tmp_path / "copy", "bed", "train")
    assert len(read) == 3
    assert torch.equal(first[0].pos, second[0].pos)
    edit(tmp_path / "copy", lambda records: records[1]["keypoints"][0].update(semantic_id=4))
    assert KeypointNet(tmp_path / "copy", "bed", "train").semantic_ids == (2, 4, 5, 9)
    assert KeypointNet(root, "bed", "train").semantic_ids == (2, 5, 9)
    assert names(folder) == ["bed", "bed"]


def test_read_only_root(root: Path, folder: Path) -> None:
    root.chmod(0o555)
    KeypointNet(root, "bed", "train")
    root.chmod(0o755)
    assert names(folder) == ["bed"]


def test_no_place_for_a_cache(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "home").write_text("")
    monkeypatch.setenv("PCSA_CACHE_DIR", str(tmp_path / "home"))
    assert len(KeypointNet(root, "bed", "train")) == 2
    assert "cannot be written" in caplog.text


def test_built_by_several_at_once(root: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = reads(monkeypatch)
    with ThreadPoolExecutor(4) as pool:
        datasets = list(pool.map(lambda _: KeypointNet(root, "bed", "val"), range(12)))
    assert all(torch.equal(d[0].pos, datasets[0][0].pos) for d in datasets)
    assert names(folder) == ["bed"]
    assert len(read) == 3
