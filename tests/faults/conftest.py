import importlib
import signal
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def fuzz():
    """A module of the fuzzing, by its name."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent))
        yield importlib.import_module
    for name in [name for name in sys.modules if name.startswith("fuzz_")]:
        del sys.modules[name]


@pytest.fixture
def soon():
    """End a test that waits for a pipe, or for anything that has no end."""

    def late(*_):
        raise TimeoutError("it has not ended")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
