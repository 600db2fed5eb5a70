"""Read files that nobody meant: every reader, on changed copies of small whole files.

Without ``--coverage`` the changes are random and the same in every call; with it, atheris keeps what reaches new lines.
A reader may read a file, or refuse it by a ValueError or an OSError that names it. All else is a finding: another
exception, an error that names no file, a crash, more seconds or memory than an input may take.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import io
import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Sequence
from contextlib import nullcontext, redirect_stderr
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
HERE = Path(__file__).resolve().parent
sys.path[0] = str(HERE.parents[1])  # not the folder of this file: nothing else of it is to be imported by accident
sys.path.append(str(HERE))

SECONDS = 10  # of one core that one input may take
MEMORY = 3 << 30  # bytes that one input may take beyond what the process has
MODULES = (
    *("pcsa.datasets.check", "pcsa.datasets.custom", "pcsa.datasets.keypointnet", "pcsa.models.simple_pose"),
    *("pcsa.scripts.journal", "pcsa.scripts.records", "pcsa.scripts.report", "pcsa.scripts.reproduce.results"),
    *("pcsa.scripts.reproduce.study", "pcsa.tasks.common.run", "pcsa.tasks.common.map_inputs", "pcsa.tasks.landmarks"),
)


class TooLongError(BaseException):
    """An input that takes more than its seconds."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the targets, print a table, and return 1 if there is a finding."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", help="default: all")
    parser.add_argument("--inputs", type=int, default=10_000, help="of all targets together")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="after which no more are begun, all in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--coverage", action="store_true", help="guided by coverage, with atheris")
    parser.add_argument("--keep", type=Path, help="folder for the inputs of findings")
    parser.add_argument("--one", nargs=2, metavar=("TARGET", "FILE"), help="read one file, with its traceback")
    options = parser.parse_args(arguments)
    from fuzz_targets import TARGETS

    if options.one:
        return _one(TARGETS[options.one[0]], Path(options.one[1]).read_bytes())
    unknown = set(options.targets) - set(TARGETS)
    if unknown:
        parser.error(f"no target {', '.join(unknown)}: there are {', '.join(TARGETS)}")
    names = options.targets or list(TARGETS)
    _import_everything(options.coverage)
    total = sum(TARGETS[name].weight for name in names)
    begin, findings, sums = time.monotonic(), 0, [0, 0, 0]
    print(f"{'reader':24}{'inputs':>9}{'read':>9}{'refused':>9}{'findings':>10}{'slowest':>9}{'memory':>9}")
    for place, name in enumerate(names):
        share = max(1, round(options.inputs * TARGETS[name].weight / total))
        left = (options.seconds - (time.monotonic() - begin)) / (len(names) - place)
        count = _Count(name)
        _run(count, share, left, options)
        findings += len(count.found)
        sums = [a + b for a, b in zip(sums, (count.inputs, count.read, count.refused), strict=True)]
        print(count, flush=True)
        for text in count.found.values():
            print(text, flush=True)
    print(f"{'all':24}{sums[0]:9,}{sums[1]:9,}{sums[2]:9,}{findings:10}   in {time.monotonic() - begin:.0f} s")
    return int(findings > 0)


