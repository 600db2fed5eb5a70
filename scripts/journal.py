"""What ``pcsa predict`` has found: a journal while it runs, one file at the end; the next call reads both."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pcsa.datasets.arrays import read_arrays
from pcsa.datasets.faults import reading
from pcsa.datasets.files import replacing
from pcsa.datasets.limits import MOST_UNPACKED, check_regular, check_unpacked
from pcsa.scripts.partial import Partial, is_same
from pcsa.tasks.common.checkpoint import write_json

_OF = ("predict", "predictions")


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
        self.out, self.made_with = out, made_with
        self.entries: dict[str, Entry] = {}
        """By full path."""
        self.failed: dict[str, str] = {}
        """Reasons by full path."""
        document = _read(out)
        # Where nothing was found, nothing is lost.
        empty = document is not None and document.get("inputs") == {}
        if document and not empty and is_same(out, document.get("made_with"), made_with, _OF, overwrite=overwrite):
            with reading(out, "predictions"):
                items: dict[str, list[dict[str, Any]]] = {path: [] for path in document["inputs"]}
                for item in document["items"]:
                    items[item.pop("input")].append(item)
                self.entries = {path: Entry(**about, items=items[path]) for path, about in document["inputs"].items()}
                self.failed = {fault["input"]: fault["reason"] for fault in document["failed"]}
        self._partial = Partial(out, made_with, _OF, overwrite=overwrite)
        with reading(self._partial.path, "predictions"):
            for line in self._partial.lines:
                path = line.pop("input")
                self.entries[path] = Entry(**line)

    def add(self, path: str, entry: Entry) -> None:
        """Write down what was found in an input."""
        self._partial.add({"input": path, **asdict(entry)})
        self.entries[path] = entry
        self.failed.pop(path, None)

    def finish(self, header: dict[str, Any], order: Sequence[str], *, write: bool = True) -> dict[str, Any]:
        """Write ``out``, inputs that are not in ``order`` before those that are; return what a .json file holds.

        Without ``write`` it is written elsewhere, and only the journal is removed.
        """
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
        if not write:
            pass
        elif self.out.suffix == ".json":
            write_json(self.out, document)
        else:
            arrays: dict[str, Any] = {name: np.asarray(value) for name, value in header.items()}
            arrays["failed"] = np.array(list(self.failed.items()), str).reshape(-1, 2)
            # Arrays do not say where a row ends and its filling begins: this is what the next call reads.
            arrays["document"] = np.frombuffer(zlib.compress(json.dumps(document).encode()), np.uint8)
            with replacing(self.out) as temporary:
                np.savez(temporary, **arrays, **columns(items))
        self._partial.finish()
        return document

    def close(self) -> None:
        """Close the journal; where nothing was found, none is left."""
        self._partial.close()


def _read(out: Path) -> dict[str, Any] | None:
    """Read what a call has written; None where there is nothing, and no ``made_with`` where it is something else."""
    if not out.exists():
        return None
    check_regular(out)
    try:
        if out.suffix == ".json":
            text = out.read_text(encoding="utf-8")
        else:
            document = read_arrays(out, ["document"])["document"]
            unpacked = zlib.decompressobj().decompress(document.tobytes(), MOST_UNPACKED + 1)
            check_unpacked("the document", len(unpacked), out)
            text = unpacked.decode()
        document = json.loads(text)
        if {"made_with", "inputs", "items", "failed"} <= set(document):
            return dict(document)
    except OSError as error:
        if error.filename is not None:  # else a library's own, about what is in the file
            raise
    except Exception:  # whatever it is, it is not ours
        pass
    return {"made_with": None}


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
