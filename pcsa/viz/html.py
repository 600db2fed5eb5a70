"""Write a page to share: one file to turn, look into and leaf through in a browser, without a network."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from collections.abc import Collection, Iterable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pcsa._core.writing import replacing
from pcsa.viz.colors import LOG_LEAST, Array, heat, keypoint_colors, scaled, strengths
from pcsa.viz.files import short_ids
from pcsa.viz.scene import (
    LAYERS,
    Scene,
    deviations,
    note_of,
    shading,
    size_of,
    thin,
    view_axes,
    within_reach,
)
from pcsa.viz.upright import upright

MAX_POINTS = 10_000
"""Most points drawn of one shape, so that a page is small enough for mail."""

PAGE_POINTS = 5_000_000
"""Points that a page has room for: a shape gets a hundredth of what is left, but at least :data:`FEWEST_POINTS`."""

FEWEST_POINTS = 1_000

# Steps in half of a shape's size, and in a probability and a shade.
_PLACES, _SHARES, _SHADES = 4000, 127, 63


def save_html(
    path: Path | str, scenes: Iterable[Scene], *, title: str = "pcsa", layers: Collection[str] = LAYERS
) -> None:
    """Write scenes as one page that works offline.

    It has a slider over the scenes, a switch for each layer, tooltips (name, confidence, error), and a list of the
    keypoints, where a click shows a keypoint's probability map. Drawn with `plotly.js <https://plotly.com/javascript>`_
    (MIT), which the page contains, compressed: 2 MB, whatever the number of scenes. A cloud of 2,048 points with the
    maps of 10 keypoints takes about 16 kB: places are kept to 1/4000 of half its size, probabilities above a thousandth
    of the largest to 3 percent. Clouds of more than 10,000 points are thinned, those of a page of many large clouds to
    1,000, and their note says so. Browsers since 2023 can open it.

    Args:
        path: The file to write; its folder is made if need be.
        scenes: What the page shows, at least one scene. They are asked for one after the other and none is kept, so
            that a thousand need no more memory than one.
        title: Title of the page.
        layers: Those switched on at first.

    Raises:
        ValueError: If there is no scene, or plotly is missing.
    """
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise ValueError(f"pages take plotly: pip install 'pcsa[viz]' ({error})") from None
    page = resources.files("pcsa.viz").joinpath("viewer.html").read_text(encoding="utf-8")
    head, tail = page.split("<!--SCENES-->")
    present: set[str] = set()
    count = 0
    with replacing(Path(path)) as part, part.open("w", encoding="utf-8") as file:
        file.write(head)
        for scene in _thinned(scenes):
            file.write(f'<script class="scene" type="text/plain">{_text(_packed(scene))}</script>\n')
            present.update(scene.layers)
            count += 1
        if not count:
            raise ValueError("`scenes` must hold at least one scene")
        data = {
            "title": title,
            "count": count,
            "layers": [name for name in LAYERS if name in present],
            "shown": [name for name in LAYERS if name in layers],
            "eye": view_axes()[2].tolist(),
            "heat": _scale(heat(np.linspace(0, 1, 9))),
            "strength": _scale(strengths(np.linspace(0, 1, 9))),
            "steps": {"places": _PLACES, "shares": _SHARES, "shades": _SHADES, "least": LOG_LEAST},
        }
        # In a script, only `<` could end it or open a comment.
        text = json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
        file.write(tail.replace("/*DATA*/", text).replace("/*PLOTLY*/", _text(get_plotlyjs().encode())))


def _thinned(scenes: Iterable[Scene]) -> Iterator[Scene]:
    left = PAGE_POINTS
    for scene in scenes:
        scene = thin(upright(scene), min(MAX_POINTS, max(FEWEST_POINTS, left // 100)))
        left -= len(scene.pos)
        yield scene


def _text(content: bytes) -> str:
    return base64.b64encode(zlib.compress(content, 9)).decode()


def _packed(scene: Scene) -> bytes:
    """Encode a scene: the size of a JSON header, the header, and the arrays that it names.

    Positions are relative to the middle, in units of half the size of the whole.
    """
    predicted, annotated = (None if x is None else within_reach(scene, x) for x in (scene.keypoints, scene.annotated))
    marks = ((predicted, scene.drawn), (annotated, scene.annotations), (scene.vertices, slice(None)))
    everything = np.concatenate([scene.pos, *(value[there] for value, there in marks if value is not None)])
    low, high = everything.min(0), everything.max(0)
    middle, half = (low + high) / 2, float((high - low).max()) / 2 or 1.0

    K = scene.num_keypoints

    def place(x: Array) -> Array:
        return np.asarray((x - middle) / half)

    def places(value: Array | None, there: NDArray[np.bool_]) -> list[Any]:
        return [
            np.round(place(value[k]), 5).tolist() if value is not None and ok else None for k, ok in enumerate(there)
        ]

    columns = {
        "name": list(scene.names),
        "color": [_css(color) for color in keypoint_colors(scene.ids)],
        "predicted": places(predicted, scene.drawn),
        "annotated": places(annotated, scene.annotations),
        "confidence": [None] * K if scene.confidence is None else [_number(x) for x in scene.confidence],
        "error": [_number(x) for x in scene.error],
    }
    header: dict[str, Any] = {
        "title": scene.title,
        "short": short_ids(scene.title),
        "note": note_of(scene),
        "keypoints": [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)],
    }
    # Neighbors one after the other: what is alike takes little room.
    order = _along_curve(place(scene.pos))
    arrays = {"pos": _positions(place(scene.pos[order]))}
    if scene.color is not None:
        arrays["color"] = _shares(scene.color[order].T, 255)
    else:
        shade = 0.50 + 0.36 * shading(scene.pos, view_axes()[2] + np.array([0, 0.7, 0]))
        arrays["shade"] = _shares(shade[order], _SHADES)
    if scene.prob is not None:
        largest = scene.prob.max(0)
        arrays["prob"] = _shares(scaled((scene.prob / np.maximum(largest, 1e-30))[order].T, "log"), _SHARES)
        header["largest"] = [_number(x) for x in largest]
    if "covariance" in scene.layers:
        axes = deviations(np.where(scene.drawn[:, None, None], scene.covariance, 0.0), size_of(scene))
        header["axes"] = np.round(np.swapaxes(axes, 1, 2) / half, 5).tolist()
    if "samples" in scene.layers:
        header["num_samples"], header["sampled"] = scene.samples.shape[1], scene.drawn.tolist()
        samples = np.where(scene.drawn[:, None, None], scene.samples, middle)
        arrays["samples"] = _positions(place(within_reach(scene, samples)).reshape(-1, 3))
    if "skeleton" in scene.layers:
        header["segments"] = scene.segments.tolist()
        strength = np.ones(len(scene.segments)) if scene.activation is None else scene.activation
        header["activation"] = np.round(strength, 5).tolist()
    if "mesh" in scene.layers:
        arrays["vertices"] = _positions(place(scene.vertices))
        arrays["faces"] = _differences(scene.faces, "<i4")
        if scene.vertex_color is not None:
            arrays["vertex_color"] = _shares(scene.vertex_color.T, 255)
    header["arrays"] = [[name, len(content)] for name, content in arrays.items()]
    text = json.dumps(header, allow_nan=False, separators=(",", ":")).encode()
    return b"".join([struct.pack("<I", len(text)), text, *arrays.values()])


def _along_curve(x: Array) -> NDArray[np.int64]:
    """Order points [N, 3] along a curve that visits near ones one after the other (Morton's)."""
    cell = ((x.clip(-1, 1) + 1) * 511.5).astype(np.int64)
    code = np.zeros(len(x), np.int64)
    for bit in range(10):
        for axis in range(3):
            code |= ((cell[:, axis] >> bit) & 1) << (3 * bit + axis)
    return np.argsort(code, kind="stable")


def _positions(x: Array) -> bytes:
    """Encode positions [N, 3] as whole steps; cut off at 8 times half the size."""
    return _differences(np.clip(np.rint(x * _PLACES), -32767, 32767), "<i2")


def _differences(x: NDArray[Any], dtype: str) -> bytes:
    """Encode whole numbers [N, 3] column by column: differences to the one before, all first bytes, then all second."""
    whole = x.astype(dtype)
    step = np.diff(whole, axis=0, prepend=np.zeros((1, 3), dtype))
    bits = 8 * whole.itemsize
    # The sign goes into the last bit, so that small steps have small bytes.
    folded = ((step << 1) ^ (step >> (bits - 1))).astype(dtype)
    return folded.T.copy().view(np.uint8).reshape(3, len(x), -1).transpose(0, 2, 1).tobytes()


def _shares(x: NDArray[Any], steps: int) -> bytes:
    return np.rint(np.clip(x, 0, 1) * steps).astype(np.uint8).tobytes()


def _number(x: float) -> float | None:
    return float(f"{x:.3g}") if np.isfinite(x) else None


def _css(color: Array) -> str:
    return "#" + "".join(f"{int(c * 255 + 0.5):02x}" for c in color)


def _scale(colors: Array) -> list[list[Any]]:
    return [[i / (len(colors) - 1), _css(c)] for i, c in enumerate(colors)]
