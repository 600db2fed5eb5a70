"""Processes that end together, without a training: the ways in which one of them is lost."""

import os
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from pcsa.tasks.common import together
from pcsa.tasks.common.together import LostProcessError, ending_together

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
BROKEN = RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer")


@pytest.fixture
def started():
    """A trainer that has started one other process."""
    other = subprocess.Popen(SLEEP)
    launcher = SimpleNamespace(procs=[other], num_processes=2)
    yield SimpleNamespace(world_size=2, local_rank=0, strategy=SimpleNamespace(launcher=launcher))
    other.kill()
    other.wait()


def test_one_process_has_nobody_to_end_with(tmp_path):
    threads = threading.active_count()
    with ending_together(SimpleNamespace(world_size=1), tmp_path):
        assert threading.active_count() == threads


def test_a_lost_process_is_named(started, tmp_path):
    (tmp_path / "last.ckpt").touch()
    said = r"process 1 of 2 was ended by SIGKILL: .* `.*last\.ckpt` stays as it was, set `resume`"
    started.strategy.launcher.procs[0].kill()
    with pytest.raises(LostProcessError, match=said) as lost, ending_together(started, tmp_path / "last.ckpt"):
        raise BROKEN
    assert lost.value.__cause__ is BROKEN
    assert isinstance(lost.value, OSError)  # the command makes one line of it


def test_what_fails_here_ends_the_others_and_stays_what_it_is(started, tmp_path, monkeypatch):
    monkeypatch.setattr(together, "_GRACE_OF_OTHERS", 0.3)
    other = started.strategy.launcher.procs[0]
    with pytest.raises(SystemExit), ending_together(started, tmp_path):
        raise SystemExit(143)
    assert other.wait(10) == -signal.SIGKILL
    # So does an exchange that broke off for another reason than a lost process.
    monkeypatch.setattr(together, "_PATIENCE", 0.3)
    started.strategy.launcher.procs[0] = subprocess.Popen(SLEEP)
    with pytest.raises(RuntimeError, match="gloo"), ending_together(started, tmp_path):
        raise BROKEN
    assert started.strategy.launcher.procs[0].wait(10) == -signal.SIGKILL


def test_lightnings_own_watch_sees_an_empty_list(started, tmp_path):
    seen = started.strategy.launcher.procs
    end = time.monotonic() + 10
    with ending_together(started, tmp_path):
        while seen:
            assert time.monotonic() < end
            time.sleep(0.05)
        assert len(started.strategy.launcher.procs) == 1


HUNG = """
import os, subprocess, sys, time
from pathlib import Path
from types import SimpleNamespace
from pcsa.tasks.common import together
together._GRACE = 0.5
other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(%s)"])
launcher = SimpleNamespace(procs=[other], num_processes=2)
trainer = SimpleNamespace(world_size=2, local_rank=%d, strategy=SimpleNamespace(launcher=launcher))
with together.ending_together(trainer, Path("none")):
    print(os.getpid(), flush=True)
    other.%s()
    time.sleep(60)
"""


def test_one_that_waits_for_a_lost_process_is_ended(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", HUNG % (60, 0, "terminate")], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert done.stderr == (
        "pcsa: process 1 of 2 was ended by SIGTERM: the training cannot go on without it; nothing is kept\n"
    )


def test_one_whose_first_process_is_lost_is_ended():
    # What starts it is gone as soon as it waits.
    script = f"""import subprocess, sys
waiting = subprocess.Popen([sys.executable, "-c", {HUNG % (0, 1, "wait")!r}], stdout=subprocess.PIPE, text=True)
print(waiting.stdout.readline())"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    # Whoever holds the pipes has closed them.
    assert "pcsa: process 0, which started this one, is gone" in done.stderr
    pid = int(done.stdout)
    end = time.monotonic() + 30
    while os.path.exists(f"/proc/{pid}"):
        assert time.monotonic() < end
        time.sleep(0.1)
