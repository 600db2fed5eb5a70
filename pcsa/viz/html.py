"""Write a page to share: one file to turn, look into and leaf through in a browser, without a network."""

from __future__ import annotations

import base64
import json
from collections.abc import Collection, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcsa.viz.colors import heat, keypoint_colors, strengths
from pcsa.viz.scene import LAYERS, Array, Scene, deviations, shading, thin, view_axes

MAX_POINTS = 10_000
"""Most points drawn of one shape, so that a page is small enough for mail."""


def save_html(
    path: Path | str, scenes: Sequence[Scene], *, title: str = "pcsa", layers: Collection[str] = LAYERS
) -> None:
    """Write scenes as one page that works offline.

    It has a slider over the scenes, a switch for each layer, tooltips (name, confidence, error), and a list of the
    keypoints, where a click shows a keypoint's probability map. Drawn with `plotly.js <https://plotly.com/javascript>`_
    (MIT), which the page contains: 4.8 MB, whatever the number of scenes.

    Args:
        path: The file to write; its folder is made if need be.
        scenes: What the page shows, at least one scene.
        title: Title of the page.
        layers: Those switched on at first.

    Raises:
        ValueError: If there is no scene, or plotly is missing.
    """
    if not scenes:
        raise ValueError("`scenes` must hold at least one scene")
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise ValueError(f"pages take plotly: pip install 'pcsa[viz]' ({error})") from None
    scenes = [thin(scene, MAX_POINTS) for scene in scenes]
    data = {
        "title": title,
        "layers": [name for name in LAYERS if any(name in scene.layers for scene in scenes)],
        "shown": [name for name in LAYERS if name in layers],
        "eye": view_axes()[2].tolist(),
        "heat": _scale(heat(np.linspace(0, 1, 9))),
        "strength": _scale(strengths(np.linspace(0, 1, 9))),
        "scenes": [_plain(scene) for scene in scenes],
    }
    # In a script, only `<` could end it or open a comment.
    text = json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    page = resources.files("pcsa.viz").joinpath("viewer.html").read_text(encoding="utf-8")
    library = get_plotlyjs().replace("</script", "<\\/script")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    head, tail = page.split("/*PLOTLY*/")
    middle, tail = tail.split("/*DATA*/")
    path.write_text(head + library + middle + text + tail, encoding="utf-8")


def _plain(scene: Scene) -> dict[str, Any]:
    """Convert a scene to JSON types. Positions are relative to the middle, in units of half the size of the whole."""
    marks = ((scene.keypoints, scene.drawn), (scene.annotated, scene.annotations), (scene.vertices, slice(None)))
    everything = np.concatenate([scene.pos, *(value[there] for value, there in marks if value is not None)])
    low, high = everything.min(0), everything.max(0)
    middle, half = (low + high) / 2, float((high - low).max()) / 2 or 1.0

    def place(x: Array) -> Array:
        return np.asarray((x - middle) / half)

    def places(value: Array | None, there: NDArray[np.bool_]) -> list[Any]:
        return [_rounded(place(value[k])) if value is not None and ok else None for k, ok in enumerate(there)]

    K = scene.num_keypoints
    columns = {
        "name": [str(name) for name in scene.names],
        "color": [_css(color) for color in keypoint_colors(scene.ids)],
        "predicted": places(scene.keypoints, scene.drawn),
        "annotated": places(scene.annotated, scene.annotations),
        "confidence": [None] * K if scene.confidence is None else [_number(x) for x in scene.confidence],
        "error": [_number(x) for x in scene.error],
    }
    plain: dict[str, Any] = {
        "title": scene.title,
        "note": scene.note,
        "pos": _packed(place(scene.pos)),
        "keypoints": [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)],
    }
    if scene.color is not None:
        plain["color"] = _bytes(scene.color)
    else:
        plain["shade"] = _bytes(0.50 + 0.36 * shading(scene.pos, view_axes()[2] + np.array([0, 0.7, 0])))
    if scene.prob is not None:
        largest = scene.prob.max(0)
        plain["prob"] = [_bytes(column) for column in (scene.prob / np.maximum(largest, 1e-30)).T]
        plain["largest"] = [_number(x) for x in largest]
    if "covariance" in scene.layers:
        axes = deviations(np.where(scene.drawn[:, None, None], scene.covariance, 0.0))
        plain["axes"] = _rounded(np.swapaxes(axes, 1, 2) / half)
    if "samples" in scene.layers:
        plain["samples"] = [_packed(place(x)) if ok else None for x, ok in zip(scene.samples, scene.drawn, strict=True)]
    if "skeleton" in scene.layers:
        plain["segments"] = scene.segments.tolist()
        plain["activation"] = _rounded(np.ones(len(scene.segments)) if scene.activation is None else scene.activation)
    if "mesh" in scene.layers:
        plain["vertices"], plain["faces"] = _packed(place(scene.vertices)), scene.faces.T.tolist()
        if scene.vertex_color is not None:
            plain["vertex_color"] = (np.clip(scene.vertex_color, 0, 1) * 255).round().astype(int).tolist()
    return plain


def _packed(x: Array) -> str:
    """Encode positions as 16-bit integers, 1/16,000 of half the size apart; cut off at twice the size."""
    return _base64(np.clip(np.rint(x * 16000), -32767, 32767).astype("<i2"))


def _bytes(x: NDArray[Any]) -> str:
    return _base64(np.rint(np.clip(x, 0, 1) * 255).astype(np.uint8))


def _base64(x: NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(x).tobytes()).decode()


def _rounded(x: Array) -> Any:
    return np.round(x, 5).tolist()


def _number(x: float) -> float | None:
    return float(f"{x:.3g}") if np.isfinite(x) else None


def _css(color: Array) -> str:
    return "#" + "".join(f"{int(c * 255 + 0.5):02x}" for c in color)


def _scale(colors: Array) -> list[list[Any]]:
    return [[i / (len(colors) - 1), _css(c)] for i, c in enumerate(colors)]
