"""Processes that stay."""

import os
import signal
import time
from functools import partial

import pytest
from torch.utils.data import DataLoader

from pcsa.scripts.reproduce.servers import Server


@pytest.fixture
def server():
    server = Server({"PCSA_SAID": "here"})
    yield server
    server.stop()
    server.wait()


def result(answer):
    deadline = time.monotonic() + 60
    while not answer.done():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return answer.result()


def test_a_process_stays_and_logs_each_call_apart(server, tmp_path):
    first, second = tmp_path / "a" / "log.txt", tmp_path / "b" / "log.txt"
    process = result(server.submit(os.getpid, first))
    assert process != os.getpid()
    assert result(server.submit(partial(os.getenv, "PCSA_SAID"), first)) == "here"
    assert result(server.submit(partial(print, "hello"), second)) is None
    assert result(server.submit(partial(os.system, "echo to all >&2"), second)) == 0
    # Longer than a pipe is.
    assert result(server.submit(partial(bytes, 1_000_000), first)) == bytes(1_000_000)
    assert result(server.submit(os.getpid, first)) == process
    assert (first.read_text(), second.read_text()) == ("", "hello\nto all\n")


def test_a_process_that_stays_may_have_processes_that_load(server, tmp_path):
    call = partial(list, DataLoader(range(4), num_workers=1, timeout=50))
    assert [int(x) for x in result(server.submit(call, tmp_path / "log.txt"))] == [0, 1, 2, 3]


def test_what_fails_leaves_the_process_as_it_was(server, tmp_path):
    log = tmp_path / "log.txt"
    with pytest.raises(RuntimeError, match=r"ValueError: invalid literal for int"):
        result(server.submit(partial(int, "x"), log))
    assert "ValueError" in log.read_text()
    assert result(server.submit(partial(int, "3"), log)) == 3


def test_a_process_that_ends_says_how(server, tmp_path):
    with pytest.raises(RuntimeError, match="its process ended with status 3"):
        result(server.submit(partial(os._exit, 3), tmp_path / "log.txt"))
    assert not server.alive
    with pytest.raises(RuntimeError, match="its process ended with status 3"):
        result(server.submit(os.getpid, tmp_path / "log.txt"))


def test_a_process_that_is_closed_ends_what_it_makes(server, tmp_path):
    answer = server.submit(partial(time.sleep, 600), tmp_path / "log.txt")
    while not (tmp_path / "log.txt").exists():
        time.sleep(0.01)
    server.stop()
    with pytest.raises(RuntimeError, match=f"its process ended by {signal.Signals.SIGTERM.name}"):
        result(answer)
