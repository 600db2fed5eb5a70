"""Pictures of clouds and keypoints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Panel(NamedTuple):
    """One cloud in a picture: its title, points [N, 3], annotated and predicted keypoints [K, 3], visible [K]."""

    title: str
    pos: Tensor
    annotated: Tensor
    predicted: Tensor
    visible: Tensor


def keypoint_colors(num_keypoints: int) -> npt.NDArray[np.float64]:
    """One color per column, [K, 3] in 0 to 1; the same column always has the same color.

    Hues are a golden-ratio walk around the circle, so that the first few of any number are far apart. The walk comes
    back to almost the same hue after 8, 13, 21, … steps: five shades in turn differ there.
    """
    from matplotlib.colors import hsv_to_rgb

    k = np.arange(num_keypoints)
    shades = np.array([[0.9, 0.95], [0.95, 0.5], [0.45, 0.95], [0.55, 0.65], [1.0, 0.75]])
    return np.asarray(hsv_to_rgb(np.concatenate([(k[:, None] * 0.61803398875) % 1.0, shades[k % 5]], 1)))


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
    colors = keypoint_colors(len(names))
    flat = [_project(panel.pos) for panel in panels]
    # All panels have the shape of the widest and the highest cloud, each at a scale of its own.
    extents = np.stack([np.ptp(f[:, :2], axis=0) for f in flat])
    width, height = (extents / np.maximum(extents.max(1, keepdims=True), 1e-9)).max(0).clip(min=0.4)
    figure = Figure(figsize=(3.6 * width * columns + 1.6, (3.6 * height + 0.3) * rows), dpi=150, layout="constrained")
    for i, panel in enumerate(panels):
        _draw(figure.add_subplot(rows, columns, i + 1), panel, colors)
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


def _project(x: Tensor) -> npt.NDArray[np.float64]:
    """Positions right, up and towards the viewer, who sees the front (-z, as in ShapeNet) from a little above."""
    turn, tilt = np.radians(145), np.radians(20)
    right = [np.cos(turn), 0.0, -np.sin(turn)]
    up = [-np.sin(tilt) * np.sin(turn), np.cos(tilt), -np.sin(tilt) * np.cos(turn)]
    near = [np.cos(tilt) * np.sin(turn), np.sin(tilt), np.cos(tilt) * np.cos(turn)]
    return x.double().numpy() @ np.array([right, up, near]).T


def _draw(axes: Axes, panel: Panel, colors: npt.NDArray[np.float64]) -> None:
    pos = _project(panel.pos)
    pos = pos[pos[:, 2].argsort()]
    depth = (pos[:, 2] - pos[0, 2]) / max(pos[-1, 2] - pos[0, 2], 1e-9)
    axes.scatter(pos[:, 0], pos[:, 1], s=3, c=0.88 - 0.38 * depth, cmap="gray", vmin=0, vmax=1, linewidths=0)
    annotated, predicted = _project(panel.annotated), _project(panel.predicted)
    for k in np.flatnonzero(panel.visible.numpy()).tolist():
        (ax, ay, _), (px, py, _) = annotated[k], predicted[k]
        axes.plot([ax, px], [ay, py], color=colors[k], linewidth=1.0)
        axes.scatter(ax, ay, s=60, facecolors="none", edgecolors=[colors[k]], linewidths=1.5, zorder=3)
        axes.scatter(px, py, s=18, c=[colors[k]], linewidths=0, zorder=4)
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_axis_off()
    axes.set_title(panel.title[:24], fontsize=8)
