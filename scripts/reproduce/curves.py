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

    A method without ``--data.shots`` has all shapes of the other folds. Methods that have no other number of shapes,
    such as means of networks, are single points.

    Args:
        study: With folds; without, it is not known how many shapes a method has, and there are no curves.
        made: Its runs.

    Returns:
        A curve for each figure, category, read-out and method but for its shots; floors of means of networks are
        those of the networks, and left out. None where no method has two numbers of shapes.

    """
    families = {name: _family(study, name) for name in study.names if name not in study.joint}
    shots = {family.shots for family in families.values() if family.shots is not None}
    if not study.folds or not shots:
        return []
    called = {family.rest: name for name, family in families.items() if family.shots is None}
    curves: dict[tuple[str, ...], Curve] = {}
    read_outs = dict.fromkeys(name for run, _ in made for name in run.read_outs)
    for column in study.columns:
        for category in dict.fromkeys(run.category for run, _ in made):
            for name, family in families.items():
                here = [m for m in made if (m.run.method, m.run.category) == (name, category) and m.row is not None]
                for read_out in read_outs:
                    floor = read_out in FLOORS
                    shapes = figures_of_shapes(here, name, category, column, read_out)
                    if not shapes or (floor and name in study.combined):
                        continue
                    title = called.get(family.rest, " ".join(family.rest))
                    key = (category, column, read_out, title)
                    curve = curves.setdefault(key, Curve(f"{category}: {column}", f"{title}, {read_out}", floor, []))
                    # The folds are of one size, or nearly.
                    of_fold = statistics.fmean(len(m.row["keypoints"]) for m in here if m.row is not None)
                    count = family.shots or round(of_fold * (study.folds - 1))
                    curve.points.append((count, *_mean_and_interval(list(shapes.values()))))
    found = [curve._replace(points=sorted(curve.points)) for curve in curves.values()]
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