class _Count:
    """What came of the inputs of a target."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.inputs = self.read = self.refused = 0
        self.slowest, self.memory = 0.0, 0
        self.found: dict[str, str] = {}

    def __str__(self) -> str:
        figures = f"{self.inputs:9,}{self.read:9,}{self.refused:9,}{len(self.found):10}"
        return f"{self.name:24}{figures}{self.slowest:8.2f}s{self.memory >> 20:7}MB"

    def add(self, other: dict[str, Any]) -> None:
        self.inputs += other["inputs"]
        self.read += other["read"]
        self.refused += other["refused"]
        self.slowest, self.memory = max(self.slowest, other["slowest"]), max(self.memory, other["memory"])
        self.found.update(other["found"])


def _import_everything(coverage: bool) -> None:
    """Import once what every process needs, so that it tells which of its lines are reached if it is to."""
    import h5py
    import laspy
    import lzf
    import PIL.Image
    import scipy.interpolate
    import scipy.io
    import tifffile
    import torch

    told: Any = nullcontext()
    if coverage:
        import atheris

        told = atheris.instrument_imports(include=["pcsa"])
    # It names every module.
    with told, redirect_stderr(io.StringIO()):
        for module in MODULES:
            importlib.import_module(module)
    tasks = importlib.import_module("pcsa.tasks")
    for name in tasks.task_names():
        tasks.get_task(name)
    torch.set_num_threads(1)
    PIL.Image.init()
    del h5py, laspy, lzf, scipy, tifffile
    # What a process shares with this one it should not copy.
    gc.freeze()


def _run(count: _Count, inputs: int, seconds: float, options: Any) -> None:
    """Try inputs in processes of their own: one that crashes is a finding, and the next goes on behind it."""
    begin, done = time.monotonic(), 0
    while done < inputs and time.monotonic() - begin < seconds:
        with tempfile.TemporaryDirectory(prefix="pcsa-fuzz-") as scratch:
            report, current = Path(scratch, "report.json"), Path(scratch, "current")
            process = os.fork()
            if process == 0:
                status = 70
                try:
                    left = seconds - (time.monotonic() - begin)
                    _try(count.name, done, inputs, left, options, Path(scratch))
                    status = 0
                except BaseException:
                    report.with_suffix(".error").write_text(traceback.format_exc())
                finally:
                    os._exit(status)
            _, status = os.waitpid(process, 0)
            result = json.loads(report.read_text()) if report.exists() else {}
            if result:
                count.add(result)
            if status == 0:
                return
            if report.with_suffix(".error").exists():
                raise RuntimeError(report.with_suffix(".error").read_text())
            place = int(current.with_suffix(".number").read_text())
            content = current.read_bytes()
            how = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit status {os.WEXITSTATUS(status)}"
            count.inputs += place + 1 - done - result.get("inputs", 0)
            count.found.setdefault(how, f"  the process ended by {how}{_kept(options, count.name, content)}")
            done = place + 1


def _try(name: str, first: int, inputs: int, seconds: float, options: Any, scratch: Path) -> None:
    """Try inputs until there are enough, or it is late, and write down what came of them."""
    from fuzz_mutate import mutated
    from fuzz_targets import TARGETS, attempt, prepare

    target = TARGETS[name]
    folder = scratch / "files"
    folder.mkdir()
    os.environ["PCSA_CACHE_DIR"] = str(scratch / "cache")
    _quiet()
    prepare(target, folder)
    whole = target.seeds()
    outcomes = [attempt(target, folder, content) for content in whole]
    if target.readable and outcomes[0] != "read":
        raise ValueError(f"{name}: a whole file is {outcomes[0]}")
    begin, peak, number = time.monotonic(), _peak(), first
    out: dict[str, Any] = {"inputs": 0, "read": 0, "refused": 0, "slowest": 0.0, "memory": 0, "found": {}}

    def write_down() -> None:
        (scratch / "report.json").write_text(json.dumps(out))

    def one(content: bytes) -> None:
        nonlocal peak, number
        # For whoever finds this process dead.
        (scratch / "current").write_bytes(content)
        (scratch / "current.number").write_text(str(number))
        start, found = time.process_time(), None
        try:
            out[_within(lambda: attempt(target, folder, content))] += 1
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            found = _signature(error), _told(error)
        taken, grown = time.process_time() - start, _peak() - peak
        peak += grown
        number += 1
        out["inputs"] += 1
        out["slowest"], out["memory"] = max(out["slowest"], taken), max(out["memory"], grown)
        if found is None and grown > MEMORY:
            found = "memory", f"  {grown >> 20} MB for one input"
        if found is not None and found[0] not in out["found"]:
            out["found"][found[0]] = found[1] + _kept(options, name, content)
            write_down()
        if number % 100 == 0:
            write_down()
            gc.collect()
            if options.coverage and (number >= inputs or time.monotonic() - begin > seconds):
                os._exit(0)

    if options.coverage:
        _guide(one, whole, lambda content, seed: mutated(random.Random(seed), content, target.inside), options, scratch)
    while number < inputs and time.monotonic() - begin < seconds:
        rng = random.Random(f"{options.seed}-{name}-{number}")
        one(mutated(rng, rng.choice(whole), target.inside))
    write_down()


def _guide(one: Any, whole: Sequence[bytes], change: Any, options: Any, scratch: Path) -> None:
    """Let atheris make inputs, half of them by our own changes, and keep those that reach new lines; never return."""
    import atheris

    corpus = scratch / "corpus"
    corpus.mkdir()
    for number, content in enumerate(whole):
        (corpus / str(number)).write_bytes(content)

    def mutate(content: bytes, most: int, seed: int) -> bytes:
        return atheris.Mutate(content, most) if seed % 2 else change(content, seed)[:most]

    flags = "-rss_limit_mb=0 -max_len=65536 -timeout=1000 -print_final_stats=0 -verbosity=0"
    flags += " -handle_segv=0 -handle_abrt=0 -handle_bus=0 -handle_fpe=0 -handle_ill=0 -handle_int=0 -handle_term=0"
    arguments = ["fuzz", *flags.split(), f"-seed={options.seed + 1}", str(corpus)]
    atheris.Setup(arguments, one, custom_mutator=mutate)
    atheris.Fuzz()


def _quiet() -> None:
    import logging

    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    # C libraries print beside Python's stream.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _within(call: Any) -> Any:
    """Call, and end it after its seconds."""

    def late(*_: Any) -> None:
        raise TooLongError(f"more than {SECONDS} seconds")

    signal.signal(signal.SIGPROF, late)
    signal.signal(signal.SIGALRM, late)
    # Of its own time, however busy the machine is; and a limit to waiting.
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    signal.alarm(30 * SECONDS)
    try:
        return call()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.alarm(0)


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def _signature(error: BaseException) -> str:
    """Name what went wrong where, so that one fault is one finding."""
    cause = error.__cause__ if type(error).__name__ == "UndocumentedError" and error.__cause__ else error
    frames = [f for f in traceback.extract_tb(cause.__traceback__) if "/tests/faults/" not in f.filename]
    own = [f for f in frames if "site-packages" not in f.filename and "/lib/python" not in f.filename]
    last = (own or frames or [None])[-1]
    return f"{type(error).__name__}-{type(cause).__name__}-{last and (Path(last.filename).name, last.lineno)}"


def _told(error: BaseException) -> str:
    frames = [
        f"{Path(f.filename).name}:{f.lineno}" for f in traceback.extract_tb((error.__cause__ or error).__traceback__)
    ]
    return f"  {type(error).__name__}: {' '.join(str(error).split())[:200]}\n    at {' '.join(frames[-6:])}"


def _kept(options: Any, name: str, content: bytes) -> str:
    if options.keep is None:
        return f"\n    {len(content)} bytes: {content[:60]!r}" if len(content) < 400 else ""
    import hashlib

    options.keep.mkdir(parents=True, exist_ok=True)
    file = options.keep / f"{name.replace(' ', '-')}-{hashlib.sha256(content).hexdigest()[:8]}"
    file.write_bytes(content)
    return f"\n    {file}"


def _one(target: Any, content: bytes) -> int:
    from fuzz_targets import attempt, prepare

    with tempfile.TemporaryDirectory(prefix="pcsa-fuzz-") as scratch:
        os.environ["PCSA_CACHE_DIR"] = f"{scratch}/cache"
        folder = Path(scratch, "files")
        folder.mkdir()
        prepare(target, folder)
        print(_within(lambda: attempt(target, folder, content)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
