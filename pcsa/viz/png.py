"""Pictures in files, with or without a display: drawn by Open3D, or by matplotlib where that cannot be had."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cache
from itertools import tee
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pcsa.viz import gl
from pcsa.viz.scene import (
    LAYERS,
    Array,
    Scene,
    balls,
    heat,
    keypoint_colors,
    lines,
    size_of,
    strengths,
    thin,
    view_axes,
)

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

_log = logging.getLogger(__name__)

Backend = Literal["auto", "open3d", "matplotlib"]
Pixels = NDArray[np.uint8]

MAX_POINTS = 20_000
"""Most points drawn in one picture: more would not be told apart."""


def render(
    scenes: Iterable[Scene],
    *,
    size: tuple[int, int] = (800, 600),
    layers: Collection[str] = LAYERS,
    keypoint: int | None = None,
    turn: float = 145.0,
    tilt: float = 20.0,
    frame: tuple[Array, float] | None = None,
    backend: Backend = "auto",
) -> Iterator[Pixels]:
    """Draw each scene, without title and legend, as pixels [height, width, 3].

    Args:
        scenes: What to draw; all with the same window.
        size: Width and height in pixels.
        layers: Which of :data:`pcsa.viz.LAYERS` are drawn.
        keypoint: Color the cloud by the probability map of this one (a place in the scene's keypoints), and draw only
            its marks.
        turn: Degrees from +z over +x to where the viewer stands. Default: sees the front, from the right.
        tilt: Degrees above the ground.
        frame: Middle of the picture [3] and half its height, as :func:`fit` gives them; default fits each scene.
        backend: ``"open3d"`` or ``"matplotlib"``. Default ``"auto"``: Open3D, else matplotlib with a warning that
            says what is missing.

    Raises:
        ValueError: If an argument breaks these rules, or ``"open3d"`` is asked for and cannot be had.
    """
    if min(size) < 16 or max(size) > 8192:
        raise ValueError(f"`size` (={size}) must be from 16 to 8192 pixels")
    unknown = sorted(set(layers) - set(LAYERS))
    if unknown:
        raise ValueError(f"`layers` has {unknown}, must be of {', '.join(LAYERS)}")
    if backend not in ("auto", "open3d", "matplotlib"):
        raise ValueError(f"`backend` (={backend!r}) must be 'auto', 'open3d' or 'matplotlib'")
    axes = view_axes(turn, tilt)
    thinned = (thin(scene, MAX_POINTS) for scene in scenes)
    if backend != "matplotlib":
        window = _open3d_window(size)
        if not isinstance(window, str):
            return _render_open3d(window, thinned, size, layers, keypoint, axes, frame)
        if backend == "open3d":
            raise ValueError(f"`backend` (='open3d') cannot be had: {window}")
        _warn_once(f"pictures are drawn by matplotlib, plainer and slower: {window}")
    return (_render_matplotlib(scene, size, layers, keypoint, axes, frame) for scene in thinned)


_warned: set[str] = set()


def _warn_once(message: str) -> None:
    if message not in _warned:
        _warned.add(message)
        _log.warning(message)


def fit(
    scenes: Sequence[Scene],
    *,
    size: tuple[int, int] = (800, 600),
    layers: Collection[str] = LAYERS,
    turn: float = 145.0,
    tilt: float = 20.0,
) -> tuple[Array, float]:
    """The ``frame`` of :func:`render` in which every one of ``scenes`` has room."""
    return _frame(scenes, layers, view_axes(turn, tilt), size[0] / size[1])


def _frame(scenes: Sequence[Scene], layers: Collection[str], axes: Array, aspect: float) -> tuple[Array, float]:
    # The marks of all keypoints, so that it is the same whichever map is shown.
    seen = []
    for scene in scenes:
        b, ln = balls(scene, layers), lines(scene, layers, None, axes[2])
        seen += [scene.pos, b.center, ln.start, ln.end]
        if "mesh" in layers and "mesh" in scene.layers:
            seen.append(scene.vertices)
    flat = np.concatenate(seen) @ axes.T
    low, high = flat.min(0), flat.max(0)
    width, height = (high - low)[:2] / 2 + 0.035 * max(size_of(scene) for scene in scenes)
    return (low + high) / 2 @ axes, 1.03 * float(max(height, width / aspect))


def _open3d_window(size: tuple[int, int]) -> Any:
    """A hidden window, or why there is none."""
    try:
        o3d = gl.load_open3d()
    except ImportError as error:
        return str(error)
    visualizer = o3d.visualization.Visualizer()
    # Twice the size: made smaller afterwards, edges are smooth.
    if not gl.open_window(visualizer, "pcsa", (2 * size[0], 2 * size[1]), visible=False):
        visualizer.destroy_window()
        return f"Open3D has no way to draw here: it takes {gl.NEEDS}"
    option = visualizer.get_render_option()
    option.background_color = np.ones(3)
    option.mesh_show_back_face = True
    option.light_on = False  # the colors have their shadows
    return visualizer


def _render_open3d(
    window: Any,
    scenes: Iterable[Scene],
    size: tuple[int, int],
    layers: Collection[str],
    keypoint: int | None,
    axes: Array,
    frame: tuple[Array, float] | None,
) -> Iterator[Pixels]:
    from PIL import Image

    o3d = gl.load_open3d()
    try:
        for scene in scenes:
            middle, half = frame or _frame([scene], layers, axes, size[0] / size[1])
            made = gl.marks(o3d, scene, layers, keypoint, axes)
            solid = "mesh" in layers and "mesh" in scene.layers
            # Without perspective, what comes nearer stays where it is in the picture: marks above the points that
            # they mark, all of them where only points would hide them.
            for mark in made:
                mark.translate((0.06 if solid else 3.0) * size_of(scene) * axes[2])
            if solid:
                made.append(gl.shape_mesh(o3d, scene, axes))
            if "cloud" in layers:
                made.append(gl.discs(o3d, scene, keypoint, axes))
            window.clear_geometries()
            boxes = []
            for geometry in made:
                # Far from the origin, the window's single precision would not do.
                geometry.translate(-middle).scale(1 / half, np.zeros(3))
                boxes += [geometry.get_min_bound(), geometry.get_max_bound()]
                window.add_geometry(geometry)
            if not made:
                yield np.full((size[1], size[0], 3), 255, np.uint8)
                continue
            # Otherwise the window's box would hold what it drew before, too.
            window.reset_view_point(True)
            camera = window.get_view_control()
            camera.set_front(axes[2])
            camera.set_up(axes[1])
            camera.set_lookat(np.zeros(3))
            # At the narrowest field of view Open3D draws without perspective, `zoom` boxes high above the middle.
            camera.change_field_of_view(step=-90)
            camera.set_zoom(1 / float(np.ptp(boxes, axis=0).max()))
            pixels = np.asarray(window.capture_screen_float_buffer(do_render=True))
            yield np.asarray(Image.fromarray((pixels * 255 + 0.5).astype(np.uint8)).reduce(2))
    finally:
        window.destroy_window()


def _render_matplotlib(
    scene: Scene,
    size: tuple[int, int],
    layers: Collection[str],
    keypoint: int | None,
    axes: Array,
    frame: tuple[Array, float] | None,
) -> Pixels:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.collections import LineCollection, PolyCollection
    from matplotlib.figure import Figure

    middle, half = frame or _frame([scene], layers, axes, size[0] / size[1])
    figure = Figure(figsize=(size[0] / 100, size[1] / 100), dpi=100)
    canvas = FigureCanvasAgg(figure)
    plot = figure.add_axes((0, 0, 1, 1))
    plot.set_axis_off()
    plot.set(xlim=(-size[0] / size[1], size[0] / size[1]), ylim=(-1, 1))
    points_per_unit = size[1] / 2 * 0.72

    def flat(x: Array) -> Array:
        return np.asarray((x - middle) @ axes.T / half)

    if "mesh" in layers and "mesh" in scene.layers:
        corners = flat(scene.vertices)[scene.faces]
        normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        facing = np.abs(normal[:, 2]) / np.maximum(np.linalg.norm(normal, axis=1), 1e-300)
        order = corners[:, :, 2].mean(1).argsort()
        color = (gl.mesh_colors(scene) * (0.45 + 0.4 * facing)[:, None])[order]
        plot.add_collection(
            PolyCollection(list(corners[order, :, :2]), facecolors=color, edgecolors=color, linewidths=0.3)
        )
    if "cloud" in layers:
        pos, color = flat(scene.pos), gl.seen_colors(scene, keypoint, axes)
        order = pos[:, 2].argsort()
        area = (2 * gl.point_radius(scene, keypoint) / half * points_per_unit) ** 2
        plot.scatter(pos[order, 0], pos[order, 1], s=area[order], c=color[order], linewidths=0, zorder=2)
    start, end, color, radius, _ = lines(scene, layers, keypoint, axes[2])
    if len(start):
        pieces = np.stack([flat(start)[:, :2], flat(end)[:, :2]], axis=1)
        width = 2 * radius / half * points_per_unit
        plot.add_collection(LineCollection(list(pieces), colors=color, linewidths=width, capstyle="round", zorder=3))
    center, color, radius, _ = balls(scene, layers, keypoint)
    if len(center):
        pos = flat(center)
        order = pos[:, 2].argsort()
        area = (2 * radius[order] / half * points_per_unit) ** 2
        plot.scatter(pos[order, 0], pos[order, 1], s=area, c=color[order], linewidths=0, zorder=4)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[:, :, :3].copy()


def save_png(path: Path | str, scene: Scene, **options: Any) -> None:
    """Draw a scene with its title and a legend beside it; see :func:`save_pngs`."""
    save_pngs([(path, scene)], **options)


def save_pngs(
    pictures: Iterable[tuple[Path | str, Scene]],
    *,
    legend: bool = True,
    size: tuple[int, int] = (800, 600),
    layers: Collection[str] = LAYERS,
    keypoint: int | None = None,
    **options: Any,
) -> None:
    """Draw many scenes, each into its file, with one window.

    Args:
        pictures: Files and what to draw; folders are made if need be.
        legend: Names of what is drawn, at the right.
        size: Width and height of the drawing, in pixels; title and legend come on top of that.
        layers: See :func:`render`.
        keypoint: See :func:`render`.
        options: ``turn``, ``tilt``, ``frame`` and ``backend`` of :func:`render`.
    """
    first, second = tee((path, thin(scene, MAX_POINTS)) for path, scene in pictures)
    drawn = render((scene for _, scene in first), size=size, layers=layers, keypoint=keypoint, **options)
    for (path, scene), pixels in zip(second, drawn, strict=True):
        picture = titled(pixels, scene.title, scene.note)
        write_png(path, beside(picture, entries([scene], layers, keypoint)) if legend else picture)


def save_panels(
    path: Path | str,
    scenes: Sequence[Scene],
    columns: int = 3,
    *,
    size: tuple[int, int] = (440, 360),
    layers: Collection[str] = LAYERS,
    keypoint: int | None = None,
    **options: Any,
) -> None:
    """Draw a grid of scenes with one legend.

    Args:
        path: The PNG to write.
        scenes: One for each panel, at least one.
        columns: Panels in a row.
        size: Width and height of one panel, in pixels.
        layers: See :func:`render`.
        keypoint: See :func:`render`.
        options: ``turn``, ``tilt``, ``frame`` and ``backend`` of :func:`render`.
    """
    if not scenes:
        raise ValueError("`scenes` must hold at least one scene")
    if columns < 1:
        raise ValueError(f"`columns` (={columns}) must be at least 1")
    scenes = [thin(scene, MAX_POINTS) for scene in scenes]
    drawn = render(scenes, size=size, layers=layers, keypoint=keypoint, **options)
    panels = [titled(p, scene.title, scene.note, always=True) for p, scene in zip(drawn, scenes, strict=True)]
    write_png(path, beside(in_rows(panels, columns), entries(scenes, layers, keypoint)))


def in_rows(panels: Sequence[Image], columns: int) -> Image:
    """Pictures of one size as one picture, row by row."""
    from PIL import Image

    columns = min(columns, len(panels))
    width, height = panels[0].size
    sheet = Image.new("RGB", (width * columns, height * -(-len(panels) // columns)), "white")
    for i, panel in enumerate(panels):
        sheet.paste(panel, (i % columns * width, i // columns * height))
    return sheet


def write_png(path: Path | str, picture: Image) -> None:
    """The picture as a file; folders are made if need be."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Level 6, the default, takes four times as long for a tenth less.
    picture.save(path, format="PNG", compress_level=2)


@cache
def font_of(size: int) -> Any:
    """The font of titles and legends, in pixels."""
    import matplotlib
    from PIL import ImageFont

    # Matplotlib brings it along: the same letters on every machine, Greek and Cyrillic among them.
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)


