"""What few shots teach: the figures of methods that differ in their number of training shapes alone, as curves."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple

import torch

from pcsa.metrics.selection import shape_interval
from pcsa.scripts.reproduce.study import Study
from pcsa.scripts.reproduce.tables import Made, figures_of_shapes
from pcsa.tasks.common.read_outs import FLOORS
from pcsa.viz.plots import Curve

_SHOTS = "--data.shots"


def shot_curves(study: Study, made: Sequence[Made]) -> list[Curve]:
    """Curves of the figures that shapes have, over the number of training shapes.

    A method without ``--data.shots`` has all shapes of the other folds, and stands at about their number. Methods that
    have no other number of shapes, such as means of networks, are single points. All points of a panel are over the
    same shapes: those that every method with a finished run has.

    Args:
        study: With folds; without, it is not known how many shapes a method has, and there are no curves.
        made: Its runs.

    Returns:
        A curve for each figure, category, read-out and method but for its shots; floors of means of networks are
        those of the networks, and left out. None where no method has two numbers of shapes.

    """
    families = {name: _family(study, name) for name in study.names if name not in study.joint}
    if not study.folds or all(family.shots is None for family in families.values()):
        return []
    called = {family.rest: name for name, family in families.items() if family.shots is None}
    read_outs = dict.fromkeys(name for run, _ in made for name in run.read_outs)
    found: list[Curve] = []
    for column in study.columns:
        for category in dict.fromkeys(run.category for run, _ in made):
            curves: dict[tuple[str, str], Curve] = {}
            figures = {
                (name, read_out): shapes
                for name in families
                for read_out in read_outs
                if not (read_out in FLOORS and name in study.combined)
                and (shapes := figures_of_shapes(made, name, category, column, read_out))
            }
            same = sorted(set.intersection(*(set(shapes) for shapes in figures.values()))) if figures else []
            if not same:
                continue
            # The folds are of one size, or nearly; no row says how many shapes it was trained on.
            of_fold = [len(m.row["keypoints"]) for m in made if m.row is not None and m.run.category == category]
            whole = round(statistics.fmean(of_fold) * (study.folds - 1))
            for (name, read_out), shapes in figures.items():
                rest, shots = families[name]
                title = f"{called.get(rest, ' '.join(rest))}, {read_out}"
                curve = Curve(f"{category} ({len(same)}): {column}", title, read_out in FLOORS, [], whole)
                point = (shots or whole, *_mean_and_interval([shapes[shape] for shape in same]))
                curves.setdefault((title, read_out), curve).points.append(point)
            found += [curve._replace(points=sorted(curve.points)) for curve in curves.values()]
    return found if any(len(curve.points) > 1 for curve in found) else []


class _Family(NamedTuple):
    """A method but for its shots, and these."""

    rest: tuple[str, ...]
    shots: int | None


def _family(study: Study, name: str) -> _Family:
    if name in study.combined:
        of = study.combined[name]
        rest, shots = _family(study, of.of)
        return _Family((*rest, f"{of.networks} networks, {of.test_time} variations"), shots)
    words, others, shots = iter(study.arguments(name)), list[str](), None
    for word in words:
        option, _, value = word.partition("=")
        if option == _SHOTS:
            shots = int(value or next(words))
        else:
            others.append(word)
    return _Family(tuple(others), shots)


def _mean_and_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """A mean over shapes, and its 95 % interval."""
    found = torch.tensor(values, dtype=torch.double)
    return float(found.mean()), *shape_interval(lambda rows: found[rows].mean(), torch.arange(len(found)))
