"""Pictures of clouds and keypoints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor


class Panel(NamedTuple):
    """One cloud in a picture: its title, points [N, 3], annotated and predicted keypoints [K, 3], visible [K]."""

    title: str
    pos: Tensor
    annotated: Tensor
    predicted: Tensor
    visible: Tensor


def keypoint_colors(num_keypoints: int) -> npt.NDArray[np.float64]:
    """One color per column, [K, 3] in 0 to 1; the same column always has the same color.

    Hues are a golden-ratio walk around the circle, so that the first few of any number are far apart, in two
    alternating degrees of lightness.
    """
    from matplotlib.colors import hsv_to_rgb

    k = np.arange(num_keypoints)
    value = np.where(k % 2 == 0, 0.95, 0.7)
    return np.asarray(hsv_to_rgb(np.stack([(k * 0.61803398875) % 1.0, np.full(num_keypoints, 0.9), value], -1)))


def save_panels(path: Path, panels: Sequence[Panel], names: Sequence[str], columns: int = 3) -> None:
    """Draw clouds with annotated (rings) and predicted keypoints (dots), joined where they differ; y is up.

    Args:
        path: The PNG to write.
        panels: One for each cloud.
        names: Name of each keypoint, for the legend.
        columns: Clouds in a row.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    if not panels:
        raise ValueError("`panels` must hold at least one cloud")
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4.2 * columns + 2.6, 4.2 * rows), dpi=110, layout="constrained")
    colors = keypoint_colors(len(names))
    for i, panel in enumerate(panels):
        axes = figure.add_subplot(rows, columns, i + 1, projection="3d")
        _draw(axes, panel, colors)
    seen = np.any([p.visible.numpy() for p in panels], axis=0)
    handles = [
        Line2D([], [], marker="o", linestyle="", markerfacecolor="none", markeredgecolor="k", label="annotated"),
        Line2D([], [], marker="o", linestyle="", color="k", markersize=4, label="predicted"),
        *(
            Line2D([], [], marker="o", linestyle="", color=colors[k], label=names[k])
            for k in np.flatnonzero(seen).tolist()
        ),
    ]
    figure.legend(handles=handles, loc="outside right center", fontsize=8, frameon=False)
    figure.savefig(path)


def _draw(axes, panel: Panel, colors: npt.NDArray[np.float64]) -> None:  # type: ignore[no-untyped-def]
    def upright(x: Tensor) -> npt.NDArray[np.float64]:
        """From y up to matplotlib's z up, without mirroring: (x, y, z) to (x, -z, y)."""
        a = x.double().numpy()
        return np.stack([a[..., 0], -a[..., 2], a[..., 1]], -1)

    pos = upright(panel.pos)
    axes.scatter(*pos.T, s=2, c="0.72", linewidths=0, depthshade=False)
    visible = panel.visible.numpy()
    for k in np.flatnonzero(visible).tolist():
        a, p = upright(panel.annotated[k]), upright(panel.predicted[k])
        axes.plot(*np.stack([a, p]).T, color=colors[k], linewidth=1.0)
        axes.scatter(*a, s=70, facecolors="none", edgecolors=[colors[k]], linewidths=1.4, depthshade=False)
        axes.scatter(*p, s=16, c=[colors[k]], linewidths=0, depthshade=False)
    low, high = pos.min(0), pos.max(0)
    center, half = (low + high) / 2, max((high - low).max() / 2, 1e-6)
    for set_limits, c in zip((axes.set_xlim, axes.set_ylim, axes.set_zlim), center, strict=True):
        set_limits(c - half, c + half)
    axes.set_box_aspect((1, 1, 1), zoom=1.35)
    axes.view_init(elev=20, azim=-60)
    axes.set_axis_off()
    axes.set_title(panel.title[:24], fontsize=8)
