"""Turn what is drawn upright: renderers draw scenes whose axis y points up."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pcsa.viz.colors import Array
from pcsa.viz.scene import Scene, Up

# Rows of the frame with y up, in which a shape turns no more than it must and keeps its left and right.
_TURNS: dict[Up, list[list[float]]] = {
    "x": [[0, -1, 0], [1, 0, 0], [0, 0, 1]],
    "z": [[1, 0, 0], [0, 0, 1], [0, -1, 0]],
}


def to_upright(up: Up) -> Array:
    """Return the rotation [3, 3] by which columns of positions whose axis ``up`` points up have y up."""
    return np.array(_TURNS.get(up, np.eye(3)), np.float64)


def upright(scene: Scene) -> Scene:
    """Return a scene with y up: itself where it is so, else turned, to the last bit, for axes only change places.

    Example:
        >>> upright(Scene([[1.0, 2.0, 3.0]], up="z")).pos
        array([[ 1.,  3., -2.]])
    """
    if scene.up == "y":
        return scene
    turn = to_upright(scene.up)
    # What is not drawn may be not finite: a product would spread that over the axes.
    place, sign = np.abs(turn).argmax(1), turn.sum(1)
    moved = {
        name: getattr(scene, name)[..., place] * sign
        for name in ("pos", "keypoints", "annotated", "samples", "vertices")
        if getattr(scene, name) is not None
    }
    if scene.covariance is not None:
        moved["covariance"] = scene.covariance[..., place[:, None], place] * sign[:, None] * sign
    return replace(scene, up="y", **moved)
