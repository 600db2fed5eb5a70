import functools
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

# One thread for each worker and each process that a test starts: two workers with two threads each wait for each other.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
import torch

LONG = 300
"""Seconds after which something does not happen, even on a busy machine."""
# How far two ways of computing the same thing may lie apart: (relative, absolute) for values of order 1.
TOLERANCES = {torch.float64: (1e-9, 1e-10), torch.float32: (1e-4, 1e-5)}


@pytest.fixture(autouse=True, scope="session")
def cache(tmp_path_factory):
    """A cache that is the tests' own, and gone with them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PCSA_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def close():
    """Compare two tensors of one dtype within that dtype's tolerance."""

    def check(actual: torch.Tensor, expected: torch.Tensor, scale: float = 1.0) -> None:
        rtol, atol = TOLERANCES[actual.dtype]
        torch.testing.assert_close(actual, expected, rtol=rtol, atol=atol * scale)

    return check


@pytest.fixture
def interpret():
    """Run tests in a process where Triton runs kernels as Python, on the CPU; returns how many passed.

    Triton chooses when it is imported, and what it interprets it cannot compile: hence another process.
    """
    # Triton 3.6 takes arrays of one element for numbers, which NumPy refuses.
    pytest.importorskip("triton", minversion="3.7", reason="Triton is not installed, or too old", exc_type=ImportError)

    def run(*arguments: str) -> int:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-x", *arguments],
            env={**os.environ, "TRITON_INTERPRET": "1"},
            cwd=Path(__file__).parent.parent,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-1000:]
        return int(re.search(r"(\d+) passed", done.stdout)[1])

    return run


@pytest.fixture(scope="session")
def missing():
    """Skip a test of pictures for a reason, or fail where everything was installed."""

    def stop(reason):
        if os.environ.get("PCSA_TEST_VIZ"):
            pytest.fail(reason)
        pytest.skip(reason)

    return stop


@pytest.fixture
def open3d(missing):
    from pcsa.viz import gl

    try:
        return gl.load_open3d()
    except ImportError as error:
        missing(str(error))


class Process:
    """A Python process, and what it has printed."""

    def __init__(self, *arguments, variables=None, cwd=None, answers=""):
        self.process = subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            env={**os.environ, "PYTHONUNBUFFERED": "1", **(variables or {})},
            cwd=cwd,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.process.stdin.write(answers)
        self.process.stdin.flush()
        self.lines, self.read = [], 0
        # A reader of its own: who waits for a line can stop waiting.
        self.reader = threading.Thread(target=lambda: self.lines.extend(iter(self.process.stdout.readline, "")))
        self.reader.start()

    @property
    def text(self):
        return "".join(self.lines)

    def tells(self, text):
        """The next line that has a text, if it was printed already; what comes before it is passed over."""
        for place in range(self.read, len(self.lines)):
            if text in self.lines[place]:
                self.read = place + 1
                return self.lines[place]
        return None

    def told(self, text):
        """The next line that has a text, once there is one."""
        limit = time.monotonic() + LONG
        while time.monotonic() < limit:
            ended = not self.reader.is_alive()
            if (line := self.tells(text)) is not None:
                return line
            if ended:
                break
            time.sleep(0.05)
        pytest.fail(f"{text!r} was not told: {self.text}")

    @functools.cached_property
    def url(self):
        return next(word for word in self.told("http://").split() if word.startswith("http://"))

    def wait(self):
        status = self.process.wait(LONG)
        self.reader.join()
        return status

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.reader.join()
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture
def process():
    """Start Python processes, which end with the test."""
    started = []

    def start(*arguments, **options):
        started.append(Process(*arguments, **options))
        return started[-1]

    yield start
    for one in started:
        one.stop()


class Display:
    """A virtual X display, and the hand before it.

    Keys and clicks go to where the pointer is, as those of a person do. Sent to a window (``--window``, or in one call
    with a search), the release of a key that closes the window fails.
    """

    def __init__(self, name, server):
        self.server = server
        self.variables = {"DISPLAY": name, "WAYLAND_DISPLAY": ""}

    def xdotool(self, *arguments):
        subprocess.run(["xdotool", *map(str, arguments)], env={**os.environ, **self.variables}, check=True)

    def point(self, title, x, y):
        """Move the pointer into the window of a title, once there is one."""
        self.xdotool("search", "--sync", "--onlyvisible", "--name", title, "mousemove", "--window", "%1", x, y)

    def press(self, *keys):
        self.xdotool("key", *keys)

    def press_until(self, key, happened):
        """Press a key again and again: what is pressed before a window has the keyboard is lost."""
        limit = time.monotonic() + LONG
        while True:
            self.press(key)
            again = time.monotonic() + 2
            while time.monotonic() < again:
                if happened():
                    return
                time.sleep(0.05)
            assert time.monotonic() < limit, f"{key!r} did nothing"


@pytest.fixture
def display(missing):
    if not sys.platform.startswith("linux"):
        pytest.skip("virtual displays are for X11")
    for program in ("Xvfb", "xdotool"):
        if shutil.which(program) is None:
            missing(f"{program} is not installed")
    read, write = os.pipe()
    command = ["Xvfb", "-displayfd", str(write), "-screen", "0", "1280x1024x24"]
    server = subprocess.Popen(command, pass_fds=[write], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    os.close(write)
    with os.fdopen(read) as pipe:
        number = pipe.readline().strip()
    assert number, "Xvfb did not start"
    yield Display(f":{number}", server)
    server.kill()
    server.wait()


@pytest.fixture(scope="module")
def browser(missing):
    """A headless browser that draws in 3-D."""
    try:
        from selenium import webdriver
    except ImportError:
        missing("selenium is not installed")
    driver = shutil.which("chromedriver")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if driver is None or program is None:
        missing("Chromium and its driver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    # A container's shared memory is small, and root has no sandbox; without a graphics card, 3-D is drawn in software.
    for flag in (
        "headless=new",
        "no-sandbox",
        "disable-dev-shm-usage",
        "window-size=1200,800",
        "use-angle=swiftshader",
        "enable-unsafe-swiftshader",
        "ignore-gpu-blocklist",
    ):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    browser.set_script_timeout(60)
    yield browser
    browser.quit()


@pytest.fixture
def hub(tmp_path_factory, monkeypatch):
    """A server of `tests/hub.py`; what the hub's client caches is this test's own."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path_factory.mktemp("hub")))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # which is a protocol of its own
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    if (name := "pcsa_tests_hub") not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("hub.py"))
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    with sys.modules[name].serving() as server:
        yield server
