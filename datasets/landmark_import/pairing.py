"""Which file of landmarks belongs to which scan: told by their names."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pcsa.datasets.landmark_files.files import landmark_suffix


@dataclass(frozen=True)
class Pairs:
    """What belongs together.

    Attributes:
        of_scan: By the name of each scan that has some, what belongs to it, each with what its name has beyond the
            scan's (`rater1` of `A_J_rater1` and the scan `A_J`).
        without_landmarks: Names of the scans that have none.
        without_scan: What belongs to no scan.
        ambiguous: What may belong to several scans, with their names.

    """

    of_scan: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    without_landmarks: list[str] = field(default_factory=list)
    without_scan: list[str] = field(default_factory=list)
    ambiguous: dict[str, list[str]] = field(default_factory=dict)


def pair(scans: Sequence[str], landmarks: Iterable[str]) -> Pairs:
    """Pair scans and landmarks by their names.

    A name of landmarks belongs to the scan of the same name; else to the scan of the same name in another case; else to
    the one scan with the longest name that it begins with, before `_`, `-`, `.`, a blank, or a bracket.

    Args:
        scans: Names of the scans.
        landmarks: Names of the landmarks, all different.

    Example:
        >>> pair(["A", "A_J", "B"], ["A_J", "A_J_rater2", "a", "C"])
        Pairs(of_scan={'A': [('a', '')], 'A_J': [('A_J', ''), ('A_J_rater2', 'rater2')]}, without_landmarks=['B'], \
without_scan=['C'], ambiguous={})

    """
    found: dict[str, list[tuple[str, str]]] = {}
    without_scan: list[str] = []
    ambiguous: dict[str, list[str]] = {}
    lower: dict[str, list[str]] = {}
    for scan in scans:
        lower.setdefault(scan.lower(), []).append(scan)
    for name in landmarks:
        here, rest = _of(name, set(scans), lower)
        if len(here) == 1:
            found.setdefault(here[0], []).append((name, rest))
        elif here:
            ambiguous[name] = here
        else:
            without_scan.append(name)
    ordered = {scan: found[scan] for scan in scans if scan in found}
    named = {scan for names in ambiguous.values() for scan in names}
    without = [scan for scan in scans if scan not in found and scan not in named]
    return Pairs(ordered, without, without_scan, ambiguous)


def _of(name: str, scans: set[str], lower: Mapping[str, Sequence[str]]) -> tuple[list[str], str]:
    """Return the scans that a name may belong to, and what it has beyond theirs."""
    if name in scans:
        return [name], ""
    if name.lower() in lower:
        return list(lower[name.lower()]), ""
    # From the longest beginning to the shortest.
    for end in sorted((match.start() for match in re.finditer(r"[_\-. (\[]", name)), reverse=True):
        beginning, rest = name[:end], name[end:].strip("_-. ()[]")
        if beginning in scans:
            return [beginning], rest
        if beginning.lower() in lower:
            return list(lower[beginning.lower()]), rest
    return [], ""


def stem_of(path: Path) -> str:
    """Return the name of a file without its suffix, `.mrk.json` as a whole."""
    suffix = landmark_suffix(path)
    return path.name[: -len(suffix)] if suffix else path.stem
