"""What ``pcsa predict`` has found: a journal while it runs, one file at the end; the next call reads both."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pcsa.datasets.faults import reading
from pcsa.datasets.files import replacing
from pcsa.tasks.common.checkpoint import write_json


@dataclass(frozen=True)
class Entry:
    """What was found in an input, and what tells whether the input is still the same."""

    size: int
    mtime_ns: int
    pictures: list[str] | None
    """Names of its pictures, if any were asked for."""
    items: list[dict[str, Any]]
    """Its predictions, as JSON types."""


class Journal:
    """The predictions in ``out``, and in ``<out>.partial`` those of a call that has not ended.

    The latter is a line of JSON that says what the predictions are made with, and a line for each input: a call that is
    killed loses no more than the input that it was at.

    Args:
        out: A file that ends in .json or .npz; claim it before.
        made_with: What determines the predictions, as JSON types, by what a message calls it.
        overwrite: Replace what is made with something else.

    Raises:
        ValueError: If a file is made with something else, or not by ``pcsa predict``.
    """

    def __init__(self, out: Path, made_with: dict[str, Any], *, overwrite: bool = False) -> None:
        self.out, self.partial = out, out.with_name(f"{out.name}.partial")
        self.made_with, self.overwrite = made_with, overwrite
        self.entries: dict[str, Entry] = {}
        """By full path."""
        self.failed: dict[str, str] = {}
        """Reasons by full path."""
        document = _read(out)
        # Where nothing was found, nothing is lost.
        empty = document is not None and document.get("inputs") == {}
        if document and not empty and self._is_same(out, document.get("made_with")):
            with reading(out, "predictions"):
                items: dict[str, list[dict[str, Any]]] = {path: [] for path in document["inputs"]}
                for item in document["items"]:
                    items[item.pop("input")].append(item)
                self.entries = {path: Entry(**about, items=items[path]) for path, about in document["inputs"].items()}
                self.failed = {fault["input"]: fault["reason"] for fault in document["failed"]}
        lines, size = _read_lines(self.partial)
        if lines and not self._is_same(self.partial, lines[0].get("made_with")):
            lines, size = [], 0
        with reading(self.partial, "predictions"):
            for line in lines[1:]:
                path = line.pop("input")
                self.entries[path] = Entry(**line)
        out.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.partial.open("ab")
        # The line at which the call before was killed may have no end.
        self._file.truncate(size)
        self._empty = len(lines) < 2
        if not lines:
            self._write({"made_with": made_with})

    def add(self, path: str, entry: Entry) -> None:
        """Write down what was found in an input."""
        self._write({"input": path, **asdict(entry)})
        self._empty = False
        self.entries[path] = entry
        self.failed.pop(path, None)

    def finish(self, header: dict[str, Any], order: Sequence[str]) -> dict[str, Any]:
        """Write ``out``, inputs that are not in ``order`` before those that are; return what a .json file holds."""
        entries = {path: entry for path, entry in self.entries.items() if path not in set(order)}
        entries |= {path: self.entries[path] for path in order if path in self.entries}
        items = [{"input": path, **item} for path, entry in entries.items() for item in entry.items]
        document = {
            **header,
            "items": items,
            "failed": [{"input": path, "reason": reason} for path, reason in self.failed.items()],
            "made_with": self.made_with,
            "inputs": {
                path: {"size": entry.size, "mtime_ns": entry.mtime_ns, "pictures": entry.pictures}
                for path, entry in entries.items()
            },
        }
        if self.out.suffix == ".json":
            write_json(self.out, document)
        else:
            arrays: dict[str, Any] = {name: np.asarray(value) for name, value in header.items()}
            arrays["failed"] = np.array(list(self.failed.items()), str).reshape(-1, 2)
            # Arrays do not say where a row ends and its filling begins: this is what the next call reads.
            arrays["document"] = np.frombuffer(zlib.compress(json.dumps(document).encode()), np.uint8)
            with replacing(self.out) as temporary:
                np.savez(temporary, **arrays, **columns(items))
        self._file.close()
        self.partial.unlink()
        return document

    def close(self) -> None:
        """Close the journal; where nothing was found, none is left."""
        if not self._file.closed:
            self._file.close()
            if self._empty:
                self.partial.unlink()

    def _is_same(self, path: Path, made_with: Any) -> bool:
        if made_with == self.made_with:
            return True
        if self.overwrite:
            return False
        instead = "set `overwrite` to replace it, or choose another `out`"
        if not isinstance(made_with, dict):
            raise ValueError(f"`{path}` exists, and `pcsa predict` of this version did not write it: {instead}")
        names = [*self.made_with, *(name for name in made_with if name not in self.made_with)]
        name = next(name for name in names if self.made_with.get(name) != made_with.get(name))
        raise ValueError(
            f"`{path}` holds predictions that are made with another `{name}` (={made_with.get(name)!r}, now "
            f"{self.made_with.get(name)!r}): {instead}"
        )

    def _write(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line).encode() + b"\n")
        self._file.flush()


def _read(out: Path) -> dict[str, Any] | None:
    """Read what a call has written; None where there is nothing, and no ``made_with`` where it is something else."""
    if not out.exists():
        return None
    try:
        if out.suffix == ".json":
            text = out.read_text(encoding="utf-8")
        else:
            with out.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                text = zlib.decompress(arrays["document"].tobytes()).decode()
        document = json.loads(text)
        if {"made_with", "inputs", "items", "failed"} <= set(document):
            return dict(document)
    except OSError:
        raise
    except Exception:  # whatever it is, it is not ours
        pass
    return {"made_with": None}


def _read_lines(partial: Path) -> tuple[list[dict[str, Any]], int]:
    """Read the whole lines of a journal, and the bytes that they take."""
    lines: list[dict[str, Any]] = []
    size = 0
    for line in partial.read_bytes().splitlines(keepends=True) if partial.exists() else ():
        try:
            value = json.loads(line) if line.endswith(b"\n") else None
        except ValueError:
            value = None
        if not isinstance(value, dict):
            # A file of something else has no first line of ours.
            return lines or [{}], size
        lines.append(value)
        size += len(line)
    return lines, size


def columns(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Make an array of each field, with a row per item; NaN fills up what is shorter, or missing."""
    arrays = {}
    for name in dict.fromkeys(name for item in items for name in item):
        values = [np.asarray(item[name]) if name in item else None for item in items]
        shapes = [value.shape for value in values if value is not None]
        if len(set(shapes)) == 1 and len(shapes) == len(values):
            arrays[name] = np.stack([value for value in values if value is not None])
            continue
        filled = np.full((len(values), *np.max(shapes, axis=0)), np.nan)
        for row, value in zip(filled, values, strict=True):
            if value is not None:
                row[tuple(slice(n) for n in value.shape)] = value
        arrays[name] = filled
    return arrays
