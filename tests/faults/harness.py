"""Harming a process and seeing what is left: a fault, the same call again, and a comparison with a run without."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
_TEMPORARY = re.compile(r"(^|/)\.[^/]*-[0-9a-f]{32}(\.[^./]*)?($|/)|\.part$|\.tmp$")
SIGNALS = {"kill": signal.SIGKILL, "terminate": signal.SIGTERM, "interrupt": signal.SIGINT}
# A file system that is full for good, as against a fault that is planted.
FAULTS = ("kill", "terminate", "interrupt", "full", "broken", "read-only", "clock-forward", "clock-back")


class LostError(AssertionError):
    """What a fault has cost, in words."""


class Victims:
    """Starts processes by forking one that has imported everything, or ``light``, nothing that is slow."""

    def __init__(self, *, light=False):
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join([str(HERE), *filter(None, sys.path)]),
        }
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "victims.py"), *(["--light"] if light else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self._answer()

    def _answer(self):
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the process that starts victims has ended")
        return json.loads(line)

    def start(self, words, folder, *, fault=None, points=None, environment=None, name="call"):
        """Start a program in a folder; what it says goes beside the folder."""
        beside = folder.parent / f"{folder.name}.{name}"
        request = {
            "run": [str(word) for word in words],
            "folder": str(folder),
            "fault": fault,
            "out": f"{beside}.out",
            "err": f"{beside}.err",
            "environment": {"PCSA_CACHE_DIR": str(folder / "cache"), **(environment or {})},
        }
        if points is not None:
            request["points"] = str(points)
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return Victim(self, self._answer()["pid"], Path(f"{beside}.out"), Path(f"{beside}.err"))

    def wait(self, pid):
        """Wait for the end of a process, and return its status."""
        self._process.stdin.write(json.dumps({"wait": pid}) + "\n")
        self._process.stdin.flush()
        return self._answer()["status"]

    def close(self):
        """End the process that starts them."""
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


@dataclass
class Victim:
    """A process that may be harmed."""

    victims: Victims
    pid: int
    out: Path
    err: Path

    def end(self):
        """Wait, and return the status and what was said on standard error."""
        status = self.victims.wait(self.pid)
        return status, self.err.read_text(errors="replace")


@dataclass
class Scenario:
    """Something that writes, and what must be left of it.

    Attributes:
        name: Its name in the table.
        prepare: Puts what is needed into an empty folder.
        words: The program and its arguments, called in the folder.
        again: The same for the call after a fault; gets the folder.
        result: What is compared: gets the folder, returns anything that can be.
        check: Looks at a folder right after a fault; raises :class:`LostError`.
        command: What its messages begin with.
    """

    name: str
    prepare: object
    words: list
    again: object
    result: object
    check: object = lambda folder: None
    command: str = "pcsa"


@dataclass
class Whole:
    """A run without a fault."""

    scenario: Scenario
    points: list
    seconds: float
    result: object
    files: list
    first: object = None
    """The result of the folder as it was prepared."""


@dataclass
class Outcome:
    """What became of a fault."""

    scenario: str
    fault: dict
    where: str = ""
    happened: bool = True
    lost: str = ""
    said: str = field(default="", repr=False)


class Harness:
    """Runs scenarios below a folder."""

    def __init__(self, folder, victims=None):
        self.folder, self.victims = Path(folder), victims or Victims()
        self._count, self._whole = 0, {}

    def new_folder(self, scenario, within=None):
        """An empty folder, prepared."""
        self._count += 1
        folder = (within or self.folder) / f"{scenario.name.replace(' ', '-')}-{self._count}"
        folder.mkdir(parents=True)
        scenario.prepare(folder)
        return folder

    def whole(self, scenario):
        """The run without a fault, made once."""
        if scenario.name not in self._whole:
            folder = self.new_folder(scenario)
            points = folder.parent / f"{folder.name}.points"
            begin = time.perf_counter()
            status, said = self.victims.start(scenario.words, folder, points=points).end()
            seconds = time.perf_counter() - begin
            if status:
                raise RuntimeError(f"{scenario.name} ends with status {status} without a fault: {said[-1000:]}")
            listed = [json.loads(line) for line in points.read_text().splitlines()]
            check_order(listed)
            whole = Whole(scenario, listed, seconds, scenario.result(folder), files_below(folder))
            self._whole[scenario.name] = whole
            shutil.rmtree(folder)
        return self._whole[scenario.name]

    def try_fault(self, scenario, fault):
        """Let a fault happen, look at what is left, call again, and compare.

        ``fault`` is what :func:`planting.plant` takes, or ``{"do": "kill", "after": seconds}`` for a signal at a
        moment, to the whole group of processes with ``"group": True``; ``{"do": "limit", "bytes": n}`` for files that
        must not be larger; ``{"do": "small", "bytes": n}`` for a disk of this size, where one can be mounted; and
        ``{"do": "stranger"}`` for somebody who may not write there.
        """
        whole = self.whole(scenario)
        outcome = Outcome(scenario.name, fault, _where(fault, whole))
        with self._place(fault) as within:
            folder = self.new_folder(scenario, within)
            try:
                self._try(whole, fault, folder, outcome)
            except LostError as lost:
                outcome.lost = str(lost)
            if not outcome.lost:
                shutil.rmtree(folder, ignore_errors=True)
        return outcome

    @contextmanager
    def _place(self, fault):
        if fault["do"] != "small":
            yield self.folder
            return
        self._count += 1
        disk = self.folder / f"disk-{self._count}"
        disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={fault['bytes']}", "tmpfs", str(disk)], check=True)
        try:
            yield disk
        finally:
            subprocess.run(["umount", "-l", str(disk)], check=True)

    def _try(self, whole, fault, folder, outcome):
        scenario, do = whole.scenario, fault["do"]
        # Beside a disk that is full.
        points = self.folder / f"{folder.name}.points"
        points.unlink(missing_ok=True)
        if do == "stranger":
            _forbid(folder)
        victim = self.victims.start(scenario.words, folder, fault=fault, points=points)
        if "after" in fault:
            time.sleep(fault["after"])
            try:
                (os.killpg if fault.get("group") else os.kill)(victim.pid, SIGNALS[do])
            except ProcessLookupError:
                outcome.happened = False
        status, said = victim.end()
        outcome.said = said
        if "at" in fault:
            lines = points.read_text().splitlines() if points.exists() else []
            outcome.happened = bool(lines)
            if lines:
                at = json.loads(lines[0])
                outcome.where = f"{at['when']} {at['operation']} of {at['path']}"
        if do == "stranger":
            _allow(folder)
        check_ending(scenario, do, status, said, folder)
        if status == 0 and scenario.result(folder) != whole.result:
            raise LostError("reports success with another result")
        # What a signal has ended tidies up no more.
        if status >= 0:
            left = [name for name in files_below(folder) if _TEMPORARY.search(name)]
            # What cannot be removed is removed by the next call.
            if left and do != "read-only":
                raise LostError(f"leaves {left}")
        scenario.check(folder)
        if do == "small":
            subprocess.run(["mount", "-o", "remount,size=1g", str(folder.parent)], check=True)
        # A clock that was wrong has left times that are.
        if do.startswith("clock"):
            _date(folder, time.time() + (1e8 if do == "clock-forward" else -1e8))
        # The lock on a disk that took no more at the very end is the next call's to remove.
        kept = do == "read-only" and set(files_below(folder)) != set(whole.files)
        if status != 0 or kept:
            status, said = self.victims.start(scenario.again(folder), folder, name="again").end()
            if status:
                raise LostError(f"the next call ends with status {status}: {said.strip()[-500:]}")
        if scenario.result(folder) != whole.result:
            raise LostError(f"the next call has another result: {_difference(scenario.result(folder), whole.result)}")
        left = sorted(set(files_below(folder)) ^ set(whole.files))
        if left:
            raise LostError(f"other files than without a fault: {left}")

    def race(self, scenario, count=2):
        """Start several processes of a scenario in one folder: one does it, and the others are refused or agree."""
        whole = self.whole(scenario)
        outcome = Outcome(scenario.name, {"do": "race"}, f"{count} processes in one folder")
        folder = self.new_folder(scenario)
        victims = [self.victims.start(scenario.words, folder, name=f"call{number}") for number in range(count)]
        try:
            reads = 0
            while any(map(_lives, victims)):
                # Whoever reads meanwhile finds what is whole.
                scenario.check(folder)
                reads += 1
            outcome.where += f", read {reads} times meanwhile"
        except LostError as lost:
            outcome.lost = str(lost)
        ends = [victim.end() for victim in victims]
        if outcome.lost:
            return outcome
        try:
            if not any(status == 0 for status, _ in ends):
                raise LostError(f"nobody succeeds: {ends}")
            for status, said in ends:
                if status != 0:
                    check_ending(scenario, "full", status, said, folder)
            if scenario.result(folder) != whole.result:
                raise LostError(f"another result: {_difference(scenario.result(folder), whole.result)}")
            left = sorted(set(files_below(folder)) ^ set(whole.files))
            if left:
                raise LostError(f"other files than without a fault: {left}")
        except LostError as lost:
            outcome.lost = str(lost)
        else:
            shutil.rmtree(folder)
        return outcome

    def close(self):
        """End what starts victims."""
        self.victims.close()


def check_ending(scenario, do, status, said, folder):
    """Hold the end of a process against what the command line promises."""
    if "Traceback" in said or "Exception ignored" in said:
        raise LostError(f"a traceback: {said.strip()[-700:]}")
    if status == 0:
        return
    last = said.strip().splitlines()[-1] if said.strip() else ""
    if do == "kill":
        if status != -signal.SIGKILL:
            raise LostError(f"status {status} after a kill: {last}")
    elif do in ("terminate", "interrupt"):
        number = SIGNALS[do]
        stopped = status == 128 + number and ("--resume" in last or "interrupted" in said)
        # Before there is anything to keep, and after all is written, the system's own way.
        if not stopped and status != -number:
            raise LostError(f"status {status} after {do}: {last!r}")
    else:
        ours = [line for line in said.splitlines() if line.startswith("pcsa ")]
        if status != 2 or len(ours) != 1 or last != ours[0]:
            raise LostError(f"status {status} and not one line: {said.strip()[-700:]!r}")
        names = re.findall(r"`([^`]+)`", last)
        if not any(Path(folder, name).exists() or Path(folder, name).parent.exists() for name in names):
            raise LostError(f"names no file: {last}")


def check_order(points):
    """What matters is on the disk before it gets its name: a rename comes after an fsync of what is renamed."""
    synced = set()
    for point in points:
        path = point["path"]
        if point["when"] == "after" and point["operation"] == "fsync":
            synced.add(str(Path(path).parent))
        elif point["operation"] in ("write", "create") and point["when"] == "before" and "-#" in path:
            synced.discard(str(Path(path).parent))
        elif point["operation"] == "rename" and point["when"] == "before":
            named = Path(path).name.endswith((".ckpt", ".json", ".jsonl", ".npz", ".csv", ".html", ".txt"))
            if named and str(Path(path).parent) not in synced:
                raise LostError(f"{path} gets its name before it is on the disk")


def files_below(folder):
    """The files of a folder; the parts of a log, one for each call, count as one.

    What the cache remembers of files (``.key``) depends on how old they are, and the lock of what it keeps on whether
    one could be made.
    """
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    found -= {name for name in found if name.endswith((".key", ".npz.lock"))}
    found |= {f"{path.relative_to(folder).as_posix()}/" for path in folder.rglob(".*") if path.is_dir()}
    return sorted({re.sub(r"version_\d+", "version", name) for name in found})


def _where(fault, whole):
    if "after" in fault:
        return f"after {fault['after'] / whole.seconds:.0%} of the time"
    return {"limit": "files of limited size", "small": "a small disk", "stranger": "a folder of somebody else's"}.get(
        fault["do"], ""
    )


def _difference(here, there):
    if isinstance(here, dict) and isinstance(there, dict):
        for key in {**here, **there}:
            if here.get(key) != there.get(key):
                return f"{key}: {str(here.get(key))[:200]} and not {str(there.get(key))[:200]}"
    return f"{str(here)[:200]} and not {str(there)[:200]}"


def _forbid(folder):
    """Let nobody else write below a folder."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)


def _allow(folder):
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def _date(folder, moment):
    for path in folder.rglob("*"):
        os.utime(path, (moment, moment), follow_symlinks=False)


def _lives(victim):
    try:
        return Path(f"/proc/{victim.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def can_mount():
    """Whether this process may mount a disk of its own."""
    if os.geteuid() or not shutil.which("mount"):
        return False
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True)
        if done.returncode:
            return False
        subprocess.run(["umount", "-l", folder], check=True)
    return True
