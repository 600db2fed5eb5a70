import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from pcsa.scripts.reproduce import workers
from pcsa.scripts.reproduce.workers import Outcome, Queue, Workers


def work(key, *needs):
    return SimpleNamespace(key=key, needs=needs)


def test_a_run_waits_for_what_it_needs():
    a, b = work("a"), work("b")
    both, one, free = work("both", a, b), work("one", a), work("free", work("made before"))
    queue = Queue([a, both, one, b, free])
    assert [queue.next(), queue.next(), queue.next(), queue.next()] == [a, b, free, None]
    queue.ended(Outcome(a, {}))
    assert [queue.next(), queue.next()] == [one, None]
    queue.ended(Outcome(b, None))
    assert [queue.next(), queue.waiting] == [both, []]


def test_what_needs_a_run_that_failed_is_given_up():
    a, b = work("a"), work("b")
    queue = Queue([a, b, work("both", b, a), work("one", b)])
    for run in (a, b):
        assert queue.next() is run
    assert list(queue.lost()) == []
    queue.ended(Outcome(a, None, "no power"))
    (lost,) = queue.lost()
    assert (lost.run.key, lost.row) == ("both", None)
    assert lost.reason.startswith("it needs what failed: ")
    queue.ended(Outcome(b, {}))
    assert queue.next().key == "one"
    assert list(queue.lost()) == []


def test_processes_share_the_accelerators_and_stay(monkeypatch, tmp_path):
    started, made = [], []

    class Fake:
        alive, log = True, None

        def __init__(self, environment):
            started.append(environment)
            self.gpu = environment["CUDA_VISIBLE_DEVICES"]

        def submit(self, job, log):
            made.append((self.gpu, job.run.key))
            return self

        def done(self):
            return True

        def nothing(self):
            return None

        result = stop = wait = nothing

    monkeypatch.setattr(workers, "Server", Fake)
    runs = [SimpleNamespace(key=str(i), needs=(), out=tmp_path) for i in range(8)]
    outcomes = list(Workers("local", 4, 1, gpus=("2", "5")).make(runs))
    assert sorted(outcome.run.key for outcome in outcomes) == [run.key for run in runs]
    assert started == [{"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": gpu} for gpu in "2525"]
    assert sorted(gpu for gpu, _ in made) == ["2"] * 4 + ["5"] * 4


class Waits:
    """Work that says which process it is in, and waits."""

    def __init__(self, file):
        self.file = file

    def __call__(self):
        Path(f"{self.file}.part").write_text(str(os.getpid()))
        Path(f"{self.file}.part").rename(self.file)
        time.sleep(600)


def runs(process):
    """Whether there is such a process, and not only what is left of it until its parent looks."""
    stat = Path(f"/proc/{process}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux")
def test_what_is_cut_off_leaves_no_process_where_interruptions_are_ignored(tmp_path, monkeypatch):
    # As they are in all that a shell starts in the background.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        monkeypatch.setattr(workers, "Job", lambda run, threads, gpu: Waits(tmp_path / "pid"))
        job = Workers("submitit", 1, 1)._submit(SimpleNamespace(out=tmp_path), 0)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    while not (tmp_path / "pid").exists():
        assert not job.done()
        time.sleep(0.1)
    process = int((tmp_path / "pid").read_text())
    job.cancel()
    job._process.wait(60)
    deadline = time.monotonic() + 60
    while runs(process):
        assert time.monotonic() < deadline, "the process lives on"
        time.sleep(0.1)
