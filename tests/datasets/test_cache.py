import multiprocessing
import os
import time
from pathlib import Path

import numpy as np
import pytest

from pcsa.datasets import cache
from pcsa.datasets.cache import cache_entries, cache_folder, clear_cache, contents_key, kept, locked


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PCSA_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def ones():
    return {"a": np.ones(3)}


def test_the_folder_is_where_the_environment_says(tmp_path, monkeypatch):
    assert cache_folder() == tmp_path / "cache"
    monkeypatch.delenv("PCSA_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "pcsa"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda *_, **__: str(tmp_path / "platform"))
    assert cache_folder() == tmp_path / "platform"


def test_kept_arrays_are_made_once(folder):
    assert kept(None, "x", ones)["a"].tolist() == [1, 1, 1]
    assert kept(None, "x", lambda: pytest.fail("made again"))["a"].tolist() == [1, 1, 1]
    assert [path.name for path in (folder / "arrays").glob("*.npz")] == ["x.npz"]


def test_a_folder_that_cannot_be_written_is_said(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    assert kept(tmp_path / "file" / "sub", "x", ones)["a"].tolist() == [1, 1, 1]
    assert "cannot be written" in caplog.text


def test_what_fails_leaves_nothing(folder):
    def fails():
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        kept(None, "x", fails)
    assert not [path for path in (folder / "arrays").iterdir() if not path.name.endswith(".lock")]


def _make(folder, made):
    def slowly():
        with made.open("a") as file:
            file.write("x")
        time.sleep(0.3)
        return ones()

    assert kept(folder, "x", slowly)["a"].tolist() == [1, 1, 1]


def test_of_several_processes_one_makes_it(tmp_path):
    context = multiprocessing.get_context("fork")
    made = tmp_path / "made"
    processes = [context.Process(target=_make, args=(tmp_path / "kept", made)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert made.read_text() == "x"
    with locked(tmp_path / "kept" / "x.npz"):  # nobody holds it any more
        pass


def test_a_key_is_that_of_the_contents(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("same")
    first, second = (contents_key(1, {"file": tmp_path / name / "file"}, None) for name in ("one", "two"))
    assert first == second
    assert contents_key(2, {"file": tmp_path / "one" / "file"}, None) != first
    assert contents_key(1, {"other": tmp_path / "one" / "file"}, None) != first


@pytest.mark.parametrize("settled", [False, True])
def test_a_change_of_the_same_size_and_time_is_seen(tmp_path, monkeypatch, settled):
    if settled:
        monkeypatch.setattr(cache, "_SETTLED", -60.0)
    path = tmp_path / "file"
    path.write_text("before")
    first, stat = contents_key(1, {"file": path}, None), path.stat()
    time.sleep(0.05)  # the clock of the file system ticks
    path.write_text("after!")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert path.stat().st_size == stat.st_size
    assert contents_key(1, {"file": path}, None) != first


def test_files_that_stay_are_not_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "_SETTLED", -60.0)
    path = tmp_path / "file"
    path.write_text("text")
    first = contents_key(1, {"file": path}, None)
    monkeypatch.setattr("builtins.open", lambda *_, **__: pytest.fail("read again"))
    assert contents_key(1, {"file": path}, None) == first


def test_clearing_deletes_what_is_ours_and_nothing_else(folder):
    kept(None, "large", lambda: {"a": np.ones(1000)})
    kept(None, "small", ones)
    (folder / "procedural" / "x-mug-3-0").mkdir(parents=True)
    (folder / "procedural" / "x-mug-3-0" / "file").write_text("x" * 3000)
    (folder / "0123456789abcdef").mkdir()
    (folder / "0123456789abcdef" / "bed.npz").write_bytes(b"1")
    (folder / "mine.txt").write_text("mine")
    (folder / "0123456789abcdef.txt").write_text("mine")
    assert [(entry.path.name, entry.size >= 3000) for entry in cache_entries()] == [
        ("large.npz", True),
        ("x-mug-3-0", True),
        ("small.npz", False),
        ("0123456789abcdef", False),
    ]
    assert clear_cache() > 11_000
    assert sorted(path.name for path in folder.iterdir()) == ["0123456789abcdef.txt", "mine.txt"]
    assert cache_entries() == []
    assert clear_cache() == 0


def test_an_absent_cache_is_empty():
    assert cache_entries() == []
    assert clear_cache() == 0
    assert isinstance(cache_folder(), Path)
