"""The labels of a folder of scans as files: one for every scan, written as a whole with every click."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pcsa._core.json_text import parse_json
from pcsa._core.writing import replacing
from pcsa.datasets.faults import reading
from pcsa.datasets.limits import leads_out, read_whole
from pcsa.datasets.splits import SPLITS

Position = tuple[float, float, float]
Labels = dict[str, Position | None]
"""Position of each keypoint, None for one that the scan does not have. What is not known yet is not in it."""

_VERSION = 1
_SHARES = dict(zip(SPLITS, (0.8, 0.1, 0.1), strict=True))


class Sheet(NamedTuple):
    """What is known of a scan."""

    labels: Labels
    size: tuple[int, int]
    """Numbers of vertices and faces of the scan when it was labeled: a scan that has others is another one."""
    split: str | None = None
    """Split of a scan whose keypoints are all known; it stays, so that no test cloud becomes one to train on."""


class Book:
    """The labels of one category, in ``<root>/labels/<category>``.

    Args:
        root: The folder, made with the first label.
        category: Letters, digits and `_`.
        names: Names of the keypoints; empty for those of the labels that are there.

    Raises:
        ValueError: If the names are not those of the labels that are there, if there are neither, if two are equal, or
            if a file is damaged; the message names the file.

    """

    def __init__(self, root: Path, category: str, names: Sequence[str] = ()) -> None:
        self.root, self.category = Path(root), category
        self.file = names_file(self.root, category)
        self.folder = self.file.parent
        known = read_names(self.file) if self.file.exists() else []
        self.names = list(names) or known
        check_names(self.names)
        if known and known != self.names:
            raise ValueError(
                f"`names` (={','.join(self.names)}) must be those of the labels in `{self.folder}`: {','.join(known)}; "
                "another `category` or `out` begins labels of other names"
            )
        self.sheets: dict[str, Sheet] = {}
        if known:
            for path in sorted(self.folder.rglob("*.json")):
                if path != self.file and not path.name.startswith("."):
                    scan = path.relative_to(self.folder).as_posix().removesuffix(".json")
                    self.sheets[scan] = read_sheet(path, self.names)

    def __getitem__(self, scan: str) -> Labels:
        sheet = self.sheets.get(scan)
        return {} if sheet is None else dict(sheet.labels)

    def is_done(self, scan: str) -> bool:
        """Whether all keypoints of a scan are known."""
        return len(self[scan]) == len(self.names)

    @property
    def done(self) -> list[str]:
        """The scans whose keypoints are all known, in the order of their names."""
        return [scan for scan in sorted(self.sheets) if self.is_done(scan)]

    def save(self, scan: str, labels: Labels, size: tuple[int, int]) -> None:
        """Write the labels of a scan; they are on the disk when this returns.

        Raises:
            OSError: If that is not possible; then nothing has changed.

        """
        if not self.file.exists():
            with replacing(self.file) as temporary:
                temporary.write_text(json.dumps({"version": _VERSION, "names": self.names}), encoding="utf-8")
        former = self.sheets.get(scan)
        split = None if former is None else former.split
        if split is None and len(labels) == len(self.names):
            split = self._next_split()
        labels = {name: labels[name] for name in self.names if name in labels}
        sheet = Sheet(labels, size, split)
        with replacing(self._path(scan)) as temporary:
            temporary.write_text(json.dumps({"version": _VERSION, **sheet._asdict()}), encoding="utf-8")
        self.sheets[scan] = sheet

    def _path(self, scan: str) -> Path:
        if leads_out(scan):
            raise ValueError(f"`scan` (={scan!r}) must lie in the folder of the scans")
        return self.folder / f"{scan}.json"

    def _next_split(self) -> str:
        """Return the split that lacks most: the second and third scan are for val and test, then eight in ten train."""
        counts = {split: sum(sheet.split == split for sheet in self.sheets.values()) for split in SPLITS}
        for split in SPLITS:
            if not counts[split]:
                return split
        total = sum(counts.values()) + 1
        return max(SPLITS, key=lambda split: _SHARES[split] * total - counts[split])


def names_file(root: Path, category: str) -> Path:
    """Return the file that begins the labels of a category; who writes labels claims it."""
    if not re.fullmatch(r"[A-Za-z0-9_]+", category):
        raise ValueError(f"`category` (={category!r}) must be letters, digits and `_`")
    return root / "labels" / category / "names.json"


def check_names(names: Sequence[str]) -> None:
    """Raise a ValueError unless names of keypoints are some, different, and such that people can tell them apart."""
    if not names:
        raise ValueError("`names` must name the keypoints, with commas between: nose,left_ear,right_ear")
    for name in names:
        if name != name.strip() or not name or not name.isprintable():
            raise ValueError(f"`names` (has {name!r}) must be printable, without spaces around them")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"`names` (={','.join(names)}) must be different: {', '.join(twice)} occurs more than once")


def read_names(path: Path) -> list[str]:
    """Read the names of keypoints that a :class:`Book` has written.

    Raises:
        ValueError: If the file is damaged; the message names it.

    """
    with reading(path, "names of keypoints"):
        names = _versioned(path)["names"]
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError("`names` must be a list of names")
        check_names(names)
        return names


def read_sheet(path: Path, names: Sequence[str]) -> Sheet:
    """Read the labels of a scan that a :class:`Book` has written.

    Raises:
        ValueError: If the file is damaged, or has another name than one of ``names``; the message names it.

    """
    with reading(path, "labels of a scan"):
        content = _versioned(path)
        labels: Any = content["labels"]
        if not isinstance(labels, dict) or not labels.keys() <= set(names):
            raise ValueError(f"`labels` must be positions of {', '.join(names)}")
        size, split = content["size"], content["split"]
        if not (isinstance(size, list) and len(size) == 2 and all(type(n) is int and n >= 0 for n in size)):
            raise ValueError(f"`size` (={size!r}) must be two counts")
        if split not in (None, *SPLITS):
            raise ValueError(f"`split` (={split!r}) must be one of {', '.join(SPLITS)}")
        return Sheet({name: _position(name, labels[name]) for name in names if name in labels}, (*size,), split)


def _versioned(path: Path) -> Mapping[str, Any]:
    content = parse_json(read_whole(path))
    if not isinstance(content, dict) or content.get("version") != _VERSION:
        raise ValueError(f"must be labels of version {_VERSION}")
    return content


def _position(name: str, value: Any) -> Position | None:
    if value is None:
        return None
    good = isinstance(value, list) and len(value) == 3 and all(type(x) in (int, float) for x in value)
    if not good or not all(abs(x) < float("inf") for x in value):
        raise ValueError(f"the position of {name!r} (={value!r}) must be three finite numbers, or null")
    x, y, z = (float(x) for x in value)
    return x, y, z
