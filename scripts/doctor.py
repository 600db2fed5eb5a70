"""``pcsa doctor``: what this machine has, what pcsa will use of it, and why.

Whatever might hang or crash runs in a process of its own, with a time limit, and nothing asks a network: this module
imports the standard library alone, so that it can say what else is missing or broken.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, NamedTuple

State = Literal["ok", "missing", "fault"]

# What people may add that no extra brings.
_MORE = {
    "torch-cluster": "one more backend for neighbor searches",
    "pyg-lib": "one more backend for neighbor searches",
    "wandb": "--trainer.logger wandb",
    "trackio": "--trainer.logger trackio",
}
# Extras for those who work on pcsa itself.
_INNER = ("dev", "docs", "soak", "all", "cluster")
_MARK = "pcsa doctor found: "


class Check(NamedTuple):
    """What was found of one thing; missing is what pcsa can do without."""

    state: State
    name: str
    said: str


def main(argv: list[str]) -> int:
    """Look, print, and return the exit status: 1 if anything is broken, or missing that pcsa needs."""
    parser = argparse.ArgumentParser(
        prog="pcsa doctor",
        description="Say what this machine has, what pcsa will use of it, and why. Asks no network. Exit status 1 if "
        "anything is broken, or missing that pcsa needs.",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--timeout", type=float, default=120.0, help="seconds that one check may take")
    options = parser.parse_args(argv)
    checks = list(examine(options.timeout))
    sound = all(check.state != "fault" for check in checks)
    if options.json:
        print(json.dumps({"sound": sound, "checks": [check._asdict() for check in checks]}, indent=1))
    else:
        marks = {"ok": "  ok     ", "missing": "  -      ", "fault": "  FAULT  "}
        width = max(60, min(shutil.get_terminal_size((120, 24)).columns, 160))
        for check in checks:
            line = f"{marks[check.state]}{check.name}: {check.said}"
            print(textwrap.fill(line, width, subsequent_indent=9 * " ", break_long_words=False, break_on_hyphens=False))
        print("everything that pcsa needs is there" if sound else "see the lines with FAULT")
    return 0 if sound else 1


def examine(timeout: float = 120.0) -> Iterator[Check]:
    """Check everything; every probe is ended after ``timeout`` seconds."""
    yield Check("ok", "system", f"Python {platform.python_version()}, {platform.platform()}, {os.cpu_count()} cores")
    with ThreadPoolExecutor() as pool:
        # They wait for processes: at once.
        found = {name: pool.submit(_probed, name, timeout) for name in PROBES}
        yield from _packages()
        for running in found.values():
            yield from running.result()
    yield _cache()


def _packages() -> Iterator[Check]:
    try:
        wanted, version = metadata.requires("pcsa") or [], metadata.version("pcsa")
    except metadata.PackageNotFoundError:
        yield Check("fault", "pcsa", f"{Path(__file__).parent} is used, but pcsa is not installed: pip install .")
        return
    yield Check("ok", "pcsa", f"{version}, {Path(__file__).resolve().parent}")
    groups: dict[str, list[str]] = {}
    for line in wanted:
        extra = re.search(r"extra == ['\"]([^'\"]+)['\"]", line)
        name = "" if extra is None else extra[1]
        if name not in _INNER and _applies(line, name):
            groups.setdefault(name, []).append(line.partition(";")[0].strip())
    for extra_name, lines in groups.items():
        there: list[str] = []
        lacking: list[str] = []
        old: list[str] = []
        for line in lines:
            name = re.match(r"[\w.-]+", line)[0]  # type: ignore[index]  # a requirement begins with a name
            have = _version(name)
            if have is None:
                lacking.append(name)
            else:
                (there if _fits(line, have) else old).append(f"{name} {have}")
        install = f"pip install 'pcsa[{extra_name}]'" if extra_name else "pip install pcsa"
        title = f"packages of {extra_name}" if extra_name else "packages"
        if there:
            yield Check("ok", title, ", ".join(there))
        if old:
            yield Check("fault", title, f"{', '.join(old)} must be newer: {install}")
        if lacking:
            # A command that needs one of them says so.
            state: State = "missing" if extra_name and (extra_name != "train" or not there) else "fault"
            yield Check(state, title, f"{', '.join(lacking)} not installed: {install}")
    for name, use in _MORE.items():
        have = _version(name)
        said = have or f"not installed; for {use}: pip install {name}"
        yield Check("ok" if have else "missing", name, said)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _applies(line: str, extra: str) -> bool:
    """Whether a requirement is one of this platform."""
    try:
        from packaging.requirements import Requirement
    except ImportError:
        return True
    marker = Requirement(line).marker
    return marker is None or marker.evaluate({"extra": extra})


def _fits(line: str, version: str) -> bool:
    try:
        from packaging.requirements import Requirement
    except ImportError:
        return True
    return Requirement(line).specifier.contains(version, prereleases=True)


def _cache() -> Check:
    try:
        from pcsa.datasets.cache import cache_entries, cache_folder

        folder = cache_folder()
        size = sum(entry.size for entry in cache_entries())
    except Exception as error:  # whatever a file system says
        return Check("fault", "cache", f"cannot be read: {_line(error)}")
    above = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not os.access(above, os.W_OK):
        return Check("fault", "cache", f"{folder} cannot be written: set PCSA_CACHE_DIR to a folder that can")
    return Check("ok", "cache", f"{folder}, {size / 1e6:.1f} MB")


def _probed(name: str, timeout: float) -> list[Check]:
    """Run a probe in a process of its own, which ends, whatever it does."""
    code = f"from pcsa.scripts.doctor import PROBES, tell; tell(PROBES[{name!r}])"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        text=True,
        errors="replace",
        start_new_session=True,
    ) as child:
        try:
            out, err = child.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            # With what it has started.
            os.killpg(child.pid, signal.SIGKILL)
            return [Check("fault", name, f"no answer within {timeout:g} seconds (--timeout allows more)")]
    for line in out.splitlines():
        if line.startswith(_MARK):
            return [Check(*check) for check in json.loads(line.removeprefix(_MARK))]
    last = (err.strip() or "nothing was said").splitlines()[-1]
    ended = f"signal {-child.returncode}" if child.returncode < 0 else f"status {child.returncode}"
    return [Check("fault", name, f"the check ended with {ended}: {last}")]


def tell(probe: Callable[[], Iterator[Check]]) -> None:
    """Print what a probe finds, for the process that started this one."""
    found = []
    try:
        for check in probe():
            found.append(check)
    except Exception as error:  # whatever is broken is what is looked for
        found.append(Check("fault", probe.__name__.strip("_"), _line(error)))
    print(f"\n{_MARK}{json.dumps(found)}", flush=True)


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _torch() -> Iterator[Check]:
    try:
        import torch
    except ModuleNotFoundError:
        yield Check("fault", "torch", "not installed: pip install torch")
        return
    from pcsa._core.triton.launch import obstacle

    build = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "for the CPU"
    yield Check("ok", "torch", f"{torch.__version__}, {build}, {torch.get_num_threads()} threads")
    devices = [torch.device("cpu")]
    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            about = torch.cuda.get_device_properties(i)
            said = f"{about.name}, capability {about.major}.{about.minor}, {about.total_memory / 2**30:.0f} GiB"
            yield Check("ok", f"CUDA device {i}", said + ("; used by default" if i == 0 else ""))
        devices.append(torch.device("cuda", 0))
    elif torch.version.cuda:
        yield Check("missing", "CUDA device", "torch finds none, although it is made for CUDA: is there a driver?")
    else:
        yield Check("missing", "CUDA device", "none: everything runs on the CPU")
    for device in devices:
        reason = obstacle(device)
        said = "used" if reason is None else f"not used: {reason}"
        yield Check("ok" if reason is None else "missing", f"Triton kernels on {device}", said)
    for device in devices:
        yield _neighbors(device)


def _neighbors(device: Any) -> Check:
    from typing import get_args

    import torch

    from pcsa.neighbors.backends.choice import BACKENDS, choose
    from pcsa.neighbors.backends.contract import Task

    pos = torch.zeros(8, 2048, 3, device=device).flatten(0, 1)
    chosen = {task: choose(None, task, pos, 2048).name for task in get_args(Task)}
    ready = [name for name, s in BACKENDS.items() if s.importable() and s.obstacle(device) is None]
    said = ", ".join(f"{task} by {name}" for task, name in chosen.items())
    return Check("ok", f"neighbors on {device}", f"{said}, for 8 clouds of 2,048 points; ready: {', '.join(ready)}")


def _pictures() -> Iterator[Check]:
    try:
        import numpy as np

        from pcsa.viz import Scene, render
    except ModuleNotFoundError as error:
        yield Check("missing", "pictures", f"{error}: pip install 'pcsa[viz]'")
        return
    corners = np.array(np.meshgrid([0, 1], [0, 1], [0, 1]), dtype=float).reshape(3, -1).T
    scene = Scene(corners)

    def drawn(backend: Any) -> str:
        try:
            (pixels,) = render([scene], size=(64, 64), backend=backend)
        except (ValueError, ImportError) as error:
            return " ".join(str(error).split())
        return "" if np.ptp(pixels) > 0 else "the picture is empty"

    lacking = {backend: drawn(backend) for backend in ("open3d", "matplotlib")}
    if not lacking["open3d"]:
        yield Check("ok", "pictures", "drawn by Open3D, without a display")
    elif not lacking["matplotlib"]:
        yield Check("missing", "pictures", f"drawn by matplotlib, plainer and slower: {lacking['open3d']}")
    else:
        yield Check("missing", "pictures", f"cannot be drawn: {lacking['open3d']}; {lacking['matplotlib']}")


def _window() -> Iterator[Check]:
    try:
        from pcsa.viz.window import missing_display
    except ModuleNotFoundError as error:
        yield Check("missing", "windows", f"{error}: pip install 'pcsa[viz]'")
        return
    missing = missing_display()
    if missing:
        yield Check("missing", "windows", f"none can be seen: {missing}; pictures, pages and --browser take none")
    else:
        yield Check("ok", "windows", "there is a display")


PROBES: dict[str, Callable[[], Iterator[Check]]] = {"torch": _torch, "pictures": _pictures, "windows": _window}
"""What may hang or crash, each in a process of its own."""
