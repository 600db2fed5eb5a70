"""Files are replaced as a whole, a full disk is named, and what dead processes leave is removed."""

import errno
import os
import signal
import subprocess
import sys
import time

import pytest

from pcsa._core import writing
from pcsa._core.writing import append, explained, remove_abandoned, replacing, scratch_folder

HOLD = """
import sys, time
from pathlib import Path
from pcsa._core.writing import replacing, scratch_folder
path = Path(sys.argv[1])
with replacing(path) as file, scratch_folder(path.parent, "some") as folder:
    file.write_bytes(b"half")
    (folder / "part").write_bytes(b"half")
    print("holds", flush=True)
    time.sleep(1000)
"""


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def writer(tmp_path):
    """Another process that is writing ``a.txt``."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "a.txt")], env=environment, stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"holds\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_what_the_dead_leave_is_removed_and_what_the_living_write_stays(tmp_path, writer):
    remove_abandoned(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    assert len(list(tmp_path.iterdir())) == 2
    # The first write into a folder looks.
    writing._remove_once.cache_clear()
    with replacing(tmp_path / "b.txt") as temporary:
        temporary.write_text("whole")
    assert [path.name for path in tmp_path.iterdir()] == ["b.txt"]


def test_what_another_machine_or_version_left_must_be_old(tmp_path):
    names = [f".a-{'0' * 32}.npz", ".embedded-ab12_x9z", f".bed-{'1' * 32}.tmp"]
    for name in names:
        (tmp_path / name).write_bytes(b"half")
    others = [".hidden", ".a-0123.npz", "a.npz", f"a-{'0' * 32}.npz"]
    for name in others:
        (tmp_path / name).write_bytes(b"somebody's")
        os.utime(tmp_path / name, (0, 0))
    remove_abandoned(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*names, *others}
    for name in names:
        os.utime(tmp_path / name, (time.time() - 90000,) * 2)
    remove_abandoned(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*others}
    remove_abandoned(tmp_path / "none")


def test_without_locks_only_age_tells(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(writing.fcntl, "flock", no_locks)
    with replacing(tmp_path / "a") as young:
        young.write_bytes(b"young")
        remove_abandoned(tmp_path)
        assert young.exists()
    monkeypatch.setattr(writing, "fcntl", None)
    with replacing(tmp_path / "b") as young, scratch_folder(tmp_path, "c"):
        young.write_bytes(b"young")
        remove_abandoned(tmp_path)
        assert len(list(tmp_path.iterdir())) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


@pytest.mark.parametrize("before", [None, "old"])
@pytest.mark.parametrize("operation", ["write", "fsync", "replace"])
def test_a_full_disk_is_one_line_that_names_the_file(tmp_path, monkeypatch, before, operation):
    path = tmp_path / "last.ckpt"
    if before is not None:
        path.write_text(before)

    def write():
        with replacing(path) as temporary, temporary.open("w") as file:
            file.write("new")
            if operation == "write":
                full()

    if operation != "write":
        monkeypatch.setattr(os, operation, full)
    kept = "what it held before is kept" if before else "nothing is left of it"
    with pytest.raises(OSError, match=kept) as error:
        write()
    assert (error.value.errno, error.value.filename) == (errno.ENOSPC, str(path))
    assert error.value.strerror == f"No space left on device; {kept}"
    assert [file.read_text() for file in tmp_path.iterdir()] == ([before] if before else [])


def test_an_error_behind_another_is_found_and_others_stay_what_they_are(tmp_path):
    def hidden():
        try:
            full()
        finally:
            raise RuntimeError("unexpected pos 64 vs 0")

    with (
        pytest.raises(OSError, match="No space left on device; nothing is left of it") as error,
        replacing(tmp_path / "a"),
    ):
        hidden()
    assert error.value.filename == str(tmp_path / "a")
    with pytest.raises(RuntimeError, match="mine"), replacing(tmp_path / "a"):
        raise RuntimeError("mine")
    # What is read meanwhile has its own name.
    with pytest.raises(FileNotFoundError) as error, replacing(tmp_path / "a"):
        (tmp_path / "other").read_text()
    assert error.value.filename == str(tmp_path / "other")
    # Said once where one write is within another.
    with (
        pytest.raises(OSError, match=r"^[^;]*; nothing is left of it[^;]*$"),
        replacing(tmp_path / "a") as outer,
        replacing(outer),
    ):
        full()
    with (
        pytest.raises(OSError, match="No space left on device; b is kept") as error,
        explained(tmp_path, "; b is kept"),
    ):
        full()
    assert error.value.filename == str(tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_is_appended_is_there_whole_or_not_at_all(tmp_path):
    import io

    class Small(io.FileIO):
        def write(self, content):
            if self.tell() >= 8:
                full()
            return super().write(bytes(content)[:3])

    path = tmp_path / "rows"
    with Small(path, "ab") as file:
        append(file, b"12345")
        with pytest.raises(OSError, match="No space left on device; what it has is kept") as error:
            append(file, b"67890")
    assert error.value.filename == str(path)
    assert path.read_bytes() == b"12345"


def test_a_scratch_folder_is_gone_unless_it_was_moved(tmp_path):
    with scratch_folder(tmp_path / "new", "some") as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "file").touch()
        (folder / "kept").mkdir()
        (folder / "kept").rename(tmp_path / "kept")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "new"]
    assert not list((tmp_path / "new").iterdir())
    with pytest.raises(ValueError, match="mine"), scratch_folder(tmp_path, "some"):
        raise ValueError("mine")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "new"]
