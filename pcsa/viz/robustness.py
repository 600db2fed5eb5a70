"""Plot how scores fall on clouds that are broken in many ways."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pcsa.viz.plots import legend_below, panels_for, run_styles

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# What stands in the files as a share or factor is read off the axis; the clouds as they are come first.
_TITLES = {
    "heading": ("turned about the upright", "degrees"),
    "rotation": ("turned about any axis", "degrees"),
    "noise": ("noise", "deviation, % of the diagonal"),
    "thinning": ("fewer points", "points kept"),
    "density": ("uneven density, a quarter of the points", "factor from end to end"),
    "occlusion": ("occlusion", "view points that see a kept point"),
    "outliers": ("outliers", "% of the points, added"),
    "missing": ("a missing part", "% of the points, cut off"),
    "sampling": ("sampled anew on the mesh", "way of sampling"),
}
_PERCENT = ("noise", "outliers", "missing")


def plot_robustness(results: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Plot the share of right keypoints over the levels of each kind of corruption, a panel for each kind.

    Bars are 95 % intervals of the change against the whole clouds, over shapes. Dashed is the mean error, in percent of
    the clouds' diagonal; in the panel of missing parts, dotted is the share of keypoints that are gone and of which the
    network says that they are there. Of detectors, a last panel has the likelihood of annotated keypoints under
    bandwidths from neighbors, above that under a constant one.

    Args:
        results: Files of ``pcsa evaluate --robustness`` by the name of the run.
    """
    kinds = [kind for kind in _TITLES if any(row["kind"] == kind for r in results.values() for row in r["rows"])]
    gains = {name: rows for name, r in results.items() if (rows := [row for row in r["rows"] if _gain(row)])}
    figure, panels = panels_for(len(kinds) + bool(gains))
    styles = run_styles(results)
    for axes, kind in zip(panels, kinds, strict=False):
        title, label = _TITLES[kind]
        levels: list[Any] = []
        for result in results.values():
            levels += [row["level"] for row in result["rows"] if row["kind"] == kind and row["level"] not in levels]
        for name, result in results.items():
            _draw(axes, result["rows"], kind, levels, styles[name])
            _draw_beside(axes, result, kind, levels, styles[name]["color"])
        shown = [_shown(level, kind) for level in levels]
        axes.set_xticks(range(len(levels) + 1), ["whole", *shown], fontsize=8)
        axes.set(title=title, xlabel=label, ylim=(-2, 102), xlim=(-0.3, len(levels) + 0.3))
    if gains:
        _draw_gains(panels[-1], gains, styles)
    thresholds = sorted({f"{r['threshold']:.3g}" for r in results.values()})
    for axes in panels[0 : len(kinds) : 3]:
        axes.set_ylabel(f"% within {', '.join(thresholds)}\ndashed: error, % of the diagonal", fontsize=8)
    legend_below(figure, panels)
    return figure


def _draw(axes: Any, rows: Sequence[Mapping[str, Any]], kind: str, levels: Sequence[Any], style: Any) -> None:
    places, values, below, above = [], [], [], []
    for row in rows:
        place = 0 if row["kind"] == "whole" else levels.index(row["level"]) + 1 if row["kind"] == kind else None
        if place is None or row["right"] is None:
            continue
        change = row.get("difference", {"mean": 0.0, "low": 0.0, "high": 0.0})
        places.append(place)
        values.append(100 * row["right"])
        below.append(100 * (change["mean"] - change["low"]))
        above.append(100 * (change["high"] - change["mean"]))
    axes.errorbar(places, values, yerr=[below, above], marker="o", ms=4, lw=1.4, capsize=2, elinewidth=1, **style)


def _draw_beside(axes: Any, result: Mapping[str, Any], kind: str, levels: Sequence[Any], color: Any) -> None:
    rows = [row for row in result["rows"] if row["kind"] in ("whole", kind)]
    places = [0 if row["kind"] == "whole" else levels.index(row["level"]) + 1 for row in rows]
    unit = result["diagonal"] or 1.0
    errors = [math.nan if row["error"] is None else 100 * row["error"] / unit for row in rows]
    axes.plot(places, errors, "--", color=color, lw=1)
    gone = [row.get("present_gone") for row in rows]
    if kind == "missing" and any(value is not None for value in gone):
        shares = [math.nan if value is None else 100 * value for value in gone]
        axes.plot(places, shares, ":", color=color, lw=1.4, label="gone, said to be there")


def _gain(row: Mapping[str, Any]) -> Any:
    return row.get("likelihood", {}).get("gain")


def _draw_gains(axes: Any, gains: Mapping[str, Sequence[Mapping[str, Any]]], styles: Mapping[str, Any]) -> None:
    names = list(dict.fromkeys(_named(row) for rows in gains.values() for row in rows))
    for name, rows in gains.items():
        places = [names.index(_named(row)) for row in rows]
        found = [_gain(row) for row in rows]
        bars = [[g["mean"] - g["low"] for g in found], [g["high"] - g["mean"] for g in found]]
        axes.errorbar(places, [g["mean"] for g in found], yerr=bars, fmt="o", ms=4, capsize=2, **styles[name])
    axes.axhline(0, color="0.5", lw=1)
    axes.set_xticks(range(len(names)), names, fontsize=7, rotation=60, ha="right", rotation_mode="anchor")
    axes.set(title="own bandwidths against a constant", ylabel="nats gained per keypoint")


def _named(row: Mapping[str, Any]) -> str:
    return "whole" if row["kind"] == "whole" else f"{row['kind']} {_shown(row['level'], row['kind'])}"


def _shown(level: Any, kind: str) -> str:
    if isinstance(level, str):
        return level
    return f"{100 * level if kind in _PERCENT else level:g}"
