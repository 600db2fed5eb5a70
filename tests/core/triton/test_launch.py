import logging

import pytest
import torch

from pcsa._core.triton import launch

CUDA = torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """Nothing has been said or tried."""
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(launch, "FAILED", {})
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(launch.importlib, "import_module", lambda name: None)
    caches = (launch._capability, launch._import_error, launch._say)
    for cached in caches:
        cached.cache_clear()
    yield
    for cached in caches:
        cached.cache_clear()


def test_usable(caplog):
    assert launch.usable(CUDA)
    assert not launch.usable(torch.device("cpu"))  # there plain torch is the way, and nothing to be said
    assert not launch.usable(torch.device("meta"))
    assert not caplog.records


def test_interpreted(monkeypatch, caplog):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert launch.usable(torch.device("cpu"))
    assert not launch.usable(CUDA)
    assert "TRITON_INTERPRET is set" in caplog.text


def test_an_old_card_is_said_once(monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (6, 1))
    for _ in range(3):
        assert not launch.usable(CUDA)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "on cuda:0: its compute capability 6.1 is below 7.0" in caplog.text


@pytest.mark.parametrize("error", [ModuleNotFoundError, OSError, RuntimeError])
def test_a_build_without_triton_is_said_once(error, monkeypatch, caplog):
    def fail(name):
        raise error("no such library")

    monkeypatch.setattr(launch.importlib, "import_module", fail)
    for _ in range(3):
        assert not launch.usable(CUDA)
    assert len(caplog.records) == 1
    assert "Triton cannot be imported (no such library)" in caplog.text


def test_attempt(caplog):
    tries = []

    def fail():
        tries.append(1)
        raise RuntimeError("ptxas died")

    assert launch.attempt("sums of float32", lambda: "kernel", lambda: "plain") == "kernel"
    for _ in range(2):
        assert launch.attempt("sums of float64", fail, lambda: "plain") == "plain"
    assert launch.attempt("sums of float32", lambda: "kernel", lambda: "plain") == "kernel"
    assert len(tries) == len(caplog.records) == 1
    assert "sums of float64: RuntimeError: ptxas died" in caplog.text
    assert launch.FAILED == {"sums of float64": "RuntimeError: ptxas died"}


def test_attempt_hides_no_lack_of_memory_and_no_mistake_under_test(monkeypatch):
    def fail(error):
        raise error("no")

    with pytest.raises(torch.OutOfMemoryError):
        launch.attempt("a", lambda: fail(torch.OutOfMemoryError), lambda: "plain")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    with pytest.raises(RuntimeError, match="no"):
        launch.attempt("a", lambda: fail(RuntimeError), lambda: "plain")
    assert launch.FAILED == {}


@pytest.mark.parametrize(("n", "power"), [(0, 1), (1, 1), (2, 2), (3, 4), (128, 128), (129, 256)])
def test_next_power(n, power):
    assert launch.next_power(n) == power


def test_cdiv():
    assert [launch.cdiv(n, 4) for n in (0, 1, 4, 5)] == [0, 1, 1, 2]
