"""Of two processes that would write one folder, one does."""

import os
import socket
import subprocess
import sys
from contextlib import contextmanager

import pytest

from pcsa.tasks.common.claim import claimed

HOLD = """
import sys, time
from pathlib import Path
from pcsa.tasks.common.claim import claimed
with claimed(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(1000)
"""


@contextmanager
def holder(path):
    """Another process that holds ``path``."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], env=environment, stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline() == b"held\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize("name", ["", "p.json"])
def test_a_claim_holds_until_its_process_ends(tmp_path, name):
    path = tmp_path / name
    with holder(path) as process:
        said = f"`{path}` is being written by process {process.pid} on {socket.gethostname()}: "
        with pytest.raises(FileExistsError) as refused, claimed(path):
            pass
        assert str(refused.value).startswith(said)
    # Killed, it left its lock behind, which holds no longer.
    assert len(list(tmp_path.iterdir())) == 1
    with claimed(path), pytest.raises(FileExistsError, match=f"by process {os.getpid()} on"), claimed(path):
        pass
    assert not list(tmp_path.iterdir())


def test_files_of_one_folder_are_claimed_one_by_one(tmp_path):
    with claimed(tmp_path / "a.json"), claimed(tmp_path / "b.json"), claimed(tmp_path):
        assert len(list(tmp_path.iterdir())) == 3
    assert not list(tmp_path.iterdir())


def test_a_place_that_cannot_be_written_is_no_place_that_is_held(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    message = r"p.json` cannot be written \(.*\): choose another `out`"
    with pytest.raises(OSError, match=message), claimed(tmp_path / "file" / "p.json"):
        pass
    with holder(tmp_path), monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda *_: False)
        with pytest.raises(PermissionError, match=r"cannot be written \(no permission\)"), claimed(tmp_path):
            pass
