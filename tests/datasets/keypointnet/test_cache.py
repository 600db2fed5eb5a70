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


def reads(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    read: list[Any] = []

    def spy(path: Any) -> Any:
        read.append(path)
        return read_pcd(path)

    monkeypatch.setattr(processed, "read_pcd", spy)
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
def test_cache_is_rebuilt_when_files_change(root: Path, what: str, points_of: Callable, edit: Callable) -> None:
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


def test_damaged_cache_is_rebuilt(root: Path, caplog: pytest.LogCaptureFixture, points_of: Callable) -> None:
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
