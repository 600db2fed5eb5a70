"""Faults at chosen moments of a process: before, during and after every write, fsync, rename and removal.

What a process does to files below a folder goes through here once :func:`plant` was called: each such moment is a
*point* with a number. A fault is planted at one of them; without a fault the points are written down.
"""

import builtins
import errno
import io
import json
import os
import re
import signal
import time

# As the product names what it writes in place of a file.
_OWN = re.compile(r"[0-9a-f]{32}")
_ERRORS = {"full": errno.ENOSPC, "broken": errno.EIO, "read-only": errno.EROFS}
_SIGNALS = {"kill": signal.SIGKILL, "terminate": signal.SIGTERM, "interrupt": signal.SIGINT}
_YEAR = 365 * 24 * 3600.0

_os = {name: getattr(os, name) for name in ("open", "replace", "rename", "unlink", "rmdir", "mkdir", "fsync", "write")}
_open = io.open


class _Plan:
    """What happens at which point."""

    def __init__(self, folder, report, fault):
        self.folder, self.fault, self.pid = os.path.realpath(folder) + os.sep, fault or {}, os.getpid()
        self.report = _os["open"](report, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self.count, self.lasting = 0, None

    def below(self, path, dir_fd=None):
        """A path below the folder, without what differs from run to run; None for another path."""
        if isinstance(path, int):
            path = os.readlink(f"/proc/self/fd/{path}")
        path = os.fsdecode(path)
        if dir_fd is not None:
            path = os.path.join(os.readlink(f"/proc/self/fd/{dir_fd}"), path)
        # Not through links: a name is what is written.
        path = os.path.join(os.path.realpath(os.path.dirname(os.path.abspath(path))), os.path.basename(path))
        return _OWN.sub("#", path.removeprefix(self.folder)) if path.startswith(self.folder) else None

    def say(self, **said):
        _os["write"](self.report, (json.dumps(said) + "\n").encode())

    def point(self, operation, when, path, named=None):
        """Come to a point; errors name what the system's would."""
        if path is None or os.getpid() != self.pid:
            return
        number, self.count = self.count, self.count + 1
        here = self.fault.get("at") == number
        if not self.fault:
            self.say(operation=operation, when=when, path=path)
        what = self.fault.get("do")
        if here:
            self.say(fired=number, operation=operation, when=when, path=path)
            if what in _SIGNALS:
                os.kill(self.pid, _SIGNALS[what])
            elif what in ("clock-forward", "clock-back"):
                _jump(_YEAR if what == "clock-forward" else -_YEAR)
            elif what in ("full", "read-only"):
                self.lasting = what
        if self.lasting == "full" and operation in ("write", "create", "mkdir") and when != "after":
            # Of the first write that finds no room, half is done.
            if operation == "write" and when == "before" and here:
                return
            raise _error("full", named)
        if self.lasting == "read-only" and operation != "write" and when == "before":
            raise _error("read-only", named)
        if here and what == "broken" and when == "before":
            raise _error("broken", named)


def _error(what, path):
    number = _ERRORS[what]
    return OSError(number, os.strerror(number), *([] if path is None else [path]))


def _jump(seconds):
    now = time.time
    time.time = lambda: now() + seconds
    nanoseconds = time.time_ns
    time.time_ns = lambda: nanoseconds() + int(seconds * 1e9)


_plan = None


class _File(io.FileIO):
    """A file whose writes are points."""

    def __init__(self, path, mode):
        self.below = _plan.below(path)
        super().__init__(path, mode)

    def write(self, content):
        content = memoryview(content).cast("B")
        _plan.point("write", "before", self.below)
        half = len(content) // 2
        done = super().write(content[:half]) if half else 0
        _plan.point("write", "during", self.below)
        done += super().write(content[half:])
        _plan.point("write", "after", self.below)
        return done


def _planted_open(file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, closefd=True, opener=None):
    path = None if isinstance(file, int) or opener is not None else _plan.below(file)
    if path is None or not set(mode) & set("wax+"):
        return _open(file, mode, buffering, encoding, errors, newline, closefd, opener)
    _plan.point("create", "before", path, os.fspath(file))
    raw = _File(file, mode.replace("b", "").replace("t", ""))
    if buffering == 0:
        return raw
    reads = "+" in mode
    buffer = (io.BufferedRandom if reads else io.BufferedWriter)(raw)
    if "b" in mode:
        return buffer
    text = io.TextIOWrapper(buffer, encoding or "utf-8", errors, newline)
    text.mode = mode
    return text


def _planted(name):
    """An operation of the system with a point before and after it."""
    do, operation = _os[name], {"replace": "rename", "rmdir": "unlink", "open": "create"}.get(name, name)

    def planted(path, *rest, **more):
        if name == "open" and not (rest and rest[0] & (os.O_CREAT | os.O_WRONLY | os.O_RDWR)):
            return do(path, *rest, **more)
        dir_fd = more.get("dir_fd")
        # A rename is known by what it makes.
        below = _plan.below(rest[0] if operation == "rename" else path, dir_fd)
        _plan.point(operation, "before", below, None if operation == "fsync" else path)
        done = do(path, *rest, **more)
        _plan.point(operation, "after", below)
        return done

    return planted


def plant(folder, report, fault=None):
    """Watch what this process does to the files below a folder, and have a fault happen at one of the points.

    Args:
        folder: The folder.
        report: File for the points, or for the one at which the fault happened.
        fault: ``do`` (kill, terminate, interrupt, full, broken, read-only, clock-forward or clock-back) and ``at``,
            the number of a point. A disk that is full or read-only stays so; one operation is broken.
    """
    global _plan
    _plan = _Plan(folder, report, fault)
    builtins.open = io.open = _planted_open
    for name in ("open", "replace", "rename", "unlink", "rmdir", "mkdir", "fsync"):
        setattr(os, name, _planted(name))
    os.remove = os.unlink
