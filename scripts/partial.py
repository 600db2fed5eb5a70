"""Lines that a call writes while it runs, so that one that is killed loses little: the next call goes on from them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from dataclasses import fields
from io import FileIO
from pathlib import Path
from typing import Any

import pcsa
from pcsa._core.writing import append
from pcsa.datasets.limits import read_whole
from pcsa.tasks.common.config import to_plain
from pcsa.tasks.common.task import EvaluateOptions, PredictOptions


class Partial:
    """``<out>.partial``: a line of JSON that says what is found by what, and a line for each part that is found.

    Nothing is written before the first part is.

    Args:
        out: The file that the call will write; claim it before.
        made_with: What determines what is found, as JSON types, by what a message calls it.
        of: The command and what it finds: ("predict", "predictions").
        overwrite: Discard what is made with something else.

    Attributes:
        path: The file.
        lines: What a call has left, after the first line.

    Raises:
        ValueError: If it is made with something else, or not by the command.
    """

    def __init__(self, out: Path, made_with: dict[str, Any], of: tuple[str, str], *, overwrite: bool = False) -> None:
        self.path, self.made_with = out.with_name(f"{out.name}.partial"), made_with
        lines, self._size = _read_lines(self.path)
        # Where nothing was found, nothing is lost.
        empty = len(lines) == 1 and "made_with" in lines[0]
        if empty or (lines and not is_same(self.path, lines[0].get("made_with"), made_with, of, overwrite=overwrite)):
            lines, self._size = [], 0
        self.lines = lines[1:]
        self._file: FileIO | None = None

    def add(self, line: dict[str, Any]) -> None:
        """Write down a part."""
        text = json.dumps(line) + "\n"
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("ab", buffering=0)
            # The line at which the call before was killed may have no end.
            self._file.truncate(self._size)
            if self._size == 0:
                text = json.dumps({"made_with": self.made_with}) + "\n" + text
        append(self._file, text.encode())

    def close(self) -> None:
        """Close the file, and leave it for the next call."""
        if self._file is not None:
            self._file.close()

    def finish(self) -> None:
        """Remove the file: what it tells is written elsewhere."""
        self.close()
        self.path.unlink(missing_ok=True)


def is_same(path: Path, before: Any, now: dict[str, Any], of: tuple[str, str], *, overwrite: bool = False) -> bool:
    """Whether a file is made with what a call is made with; False where it is not and may be overwritten.

    Raises:
        ValueError: If it is not, and may not be overwritten; the message names the first difference.
    """
    if before == now:
        return True
    if overwrite:
        return False
    command, what = of
    instead = "set `overwrite` to replace it, or choose another `out`"
    if not isinstance(before, dict):
        raise ValueError(f"`{path}` exists, and `pcsa {command}` of this version did not write it: {instead}")
    name = next(name for name in {**now, **before} if now.get(name) != before.get(name))
    raise ValueError(
        f"`{path}` holds {what} that are made with another `{name}` (={before.get(name)!r}, now "
        f"{now.get(name)!r}): {instead}"
    )


def determining(options: PredictOptions | EvaluateOptions, but_for: Collection[str]) -> dict[str, Any]:
    """The version and the options that determine a result, all ``but_for`` some, as JSON types; files by content."""
    named = {field.name: getattr(options, field.name) for field in fields(options) if field.name not in but_for}
    return {"version": pcsa.__version__, **{name: _plain(value) for name, value in named.items()}}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    if not isinstance(value, Path):
        return to_plain(value)
    if value.is_dir():
        return str(value.resolve())
    with value.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _read_lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Read the whole lines of a file, and the bytes that they take."""
    lines: list[dict[str, Any]] = []
    size = 0
    for line in read_whole(path).splitlines(keepends=True) if path.exists() else ():
        try:
            value = json.loads(line) if line.endswith(b"\n") else None
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            # A file of something else has no first line of ours.
            return lines or [{}], size
        lines.append(value)
        size += len(line)
    return lines, size
