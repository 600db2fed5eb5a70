"""The results of a study: one row for each finished run, in text that can be committed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pcsa.datasets.faults import reading
from pcsa.datasets.files import replacing
from pcsa.scripts.reproduce.digests import row_key
from pcsa.scripts.reproduce.runs import Planned

ROWS = "results.jsonl"
SHAPES = "shapes"
# What a row has for each shape; the names of `run` are those of the runs' folders.
_BY_SHAPE = ("keypoints", "shapes")
# And what it has for each keypoint and each mark, if it has.
_BY_KEYPOINT = ("confidence", "marks")


class Results:
    """Rows in ``<folder>/results.jsonl`` and their figures by shape in ``<folder>/shapes/<category>.jsonl``.

    Both files have a line for each run, in an order of their own, so that a new run adds lines and changes none.
    Several processes may add to them at once.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: dict[str, dict[str, Any]] = {}
        self.load()

    def load(self) -> None:
        """Read what is there."""
        self.rows = {}
        shapes = {}
        for file in sorted((self.folder / SHAPES).glob("*.jsonl")):
            with reading(file, "rows of shapes"):
                shapes.update({(file.stem, line["run"]): line for line in _lines(file)})
        for row in _lines(self.folder / ROWS):
            with reading(self.folder / ROWS, "rows of runs"):
                line = shapes.get((row["category"], row["run"]), {})
                row |= {name: line.get(name, {}) for name in _BY_SHAPE}
                row |= {name: line[name] for name in _BY_KEYPOINT if name in line}
                self.rows[row_key(row)] = row

    def row(self, planned: Planned) -> dict[str, Any] | None:
        """The row of a run; None if there is none, or if it lacks a read-out."""
        row = self.rows.get(planned.key)
        return row if row is not None and set(planned.read_outs) <= row["figures"].keys() else None

    def add(self, row: Mapping[str, Any]) -> None:
        """Add a row, or replace that of the same run, and write it down."""
        from filelock import FileLock

        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / ".results.lock"):
            # Another process may have written since.
            self.load()
            self.rows[row_key(row)] = dict(row)
            rows = sorted(self.rows.values(), key=_order)
            apart = (*_BY_SHAPE, *_BY_KEYPOINT)
            plain = [{name: value for name, value in row.items() if name not in apart} for row in rows]
            mine = [other for other in rows if other["category"] == row["category"] and other["keypoints"]]
            if mine:
                lines = [{name: other[name] for name in ("run", *apart) if other.get(name)} for other in mine]
                _write(self.folder / SHAPES / f"{row['category']}.jsonl", lines)
            # Last: a row that is there is there with its shapes.
            _write(self.folder / ROWS, plain)


def _order(row: Mapping[str, Any]) -> tuple[Any, ...]:
    fold = -1 if row["fold"] is None else row["fold"]
    return row["category"], row["method"], fold, row["seed"], row["digest"]


def _lines(file: Path) -> list[dict[str, Any]]:
    if not file.exists():
        return []
    with reading(file, "a file of JSON lines"):
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line]


def _write(file: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    text = "".join(json.dumps(row, separators=(",", ":"), ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    with replacing(file) as temporary:
        temporary.write_text(text, encoding="utf-8")


def finished_rows(out: Path) -> Iterator[dict[str, Any]]:
    """The rows that runs have left in their folders, below that of a study."""
    for file in sorted(out.glob("*/*/row.json")):
        with reading(file, "the row of a run"):
            yield json.loads(file.read_text(encoding="utf-8"))
