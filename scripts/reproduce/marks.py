"""How the covariances of a study's runs stand against marks of several people, over all folds together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_SUFFIXES = {
    "": "predicted",
    ", calibrated": "calibrated",
    ", constant": "constant",
    ", constant for each keypoint": "constant_per_keypoint",
    ", mixture": "mixture",
    ", mixture, calibrated": "mixture_calibrated",
}
_FIGURES = {"nats per mark": "log_likelihood", "gain over the constant": "gain"}
_SPREADS = "r of the spreads"


def marks_by_shape(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """What a row has of each shape whose keypoints several people marked, by the read-out that was asked for."""
    shapes = metrics.get("marks", {}).get("per_shape")
    return {metrics["read_out"]: shapes} if shapes else {}


def mark_figure(column: str, rows: Sequence[Mapping[str, Any]], read_out: str) -> float | None:
    """A figure of the shapes of several rows together; None if the column is none of these, or rows lack them.

    What a fold is calibrated by is fitted on all others, whose shapes its network was trained on and theirs were not;
    of a single row, on other groups of its shapes.
    """
    name, _, rest = column.partition(",")
    level = _level(name)
    suffix = f",{rest}" if rest else ""
    if column != _SPREADS and not (suffix in _SUFFIXES and (level is not None or name in _FIGURES)):
        return None
    parts = [row.get("marks", {}).get(read_out) for row in rows]
    if not parts or any(not part for part in parts):
        return None
    from pcsa.tasks.common.held_to_marks import deal, mark_scores, read

    shapes = [shape for part in parts for shape in part.values()]
    groups = [shape["group"] for shape in shapes]
    folds = [i for i, part in enumerate(parts) for _ in part] if len(parts) > 1 else deal(groups)
    scores = mark_scores(read(shapes), (), groups, folds, intervals=False)
    if scores is None:
        return None
    if column == _SPREADS:
        value = scores["spread_correlation"]["pearson"]
        return None if value is None else float(value)
    found = scores["rows"].get(_SUFFIXES[suffix], {})
    if level is None:
        value = found.get(_FIGURES[name])
        return None if value is None else float(value)
    if "coverage" not in found or level not in scores["levels"]:
        return None
    return 100 * float(found["coverage"][scores["levels"].index(level)])


def _level(name: str) -> float | None:
    """The probability in `marks inside 50 %`."""
    words = name.split()
    if words[:2] != ["marks", "inside"] or words[3:] != ["%"] or not words[2].isdigit():
        return None
    return int(words[2]) / 100
