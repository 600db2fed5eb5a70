"""Pictures of the procedural categories: shapes with numbered keypoints, and what the numbers mean."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pcsa._core.checks import check_count
from pcsa._core.progress import progress
from pcsa.datasets.procedural import Shape, check_categories, make_shape, shape_rng
from pcsa.viz import Scene, fit, keypoint_colors, render
from pcsa.viz.colors import Array
from pcsa.viz.legend import Entry, beside, font_of, rgb
from pcsa.viz.png import Backend, Pixels, in_rows
from pcsa.viz.scene import view_axes

if TYPE_CHECKING:
    from PIL.Image import Image

_SHAPES = 4
_BORDER = 24
"""Room for the numbers of keypoints at the edge of a drawing."""


def draw_gallery(folder: Path, categories: str | Sequence[str], seed: int = 0, backend: Backend = "auto") -> None:
    """Write ``<category>.png``: the first shapes that :func:`pcsa.datasets.procedural.generate` makes of ``seed``.

    Args:
        folder: Folder to write into, made if need be.
        categories: One or several of :data:`pcsa.datasets.procedural.CATEGORIES`.
        seed: Seed of the shapes, at least 0.
        backend: See :func:`pcsa.viz.render`.

    Raises:
        ValueError: If a category is unknown, ``seed`` is negative or the backend cannot be had.
    """
    check_count("seed", seed, 0)
    chosen = check_categories(categories)
    folder.mkdir(parents=True, exist_ok=True)
    for category in progress(chosen, "drawing"):
        # With a palette a file has a third of the size.
        _sheet(category, seed, backend).save(folder / f"{category}.png", optimize=True)


def _sheet(category: str, seed: int, backend: Backend) -> Image:
    from PIL import Image, ImageOps

    shapes = [make_shape(category, shape_rng(category, seed, i)) for i in range(_SHAPES)]
    scenes = [_scene(shape) for shape in shapes]
    # Guitars and bottles stand side by side.
    wide, high = np.max([np.ptp(scene.pos @ view_axes().T, axis=0)[:2] for scene in scenes], axis=0)
    columns, size = (_SHAPES, (230, 620)) if high > 1.8 * wide else (2, (440, 360))
    drawn = render(scenes, size=size, layers=("mesh",), backend=backend)
    panels = [_numbered(pixels, shape, scene) for pixels, shape, scene in zip(drawn, shapes, scenes, strict=True)]
    names = {i: name for shape in shapes for i, name in shape.names.items()}
    legend = [Entry("ball", f"{i}  {names[i]}", rgb(keypoint_colors([i])[0])) for i in sorted(names)]
    sheet = ImageOps.expand(beside(in_rows(panels, columns), legend), 4, "white")
    return sheet.quantize(palette=_palette(sorted(names)), dither=Image.Dither.NONE)


def _palette(ids: list[int]) -> Image:
    """Make a palette of grays, the colors of keypoints, and, for edges and hidden dots, paler ones."""
    from PIL import Image

    colors = np.unique(keypoint_colors(ids), axis=0)
    mixed = [share * colors + 1 - share for share in (1, 0.7, 0.4, 0.2)]
    # What is nearly white becomes white, as the page is.
    gray = np.append(np.linspace(0, 0.93, 255 - 4 * len(colors)), 1)[:, None].repeat(3, axis=1)
    palette = Image.new("P", (1, 1))
    palette.putpalette((np.concatenate([*mixed, gray]) * 255 + 0.5).astype(np.uint8).ravel().tolist())
    return palette


def _scene(shape: Shape) -> Scene:
    """Make the scene of the mesh, its parts in grays that differ as their colors do: colors are for the keypoints."""
    light = shape.part_colors @ np.array([0.299, 0.587, 0.114]) / 255
    colors = np.ones((len(shape.vertices), 3))
    colors[shape.faces] = (1 - 0.65 * (light.max() - light))[shape.face_parts][:, None, None]
    return Scene(shape.vertices, vertices=shape.vertices, faces=shape.faces, vertex_color=colors)


def _numbered(pixels: Pixels, shape: Shape, scene: Scene) -> Image:
    """Return the drawing with a dot and the semantic id at every keypoint; a pale dot is on the far side."""
    from PIL import Image, ImageDraw, ImageOps

    axes = view_axes()
    height, width = pixels.shape[:2]
    middle, half = fit([scene], size=(width, height), layers=("mesh",))
    place = np.array(list(shape.keypoints.values()), dtype=np.float64)
    flat = (place - middle) @ axes.T * height / 2 / half
    x, y = flat[:, 0] + width / 2 + _BORDER, height / 2 - flat[:, 1] + _BORDER
    hidden = _hidden(place, scene, axes)
    colors = keypoint_colors(list(shape.keypoints))

    picture = ImageOps.expand(Image.fromarray(pixels), _BORDER, "white")
    # Drawn three times as large, and made smaller: Pillow's circles have no smooth edges.
    large = picture.resize((3 * picture.width, 3 * picture.height), Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(large)
    for k in sorted(range(len(place)), key=lambda k: (not hidden[k], flat[k, 2])):
        r = 5
        box = [3 * (x[k] - r), 3 * (y[k] - r), 3 * (x[k] + r), 3 * (y[k] + r)]
        fill = (2 * colors[k] + 3 * np.ones(3)) / 5 if hidden[k] else colors[k]
        pen.ellipse(box, fill=rgb(fill), outline=rgb(colors[k]) if hidden[k] else "white", width=4)
    picture = large.reduce(3)
    pen = ImageDraw.Draw(picture)
    dots = np.stack([x, y], axis=1)
    for k, spot in enumerate(_beside_dots(dots)):
        color = "#777777" if hidden[k] else "black"
        text = str(list(shape.keypoints)[k])
        pen.text(tuple(spot), text, color, font_of(11), anchor="mm", stroke_width=2, stroke_fill="white")
    return picture


def _hidden(place: Array, scene: Scene, axes: Array) -> NDArray[np.bool_]:
    """Find which places [K, 3] the mesh hides from a viewer who looks along the last of ``axes``."""
    a, b, c = (scene.vertices @ axes.T)[scene.faces].transpose(1, 0, 2)
    p = (place @ axes.T)[:, None]

    def area(u: Array, v: Array, w: Array) -> Array:
        return (v[..., 0] - u[..., 0]) * (w[..., 1] - u[..., 1]) - (v[..., 1] - u[..., 1]) * (w[..., 0] - u[..., 0])

    whole = area(a, b, c)
    whole = np.where(np.abs(whole) > 1e-12, whole, np.inf)
    share = np.stack([area(p, b, c), area(a, p, c), area(a, b, p)], axis=-1) / whole[:, None]
    within = (share >= 0).all(-1) & np.isfinite(whole)
    depth = (share * np.stack([a[:, 2], b[:, 2], c[:, 2]], axis=-1)).sum(-1)
    # A keypoint is on the mesh: a little above it is still the same surface.
    return np.asarray((within & (depth > p[..., 2] + 0.01)).any(1))


def _beside_dots(dots: Array) -> Array:
    """Place the number of each dot [K, 2]: clear of dots and other numbers, and outwards if it can."""
    angle = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    ring = 13 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    center = dots.mean(0)
    spots = np.empty((0, 2))
    for dot in dots:
        candidates = dot + ring
        taken = np.concatenate([dots, spots])
        gap = np.linalg.norm(candidates[:, None] - taken, axis=2).min(1)
        outward = ring @ (dot - center) / max(float(np.linalg.norm(dot - center)), 1e-9)
        spots = np.concatenate([spots, candidates[[(np.minimum(gap, 13) + 0.2 * outward).argmax()]]])
    return spots