def _shortened(text: str, width: float, size: int) -> str:
    text = " ".join(text.split())
    if font_of(size).getlength(text) <= width:
        return text
    while text and font_of(size).getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def titled(pixels: Pixels, title: str, note: str, always: bool = False) -> Image:
    """The drawing below its title (or the room for one) and above its note."""
    from PIL import Image, ImageDraw

    height, width = pixels.shape[:2]
    big, small = max(12, height // 32), max(10, height // 44)
    top = 2 * big if title or always else 0
    bottom = 2 * small if note else 0
    picture = Image.new("RGB", (width, top + height + bottom), "white")
    picture.paste(Image.fromarray(pixels), (0, top))
    pen = ImageDraw.Draw(picture)
    for text, font, y, color in (
        (title, big, top * 0.6, "black"),
        (note, small, top + height + bottom / 2, "#555555"),
    ):
        if text:
            short = _shortened(text, width - 16, font)
            pen.text((width / 2, y), short, fill=color, font=font_of(font), anchor="mm")
    return picture


class Entry(NamedTuple):
    """A line of the legend: what stands before the text, in which color."""

    mark: str
    text: str
    color: tuple[int, int, int] = (70, 70, 70)


def entries(scenes: Sequence[Scene], layers: Collection[str], keypoint: int | None) -> list[Entry]:
    """The legend of scenes that are drawn together."""
    present = {name for scene in scenes for name in scene.layers if name in layers}
    made = [
        Entry(mark, text)
        for layer, mark, text in (
            ("annotated", "ring", "annotated"),
            ("keypoints", "ball", "predicted"),
            ("errors", "line", "error"),
            ("covariance", "ellipse", "1 standard deviation"),
            ("samples", "dots", "samples"),
        )
        if layer in present
    ]
    if "skeleton" in present:
        made.append(Entry("bar", "activation, 0 to 1"))
    marked = {"annotated", "keypoints", "samples"} & present
    names: dict[int, str] = {}
    for scene in scenes:
        shown = np.zeros(scene.num_keypoints, bool)
        if "annotated" in marked:
            shown |= scene.annotations
        if marked - {"annotated"}:
            shown |= scene.drawn
        for k in np.flatnonzero(shown).tolist() if keypoint is None else [keypoint]:
            names.setdefault(int(scene.ids[k]), str(scene.names[k]))
    for i in sorted(names):
        made.append(Entry("ball", names[i], rgb(keypoint_colors([i])[0])))
    if keypoint is not None and "cloud" in layers:
        of = [s for s in scenes if s.prob is not None]
        largest = max(float(s.prob[:, keypoint].max()) for s in of)
        made.append(Entry("", "probability"))
        made.append(Entry("heat", "0 to each cloud's largest" if len(of) > 1 else f"0 to {largest:.2g}"))
    return made


def rgb(color: Array) -> tuple[int, int, int]:
    """A color of 0 to 1 as Pillow takes it."""
    red, green, blue = (color * 255 + 0.5).astype(int).tolist()
    return red, green, blue


def beside(picture: Image, entries: Sequence[Entry]) -> Image:
    """The picture with a legend at its right, in as many columns as its height needs."""
    from PIL import Image, ImageDraw

    if not entries:
        return picture
    font = int(np.clip(picture.height // 40, 12, 17))
    step = int(1.7 * font)
    rows = max(1, (picture.height - step) // step)
    columns = -(-len(entries) // rows)
    rows = -(-len(entries) // columns)
    texts = [_shortened(e.text, 16 * font, font) for e in entries]
    width = int(max(font_of(font).getlength(t) for t in texts)) + 4 * font
    sheet = Image.new("RGB", (picture.width + columns * width, picture.height), "white")
    sheet.paste(picture, (0, 0))
    # Drawn three times as large, and made smaller: Pillow's circles have no smooth edges.
    marks = Image.new("RGB", (3 * columns * width, 3 * picture.height), "white")
    pen, ink = ImageDraw.Draw(marks), ImageDraw.Draw(sheet)
    places = []
    for n, entry in enumerate(entries):
        x = n // rows * width + font
        y = (picture.height - rows * step) / 2 + (n % rows + 0.5) * step
        places.append((picture.width + x + 1.9 * font, y))
        _mark(pen, entry, 3 * x, 3 * y, 3 * font)
    sheet.paste(marks.reduce(3), (picture.width, 0))
    for text, place in zip(texts, places, strict=True):
        ink.text(place, text, fill="black", font=font_of(font), anchor="lm")
    return sheet


def _mark(pen: ImageDraw, entry: Entry, x: float, y: float, size: float) -> None:
    r, color = 0.42 * size, entry.color
    middle = x + 0.6 * size
    if entry.mark == "ball":
        pen.ellipse((middle - r, y - r, middle + r, y + r), fill=color)
    elif entry.mark == "ring":
        pen.ellipse((middle - 1.2 * r, y - 1.2 * r, middle + 1.2 * r, y + 1.2 * r), outline=color, width=int(0.5 * r))
    elif entry.mark == "ellipse":
        for a, b in ((1.4, 0.8), (0.5, 0.8), (1.4, 0.25)):
            pen.ellipse((middle - a * r, y - b * r, middle + a * r, y + b * r), outline=color, width=int(0.2 * r))
    elif entry.mark == "line":
        pen.line((middle - 1.4 * r, y, middle + 1.4 * r, y), fill=color, width=int(0.35 * r))
    elif entry.mark == "dashes":
        for start in (-1.5, -0.4, 0.7):
            pen.line((middle + start * r, y, middle + (start + 0.8) * r, y), fill=color, width=int(0.35 * r))
    elif entry.mark == "dots":
        for dx, dy in ((-1.0, 0.4), (-0.3, -0.5), (0.3, 0.5), (0.9, -0.2), (-0.2, 0.1)):
            px, py, s = middle + dx * r, y + dy * r, 0.2 * r
            pen.ellipse((px - s, py - s, px + s, py + s), fill=color)
    elif entry.mark in ("heat", "bar"):
        at = np.linspace(0, 1, 24)
        for share, tint in zip(at, heat(at) if entry.mark == "heat" else strengths(at), strict=True):
            left = middle - 1.5 * r + 3 * r * share * 23 / 24
            pen.rectangle((left, y - r, left + 3 * r / 20, y + r), fill=rgb(tint))
