"""Draw scenes into files, with or without a display: with Open3D, or with matplotlib where Open3D is missing."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cache
from itertools import tee
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pcsa._core.checks import check_count, check_one_of
from pcsa.viz import gl
from pcsa.viz.colors import LOG_LEAST, Array, keypoint_colors
from pcsa.viz.files import short_ids, write_picture
from pcsa.viz.legend import Entry, beside, rgb, shortened, write
from pcsa.viz.scene import LAYERS, Scene, balls, lines, note_of, size_of, thin, view_axes
from pcsa.viz.upright import upright

if TYPE_CHECKING:
    from PIL.Image import Image

_log = logging.getLogger(__name__)

Backend = Literal["auto", "open3d", "matplotlib"]
Pixels = NDArray[np.uint8]

MAX_POINTS = 20_000
"""Most points drawn in one picture; more could not be told apart."""

_TITLE_WIDTH = 240


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
        turn: Degrees from +z over +x to where the viewer stands, once y is up. Default: sees the front, from the right.
        tilt: Degrees above the ground.
        frame: Middle of the picture [3], once y is up, and half its height, as :func:`fit` gives them; default fits
            each scene.
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
    check_one_of("backend", backend, ("auto", "open3d", "matplotlib"))
    view = _View(size, layers, keypoint, view_axes(turn, tilt), frame)
    thinned = (thin(upright(scene), MAX_POINTS) for scene in scenes)
    if backend != "matplotlib":
        window = _open3d_window(size)
        if not isinstance(window, str):
            return _render_open3d(window, thinned, view)
        if backend == "open3d":
            raise ValueError(f"`backend` (='open3d') cannot be had: {window}")
        _warn_once(f"pictures are drawn by matplotlib, plainer and slower: {window}")
    return (_render_matplotlib(scene, view) for scene in thinned)


@cache
def _warn_once(message: str) -> None:
    _log.warning(message)


class _View(NamedTuple):
    """Arguments of :func:`render`, with the axes that ``turn`` and ``tilt`` mean."""

    size: tuple[int, int]
    layers: Collection[str]
    keypoint: int | None
    axes: Array
    frame: tuple[Array, float] | None

    def frame_of(self, scenes: Sequence[Scene]) -> tuple[Array, float]:
        """Return the given frame, else the one in which ``scenes`` have room."""
        if self.frame is not None:
            return self.frame
        seen = []
        for scene in scenes:
            # The marks of all keypoints, so that the frame is the same whichever map is shown.
            drawn = lines(scene, self.layers, None, self.axes)
            seen += [scene.pos, balls(scene, self.layers).center, drawn.start, drawn.end]
            if "mesh" in self.layers and "mesh" in scene.layers:
                seen.append(scene.vertices)
        flat = np.concatenate(seen) @ self.axes.T
        low, high = flat.min(0), flat.max(0)
        size = max(size_of(scene) for scene in scenes)
        width, height = (high - low)[:2] / 2 + 0.035 * size
        # A point, or a line seen from its end, does not fill the picture.
        half = max(height, width * self.size[1] / self.size[0], 0.5 * size)
        return (low + high) / 2 @ self.axes, 1.03 * float(half)


def fit(
    scenes: Sequence[Scene],
    *,
    size: tuple[int, int] = (800, 600),
    layers: Collection[str] = LAYERS,
    turn: float = 145.0,
    tilt: float = 20.0,
) -> tuple[Array, float]:
    """Return the ``frame`` of :func:`render` in which every one of ``scenes`` has room."""
    return _View(size, layers, None, view_axes(turn, tilt), None).frame_of([*map(upright, scenes)])


def _open3d_window(size: tuple[int, int]) -> Any:
    """Open a hidden window, or say why there is none."""
    try:
        o3d = gl.load_open3d()
    except ImportError as error:
        return str(error)
    visualizer = o3d.visualization.Visualizer()
    # Twice the size: made smaller afterwards, edges are smooth.
    if not gl.open_window(visualizer, "pcsa", (2 * size[0], 2 * size[1]), visible=False):
        return f"Open3D has no way to draw here: it takes {gl.NEEDS}"
    return visualizer


def _render_open3d(window: Any, scenes: Iterable[Scene], view: _View) -> Iterator[Pixels]:
    from PIL import Image

    o3d, (size, layers, keypoint, axes, _) = gl.load_open3d(), view
    try:
        for scene in scenes:
            middle, half = view.frame_of([scene])
            solid = gl.shape_mesh(o3d, scene, layers, axes)
            made = gl.marks(o3d, scene, layers, keypoint, axes)
            # Without perspective, what comes nearer stays where it is in the picture: marks above the points that
            # they mark, all of them where only points would hide them.
            for mark in made:
                mark.translate((0.06 if solid else 3.0) * size_of(scene) * axes[2])
            made += solid
            if "cloud" in layers:
                made.append(gl.discs(o3d, scene, keypoint, axes))
            if not made:
                yield np.full((size[1], size[0], 3), 255, np.uint8)
                continue
            window.clear_geometries()
            boxes = []
            for geometry in made:
                # Far from the origin, the window's single precision would not do.
                geometry.translate(-middle).scale(1 / half, np.zeros(3))
                boxes += [geometry.get_min_bound(), geometry.get_max_bound()]
                window.add_geometry(geometry)
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


def _render_matplotlib(scene: Scene, view: _View) -> Pixels:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.collections import LineCollection, PolyCollection
    from matplotlib.figure import Figure

    size, layers, keypoint, axes, _ = view
    middle, half = view.frame_of([scene])
    figure = Figure(figsize=(size[0] / 100, size[1] / 100), dpi=100)
    canvas = FigureCanvasAgg(figure)
    plot = figure.add_axes((0, 0, 1, 1))
    plot.set_axis_off()
    plot.set(xlim=(-size[0] / size[1], size[0] / size[1]), ylim=(-1, 1))
    width_of_one = size[1] * 0.72 / half  # in points, of a ball with radius 1

    def flat(x: Array) -> Array:
        return np.asarray((x - middle) @ axes.T / half)

    def dots(center: Array, radius: Array, color: Array, order: int) -> None:
        pos = flat(center)
        back = pos[:, 2].argsort()
        area = (radius * width_of_one) ** 2
        plot.scatter(pos[back, 0], pos[back, 1], s=area[back], c=color[back], linewidths=0, zorder=order)

    if "mesh" in layers and "mesh" in scene.layers:
        corners = flat(scene.vertices)[scene.faces]
        normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        facing = np.abs(normal[:, 2]) / np.maximum(np.linalg.norm(normal, axis=1), 1e-300)
        order = corners[:, :, 2].mean(1).argsort()
        color = (gl.mesh_colors(scene) * (0.45 + 0.4 * facing)[:, None])[order]
        faces = list(corners[order, :, :2])
        plot.add_collection(PolyCollection(faces, facecolors=color, edgecolors=color, linewidths=0.3))
    if "cloud" in layers:
        dots(scene.pos, gl.point_radius(scene, keypoint), gl.seen_colors(scene, keypoint, axes), 2)
    start, end, color, radius, _ = lines(scene, layers, keypoint, axes)
    pieces, width = list(np.stack([flat(start), flat(end)], axis=1)[:, :, :2]), radius * width_of_one
    plot.add_collection(LineCollection(pieces, colors=color, linewidths=width, capstyle="round", zorder=3))
    center, color, radius, _ = balls(scene, layers, keypoint)
    dots(center, radius, color, 4)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[:, :, :3].copy()


def draw(scenes: Iterable[Scene], *, always: bool = False, **options: Any) -> Iterator[tuple[Scene, Image]]:
    """Yield each scene, thinned, and its drawing with title and note.

    Args:
        scenes: What to draw.
        always: Leave room for titles where there are none.
        options: See :func:`render`.
    """
    first, second = tee(thin(scene, MAX_POINTS) for scene in scenes)
    for scene, pixels in zip(second, render(first, **options), strict=True):
        yield scene, titled(pixels, scene.title, note_of(scene), always)


def save_png(path: Path | str, scene: Scene, **options: Any) -> None:
    """Draw a scene with its title and a legend beside it; see :func:`save_pngs`."""
    save_pngs([(path, scene)], **options)


def save_pngs(
    pictures: Iterable[tuple[Path | str, Scene]],
    *,
    legend: bool = True,
    layers: Collection[str] = LAYERS,
    **options: Any,
) -> None:
    """Draw many scenes, each into its file, with one window.

    Args:
        pictures: Files and what to draw; folders are made if need be. A ``.svg`` or ``.pdf`` holds the drawn pixels.
        legend: Names of what is drawn, at the right.
        layers: See :func:`render`.
        options: ``size``, ``keypoint``, ``turn``, ``tilt``, ``frame`` and ``backend`` of :func:`render`; title and
            legend come on top of ``size``.
    """
    first, second = tee(pictures)
    drawn = draw((scene for _, scene in first), layers=layers, **options)
    for (path, _), (scene, picture) in zip(second, drawn, strict=True):
        names = entries([scene], layers, options.get("keypoint")) if legend else []
        write_picture(path, beside(picture, names), scene.title)


def save_panels(
    path: Path | str,
    scenes: Sequence[Scene],
    columns: int = 3,
    *,
    size: tuple[int, int] = (440, 360),
    layers: Collection[str] = LAYERS,
    **options: Any,
) -> None:
    """Draw a grid of scenes with one legend.

    Args:
        path: The PNG to write, or a ``.svg`` or ``.pdf``, which holds the drawn pixels.
        scenes: One for each panel, at least one.
        columns: Panels in a row.
        size: Width and height of one panel, in pixels.
        layers: See :func:`render`.
        options: ``keypoint``, ``turn``, ``tilt``, ``frame`` and ``backend`` of :func:`render`.
    """
    if not scenes:
        raise ValueError("`scenes` must hold at least one scene")
    check_count("columns", columns)
    scenes, panels = zip(*draw(scenes, always=True, size=size, layers=layers, **options), strict=True)
    sheet = beside(in_rows(panels, columns), entries(scenes, layers, options.get("keypoint")))
    write_picture(path, sheet, "\n".join(scene.title for scene in scenes))


def in_rows(panels: Sequence[Image], columns: int) -> Image:
    """Put pictures together, row by row; smaller ones get white below and at the right."""
    from PIL import Image

    columns = min(columns, len(panels))
    width, height = (max(panel.size[axis] for panel in panels) for axis in (0, 1))
    sheet = Image.new("RGB", (width * columns, height * -(-len(panels) // columns)), "white")
    for i, panel in enumerate(panels):
        sheet.paste(panel, (i % columns * width, i // columns * height))
    return sheet


def titled(pixels: Pixels, title: str, note: str, always: bool = False) -> Image:
    """Put a title (or the room for one) above a drawing, and a note below; long ids are shortened."""
    from PIL import Image, ImageOps

    height, width = pixels.shape[:2]
    side = min(height, 2 * width)
    big, small = max(12, side // 32), max(10, side // 44)
    top = 2 * big if title or always else 0
    bottom = 2 * small if note else 0
    # A picture may be narrower than its title.
    pad = max(0, _TITLE_WIDTH - width + 1) // 2 if title or note else 0
    picture = ImageOps.expand(Image.fromarray(pixels), (pad, top, pad, bottom), "white")
    shown = short_ids(title)
    for text, font, y, color in ((shown, big, top * 0.6, "black"), (note, small, top + height + bottom / 2, "#555555")):
        write(picture, (picture.width / 2, y), shortened(text, picture.width - 16, font), font, color, "mm")
    return picture


def entries(scenes: Sequence[Scene], layers: Collection[str], keypoint: int | None) -> list[Entry]:
    """Make the legend of scenes that are drawn together."""
    present = {name for scene in scenes for name in scene.layers if name in layers}
    marks = (
        ("annotated", "ring", "annotated"),
        ("keypoints", "ball" if keypoint is None else "cross", "predicted"),
        ("errors", "line", "error"),
        ("covariance", "ellipse", "1 standard deviation"),
        ("samples", "dots", "samples"),
        ("skeleton", "bar", "strength, 0 to 1"),
    )
    made = [Entry(mark, text) for layer, mark, text in marks if layer in present]
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
    made += [Entry("ball", names[i], rgb(keypoint_colors([i])[0])) for i in sorted(names)]
    if keypoint is not None and "cloud" in layers:
        largest = "each cloud's largest" if len(scenes) > 1 else f"{scenes[0].prob[:, keypoint].max():.2g}"
        log = any(scene.map_scale == "log" for scene in scenes)
        said = f"{LOG_LEAST:g} to 1 of {largest}, log" if log else f"0 to {largest}"
        made += [Entry("", "probability"), Entry("heat", said)]
    return made
