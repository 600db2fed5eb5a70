"""Plot curves that compare runs, from the files of ``pcsa evaluate`` and the logs of ``pcsa train``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pcsa.viz.colors import Array, keypoint_colors
from pcsa.viz.legend import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


_DISTANCES = (
    ("euclidean", "Euclidean"),
    ("geodesic", "geodesic"),
    ("euclidean_symmetric", "Euclidean, symmetric"),
    ("geodesic_symmetric", "geodesic, symmetric"),
)


def plot_pck(metrics: Mapping[str, Mapping[str, Any]]) -> Figure | None:
    """Plot the share of keypoints closer than a threshold, one curve per run, one panel per kind of distance.

    As for every plot here, ``metrics`` are the files of ``pcsa evaluate`` by the name of the run; the plot is None if
    no file has its numbers.
    """
    scored = [m["overall"] for m in metrics.values() if "overall" in m]
    # Without symmetric shapes, the symmetric distances repeat the others.
    kinds = [
        (key, title)
        for key, title in _DISTANCES
        if any(key in m for m in scored)
        and (not key.endswith("_symmetric") or any(m.get(key) != m.get(key.removesuffix("_symmetric")) for m in scored))
    ]
    if not kinds:
        return None
    runs = run_styles(metrics)
    figure, panels = panels_for(len(kinds), sharey=True)
    for axes, (key, title) in zip(panels, kinds, strict=True):
        for name, m in metrics.items():
            if key in m.get("overall", {}):
                pck = 100 * _numbers(m["overall"][key]["pck"])
                axes.plot(m["thresholds"], pck, "o-", **runs[name], ms=3)
        axes.set(title=title, xlabel="threshold (units of the dataset)", ylim=(0, 102))
        axes.set_xlim(left=0)
    panels[0].set_ylabel("PCK (%)")
    legend_below(figure, panels)
    return figure


def plot_reliability(metrics: Mapping[str, Mapping[str, Any]]) -> Figure | None:
    """Plot how often a prediction is right at each confidence; on the diagonal, it is right as often as it claims."""
    curves = {name: m["overall"]["calibration"] for name, m in metrics.items() if "calibration" in m.get("overall", {})}
    if not curves:
        return None
    figure, (axes,) = panels_for(1, width=4.6, height=4.2)
    runs = run_styles(metrics)
    axes.plot([0, 1], [0, 1], color="0.7", lw=1, ls="--", zorder=1)
    for name in metrics:
        if name in curves:
            bins = curves[name]["reliability"]
            x, y = _numbers(bins["confidence"]), _numbers(bins["accuracy"])
            axes.plot(x, y, "o-", **runs[name], ms=4)
    limits = sorted({c["threshold"] for c in curves.values()})
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal", xlabel="confidence (peak probability)")
    axes.set_ylabel(f"share with an error below {', '.join(f'{x:g}' for x in limits)}")
    legend_below(figure, [axes])
    return figure


def plot_keypoints(metrics: Mapping[str, Mapping[str, Any]], category: str) -> Figure | None:
    """Plot the mean Euclidean error of each keypoint of a category, one bar per run, with the number of shapes."""
    found = ((name, m.get("per_keypoint", {}).get(category)) for name, m in metrics.items())
    tables = [(name, table) for name, table in found if table]
    if not tables:
        return None
    names = list(dict.fromkeys(k for _, table in tables for k in table))
    counts = [max(table[k].get("num_shapes", 0) for _, table in tables if k in table) for k in names]
    long = max(len(k) for k in names) > 4
    labels = [f"{_short(k, 28)} ({n})" if long else f"{_short(k)}\n({n})" for k, n in zip(names, counts, strict=True)]
    # However many keypoints there are, the picture ends; names stand upright where they are close.
    wide = float(np.clip(0.5 * len(names) + 1.5, 4.5, 24))
    close = 0.5 * len(names) + 1.5 > wide
    figure, (axes,) = panels_for(1, width=wide, height=3.0 + 0.06 * long * max(map(len, labels)))
    width, runs = 0.8 / len(tables), run_styles(metrics)
    for place, (name, table) in enumerate(tables):
        values = _numbers([table.get(k, {}).get("euclidean", {}).get("mean_error") for k in names])
        at = np.arange(len(names)) - 0.4 + (place + 0.5) * width
        axes.bar(at, values, width, **runs[name])
    axes.set_xticks(range(len(names)), labels, fontsize=max(4, 8 * min(1, 150 / len(names))), parse_math=False)
    if long or close:
        for text in axes.get_xticklabels():
            text.set(rotation=90 if close else 60, horizontalalignment="right", rotation_mode="anchor")
            text.set_verticalalignment("center" if close else "baseline")
    axes.set(ylabel="mean error (units of the dataset)", xlim=(-0.6, len(names) - 0.4))
    axes.set_title(f"{_short(category)}: keypoints (shapes that have them)", parse_math=False)
    axes.grid(axis="x", visible=False)
    legend_below(figure, [axes])
    return figure


def plot_training(logs: Mapping[str, Mapping[str, tuple[Array, Array]]]) -> Figure | None:
    """Plot what the runs logged, one panel per quantity.

    Args:
        logs: Steps and values by the name of the run and of the quantity.
    """
    quantities = list(dict.fromkeys(q for log in logs.values() for q in log))
    # The scores come first, settings last.
    quantities.sort(key=lambda q: (not q.startswith("val"), q.startswith(("lr", "temperature"))))
    if not quantities:
        return None
    figure, panels = panels_for(len(quantities))
    runs = run_styles(logs)
    for axes, quantity in zip(panels, quantities, strict=False):
        for name, log in logs.items():
            if quantity not in log:
                continue
            steps, values = log[quantity]
            if len(steps) > 60:
                axes.plot(steps, values, color=runs[name]["color"], lw=0.6, alpha=0.35)
                values = _smooth(values, len(values) // 15)
            axes.plot(steps, values, lw=1.4, marker="o" if len(steps) < 4 else "", ms=4, **runs[name])
        axes.set_title(_short(quantity), parse_math=False)
        axes.locator_params(axis="x", nbins=5)
        axes.set_xlabel("step")
    legend_below(figure, panels)
    return figure


def plot_miou(metrics: Mapping[str, Mapping[str, Any]]) -> Figure | None:
    """Plot the mIoU of keypoints found without labels over the thresholds; the floors of each run are dashed."""
    found = {name: list(miou_curves(m)) for name, m in metrics.items()}
    titles = list(dict.fromkeys(title for curves in found.values() for title, *_ in curves))
    if not titles:
        return None
    runs = run_styles(metrics)
    figure, panels = panels_for(len(titles), sharey=True)
    for axes, title in zip(panels, titles, strict=False):
        for name, curves in found.items():
            floors = 0
            for panel, row, thresholds, values in curves:
                if panel != title:
                    continue
                floor = row != "detector"
                axes.plot(
                    thresholds,
                    100 * values,
                    color=runs[name]["color"],
                    lw=1 if floor else 1.8,
                    ls=("--", ":", "-.", (0, (1, 4)), (0, (6, 2, 1, 2, 1, 2)))[floors % 5] if floor else "-",
                    label=f"{runs[name]['label']}: {row.replace('_', ' ')}" if floor else runs[name]["label"],
                )
                floors += floor
        axes.set_title(title, parse_math=False)
        axes.set(xlabel="threshold (units of the dataset)", ylim=(0, 102))
    panels[0].set_ylabel("mIoU (%)")
    legend_below(figure, panels)
    return figure


class Curve(NamedTuple):
    """A curve of :func:`plot_shots`."""

    panel: str
    name: str
    floor: bool
    """Whether it is what the training shapes alone are worth; dashed."""
    points: list[tuple[int, float, float, float]]
    """Number of training shapes, mean, and the ends of its interval."""
    whole: int
    """About how many training shapes there are in all: this place is labeled so."""


def plot_shots(curves: Sequence[Curve]) -> Figure | None:
    """Plot figures over the number of training shapes, one panel for each kind; bars are intervals over shapes."""
    panels = list(dict.fromkeys(curve.panel for curve in curves))
    if not panels:
        return None
    figure, axes_of = panels_for(len(panels))
    styles = run_styles(dict.fromkeys(curve.name for curve in curves))
    for axes, panel in zip(axes_of, panels, strict=True):
        here = [curve for curve in curves if curve.panel == panel]
        counts = sorted({count for curve in here for count, *_ in curve.points})
        for i, curve in enumerate(here):
            x, mean, low, high = np.array(curve.points).T
            # Bars beside each other, not on top of each other.
            shifted = x * 1.02 ** (i - (len(here) - 1) / 2)
            bars = np.clip([mean - low, high - mean], 0, None)
            axes.errorbar(
                shifted, mean, bars, **styles[curve.name], marker="o", ms=4, ls="--" if curve.floor else "-", lw=1.2,
                elinewidth=0.8,
            )  # fmt: skip
        axes.set_xscale("log")
        axes.set_xticks(counts, labels=["all" if count == here[0].whole else str(count) for count in counts])
        axes.minorticks_off()
        axes.set_title(_short(panel), parse_math=False)
        axes.set(xlabel="training shapes")
        axes.set_ylim(bottom=0)
    legend_below(figure, axes_of)
    return figure


def miou_curves(metrics: Mapping[str, Any]) -> Iterator[tuple[str, str, Array, Array]]:
    """Yield the curves of keypoints found without labels: panel, row (detector or floor), thresholds, values."""
    for part, shapes in (("category", "all shapes"), ("held_out", "held out")):
        scored = metrics.get(part)
        if not isinstance(scored, Mapping):
            continue
        for key, distance in (("miou_euclidean", "Euclidean"), ("miou_geodesic", "geodesic")):
            for row, values in scored["rows"].items():
                if key in values:
                    yield f"{distance}, {shapes}", row, _numbers(scored["thresholds"]), _numbers(values[key])


def panels_for(count: int, width: float = 3.9, height: float = 3.2, sharey: bool = False) -> tuple[Figure, list[Axes]]:
    """Make a figure of so many panels, three in a row."""
    from matplotlib.figure import Figure

    columns = min(count, 3)
    rows = -(-count // columns)
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharey=sharey).ravel().tolist()
    for panel in axes:
        panel.grid(alpha=0.3)
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
    for panel in axes[count:]:
        panel.remove()
    return figure, axes[:count]


def legend_below(figure: Figure, panels: Sequence[Axes]) -> None:
    """Put one legend below all panels."""
    handles: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    if not handles:
        return
    columns = int(figure.get_figwidth() / (0.095 * max(len(label) for label in handles) + 0.7))
    columns = max(1, min(columns, 4))
    # The legend has room of its own below the panels, however many names there are.
    figure.set_figheight(figure.get_figheight() + 0.22 * max(-(-len(handles) // columns) - 1, 0))
    legend = figure.legend(handles.values(), handles, loc="outside lower center", ncols=columns, frameon=False)
    # A `$` in a name is no mathematics.
    for text in legend.get_texts():
        text.set_parse_math(False)


def _short(name: str, most: int = 48) -> str:
    """Shorten a name; matplotlib's own letters have to do."""
    name = plain(name, fallback=False)
    return name if len(name) <= most else f"{name[: most // 2]}…{name[-(most // 2 - 1) :]}"


def run_styles(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return the color and the label of each run.

    The colors are those of matplotlib, or where there are more runs than it has colors for, those of keypoints.
    """
    names = list(names)
    colors = [f"C{i}" for i in range(len(names))] if len(names) <= 10 else list(keypoint_colors(len(names)))
    labels = [_short(name) for name in names]
    if len({*labels}) < len(names):  # they differ in the middle only
        labels = [plain(name, fallback=False) for name in names]
    # Matplotlib takes a label that begins with `_` for one of its own, and leaves it out.
    labels = [f" {label}" if label.startswith("_") else label for label in labels]
    return {name: {"color": c, "label": label} for name, c, label in zip(names, colors, labels, strict=True)}


def _numbers(values: Sequence[float | None]) -> Array:
    return np.array([np.nan if v is None else v for v in values], dtype=float)


def _smooth(values: Array, width: int) -> Array:
    """Return the running mean over ``width`` values, fewer at the ends and around those that are not finite."""
    kernel, finite = np.ones(max(width, 1)), np.isfinite(values)
    total = np.convolve(np.where(finite, values, 0), kernel, "same")
    count = np.convolve(finite, kernel, "same")
    return np.asarray(np.where(finite, total / np.maximum(count, 1), np.nan))
