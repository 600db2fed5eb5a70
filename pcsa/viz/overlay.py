"""Draw predictions on the images, scans and volumes that they were made from, as PNGs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pcsa.viz.colors import Array, MapScale, heat, keypoint_colors, scaled
from pcsa.viz.files import write_picture
from pcsa.viz.legend import Color, Entry, beside, font_of, rgb
from pcsa.viz.png import Pixels, in_rows, titled
from pcsa.viz.scene import named, text_of

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

# Marks are drawn so many times as large and made smaller: Pillow's circles and lines have no smooth edges.
_FINE = 4
_GAP = 6
_THINNEST = 24
# Least width of what surrounds a mark.
_EDGE = 1.1 * _FINE
_BLACK, _WHITE = (0, 0, 0), (255, 255, 255)


@dataclass(frozen=True, eq=False)
class Overlay:
    """An image and what is known of its keypoints or surfaces; tensors or arrays.

    Positions are in the image's pixels (voxels), whose centers are integers: pixel (0, 0) covers -1/2 to 1/2. What
    lies outside of the image is cut off. What is ``None`` is not drawn.

    Args:
        image: 0 to 1: gray ``[H, W]`` or ``[1, H, W]``, colors ``[3, H, W]``, or a volume ``[D, H, W]`` or
            ``[1, D, H, W]`` (the only form of 1 or 3 slices), which is drawn as its largest values seen from the front
            (x to the right, y down) and, beside that, from the side (z to the right, y down).
        predicted: Predicted positions, (x, y) ``[K, 2]`` or (x, y, z) ``[K, 3]``, drawn as dots. On an image, z
            has no effect. Of several persons ``[P, K, 2]`` or ``[P, K, 3]``: each has a color of its own, for rims,
            bones and box, and its number, from 1.
        annotated: Annotated positions, likewise, drawn as rings. Where both are drawn, a line joins them.
        surfaces: Predicted rows, in place of positions: the row y of each surface in each column, ``[K, W]``.
        annotated_surfaces: The annotated rows, likewise.
        visible: Which annotations there are, bool ``[K]`` (``[P, K]``), or ``[K, W]`` for surfaces; default all.
        present: Which predictions are drawn, bool ``[K]`` (``[P, K]``); default all.
        boxes: Boxes (x, y, width, height), one for each person ``[P, 4]``, as COCO has them: from the corner of the
            image, which (0, 0, W, H) covers.
        bones: Pairs of keypoints that a line joins, between predictions or, without any, between annotations.
        title: Written above the picture.
        note: Small print below the picture.
        names: Name of each keypoint or surface, for the legend; default its id.
        ids: Semantic id of each, which determines its color; default 0 to K - 1.
        prob: A probability map over the whole image, of any resolution and with the image's axes (without channels),
            that tints it; the sum, where there are many maps.
        map_scale: What the tint is of: the share of the largest probability, or its logarithm, from 1/1000.

    Raises:
        ValueError: If shapes do not fit, or a value that would be drawn is not finite.
    """

    image: Any
    _: KW_ONLY
    predicted: Any = None
    annotated: Any = None
    surfaces: Any = None
    annotated_surfaces: Any = None
    visible: Any = None
    present: Any = None
    boxes: Any = None
    bones: Sequence[tuple[int, int]] = ()
    title: str = ""
    note: str = ""
    names: Sequence[str] = ()
    ids: Sequence[int] = ()
    prob: Any = None
    map_scale: MapScale = "linear"

    def __post_init__(self) -> None:
        for name in ("predicted", "annotated", "surfaces", "annotated_surfaces", "prob", "boxes"):
            self._to_array(name, np.float64)
        self._to_array("image", np.float32)
        for name in ("visible", "present"):
            self._to_array(name, np.bool_)
        has_positions = self.predicted is not None or self.annotated is not None
        if has_positions and self.has_surfaces:
            raise ValueError("`predicted` and `annotated` must be None where `surfaces` are given, and the reverse")
        shape = self._check_image()
        K = self.num_keypoints
        if self.has_surfaces and len(shape) != 2:
            raise ValueError(f"`surfaces` must lie on an image [height, width] (={list(shape)})")
        P = self.num_persons
        several = () if P is None else (P,)
        rows = [(K, shape[1]) if self.has_surfaces else (*several, K)]
        positions = [(*several, K, n) for n in range(len(shape), 4)]
        boxes = [(max(np.size(self.boxes) // 4, 1) if P is None else P, 4)]
        others = {"predicted": positions, "annotated": positions, "boxes": boxes, "present": [(*several, K)]}
        for name in ("visible", "present", "predicted", "annotated", "surfaces", "annotated_surfaces", "boxes"):
            value = getattr(self, name)
            if value is None:
                continue
            allowed = others.get(name, rows)
            if value.shape not in allowed:
                wanted = " or ".join(str(list(size)) for size in allowed)
                raise ValueError(f"`{name}` {list(value.shape)} must be {wanted} on an image of {list(shape)}")
            if name.startswith("annotated"):
                value = value[self.annotations]
            elif name == "predicted":
                value = value[self.drawn]
            bad = ~np.isfinite(value)
            if bad.any():
                raise ValueError(f"`{name}` has {int(bad.sum())} values that are not finite")
        names, ids = named(self.names, self.ids, K)
        texts = {"title": text_of(self.title), "note": text_of(self.note)}
        for name, given in {"names": names, "ids": ids, **texts}.items():
            object.__setattr__(self, name, given)
        if len(self.names) != K or len(self.ids) != K:
            raise ValueError(f"`names` ({len(self.names)}) and `ids` ({len(self.ids)}) must be {K}, one per keypoint")
        if self.has_surfaces and len(self.bones):
            raise ValueError("`bones` join keypoints, must be empty where `surfaces` are given")
        for bone in self.bones:
            if len(bone) != 2 or not all(0 <= k < K for k in bone):
                raise ValueError(f"`bones` has {tuple(bone)}, must be pairs of places in the {K} keypoints")
        if self.prob is not None:
            if self.prob.ndim != len(shape) or 0 in self.prob.shape:
                raise ValueError(f"`prob` {list(self.prob.shape)} must have the {len(shape)} axes of the image")
            if not (np.isfinite(self.prob).all() and self.prob.min() >= 0):
                raise ValueError("`prob` must be finite and at least 0")

    def _to_array(self, name: str, dtype: Any) -> None:
        value = getattr(self, name)
        if value is None:
            return
        if isinstance(value, Tensor):
            value = value.detach().cpu().double().numpy()
        try:
            object.__setattr__(self, name, np.asarray(value).astype(dtype))
        except (TypeError, ValueError) as error:
            raise ValueError(f"`{name}` must be numbers: {error}") from None

    def _check_image(self) -> tuple[int, ...]:
        """Check the image, and return the sizes of its axes without the channels."""
        image, given = self.image, list(self.image.shape)
        if image.ndim == 3 and given[0] not in (1, 3) and given[2] in (3, 4):
            raise ValueError(f"`image` {given} must have its channels first: [3, H, W]; a volume is [1, D, H, W]")
        if not 2 <= image.ndim <= 4 or (image.ndim == 4 and len(image) != 1) or 0 in given:
            raise ValueError(
                f"`image` {given} must be [H, W], [1, H, W], [3, H, W], or a volume [D, H, W] or [1, D, H, W]"
            )
        # Interpolation makes white a little whiter.
        if not np.isfinite(image).all() or image.min() < -1e-3 or image.max() > 1 + 1e-3:
            raise ValueError(f"`image` must be from 0 to 1, goes from {image.min():g} to {image.max():g}")
        return tuple(given[-3:] if self.is_volume else given[-2:])

    @property
    def is_volume(self) -> bool:
        """Whether the image is a volume."""
        return bool(self.image.ndim == 4 or (self.image.ndim == 3 and len(self.image) not in (1, 3)))

    @property
    def has_surfaces(self) -> bool:
        """Whether surfaces are drawn, in place of keypoints."""
        return self.surfaces is not None or self.annotated_surfaces is not None

    @property
    def num_keypoints(self) -> int:
        """K, the number of keypoints or surfaces."""
        for value in (self.predicted, self.annotated, self.surfaces, self.annotated_surfaces):
            if value is not None and value.ndim:
                return int(value.shape[-2 if value.ndim > 1 else 0])
        return 0

    @property
    def num_persons(self) -> int | None:
        """P, the number of persons; None where positions have no axis of persons."""
        for value in (self.predicted, self.annotated):
            if value is not None and value.ndim == 3:
                return len(value)
        return None

    @property
    def drawn(self) -> NDArray[np.bool_]:
        """Which predictions are drawn: [K] or [P, K]."""
        return np.asarray(self._there(self.predicted is not None, self.present))

    @property
    def annotations(self) -> NDArray[np.bool_]:
        """Which annotations are drawn: [K] or [P, K], or [K, W] for surfaces."""
        return self._there(self.annotated is not None or self.annotated_surfaces is not None, self.visible)

    def _there(self, given: bool, mask: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
        rows = self.annotated_surfaces if self.annotated_surfaces is not None else self.surfaces
        several = () if self.num_persons is None else (self.num_persons,)
        shape = (*several, self.num_keypoints) if rows is None else rows.shape
        return np.full(shape, given) if mask is None else np.asarray(mask & given)


def save_overlay(
    path: Path | str, overlay: Overlay, *, size: tuple[int, int] = (800, 800), legend: bool = True
) -> None:
    """Draw one image and what lies on it, with its title and a legend; see :func:`save_overlays`."""
    save_overlays(path, [overlay], 1, size=size, legend=legend)


def save_overlays(
    path: Path | str,
    overlays: Sequence[Overlay],
    columns: int = 3,
    *,
    size: tuple[int, int] = (440, 440),
    legend: bool = True,
) -> None:
    """Draw a grid of images and what lies on them, with one legend.

    Images are enlarged or made smaller to fit their panel, and marks are drawn on that, to a fraction of its pixels:
    small images show them as sharply as large ones.

    Args:
        path: The PNG to write, or a ``.svg`` or ``.pdf``, which holds the drawn pixels; folders are made if need be.
        overlays: One for each panel, at least one.
        columns: Panels in a row.
        size: Largest width and height of one panel, in pixels.
        legend: Names of what is drawn, at the right.

    Raises:
        ValueError: If there is nothing to draw, or ``columns`` or ``size`` is too small.
    """
    if not overlays:
        raise ValueError("`overlays` must hold at least one overlay")
    if columns < 1:
        raise ValueError(f"`columns` (={columns}) must be at least 1")
    if min(size) < 16 or max(size) > 8192:
        raise ValueError(f"`size` (={tuple(size)}) must be from 16 to 8192 pixels")
    drawn = [draw(overlay, size) for overlay in overlays]
    gap = _GAP if len(drawn) > 1 else 0  # so that neighbors do not touch
    height, width = (max(pixels.shape[axis] for pixels in drawn) + gap for axis in (0, 1))
    with_title, with_note = any(o.title for o in overlays), any(o.note for o in overlays)
    panels = []
    for pixels, overlay in zip(drawn, overlays, strict=True):
        if gap:  # shows where a white image ends
            pixels[[0, -1]] = pixels[:, [0, -1]] = 200
        pad = height - pixels.shape[0], width - pixels.shape[1]
        panel = np.pad(pixels, [*((p // 2, p - p // 2) for p in pad), (0, 0)], constant_values=255)
        # A blank note takes the room of a note: all panels must be of one size.
        panels.append(titled(panel, overlay.title, overlay.note or " " * with_note, always=with_title))
    sheet = beside(in_rows(panels, columns), _entries(overlays) if legend else [])
    write_picture(path, sheet, "\n".join(o.title for o in overlays))


def draw(overlay: Overlay, size: tuple[int, int]) -> Pixels:
    """Draw one overlay without title and legend, [height, width, 3], as large as it can be within ``size``."""
    views = list(_views(overlay))
    height, width = views[0].pixels.shape[0], sum(view.pixels.shape[1] for view in views)
    scale = min((size[0] - _GAP * (len(views) - 1)) / width, size[1] / height)
    unit = _FINE * float(np.clip(scale * np.sqrt(height * width) / 300, 0.6, 2.0))
    parts, least = [], min(_THINNEST, *size)
    for view in views:
        # One row of pixels would not be seen: what is very flat or narrow is stretched.
        h, w = (max(least, int(n * scale + 0.5)) for n in view.pixels.shape[:2])
        parts += [_draw_view(overlay, view, (w, h), unit), np.full((h, _GAP, 3), 255, np.uint8)]
    return np.concatenate(parts[:-1], axis=1)


class _View(NamedTuple):
    """An image as it is seen from one side."""

    pixels: Pixels
    """Colors [H, W, 3]."""
    prob: Array | None
    """Probability map [h, w], if any."""
    axes: tuple[int, int]
    """Which coordinates of a position go right and down."""


def _views(overlay: Overlay) -> Iterator[_View]:
    image, prob = overlay.image.clip(0, 1), overlay.prob
    # In place: pictures of a camera are large.
    image *= 255
    image += 0.5
    image = image.astype(np.uint8)
    if not overlay.is_volume:
        yield _View(np.broadcast_to(image, (3, *image.shape[-2:])).transpose(1, 2, 0), prob, (0, 1))
        return
    volume = image.reshape(image.shape[-3:])
    yield _View(np.stack([volume.max(0)] * 3, -1), None if prob is None else prob.max(0), (0, 1))
    yield _View(np.stack([volume.max(2).T] * 3, -1), None if prob is None else prob.max(2).T, (2, 1))


def _draw_view(overlay: Overlay, view: _View, size: tuple[int, int], unit: float) -> Pixels:
    from PIL import Image, ImageDraw

    # Pillow maps edges to edges, as a frame with pixel centers at integers has it.
    image = Image.fromarray(np.ascontiguousarray(view.pixels)).resize(size, Image.Resampling.BICUBIC)
    if view.prob is not None and view.prob.max() > 0:
        share = Image.fromarray((view.prob / view.prob.max()).astype(np.float32))
        at = scaled(np.asarray(share.resize(size, Image.Resampling.BILINEAR)).clip(0, 1), overlay.map_scale)
        alpha = 0.8 * at[..., None]
        tinted = (1 - alpha) * np.asarray(image) + alpha * 255 * heat(at)
        image = Image.fromarray((tinted + 0.5).astype(np.uint8))
    fine = image.resize((_FINE * size[0], _FINE * size[1]), Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(fine)
    stretch = np.array(fine.size) / view.pixels.shape[1::-1]

    def place(pos: Array) -> Array:
        # From centers at integers to edges at integers and back: Pillow has the center of pixel 0 at 0, too.
        # Pillow cannot hold large numbers, and what lies far outside is not seen anyway.
        return np.asarray((pos + 0.5) * stretch - 0.5).clip(-1e6, 1e6)

    colors = _colors(overlay)
    if overlay.has_surfaces:
        _draw_surfaces(pen, overlay, place, colors, unit)
    else:
        _draw_boxes(pen, overlay, place, view.axes, unit)
        _draw_persons(pen, overlay, place, view.axes, colors, unit)
    return np.asarray(fine.reduce(_FINE))


def _draw_surfaces(pen: ImageDraw, overlay: Overlay, place: Any, colors: Sequence[Color], unit: float) -> None:
    alone = overlay.surfaces is None
    # Every line has a dark casing: a light line on a light scan is seen by it.
    width = max(1.3 * unit, 1.8 * _FINE)
    edge = width + 3 * _FINE
    if not alone:
        for rows, color in zip(overlay.surfaces, colors, strict=True):
            _curve(pen, place, rows, _BLACK, edge)
            _curve(pen, place, rows, color, width)
    if overlay.annotated_surfaces is not None:
        # White tells an annotation from a prediction.
        for rows, color in zip(np.where(overlay.annotations, overlay.annotated_surfaces, np.nan), colors, strict=True):
            _curve(pen, place, rows, _BLACK, edge, None if alone else 6 * unit)
            _curve(pen, place, rows, color if alone else _WHITE, width, None if alone else 6 * unit)


def _draw_boxes(pen: ImageDraw, overlay: Overlay, place: Any, axes: tuple[int, int], unit: float) -> None:
    # Boxes lie in the image's own plane.
    if overlay.boxes is None or axes != (0, 1):
        return
    for (x, y, width, height), color in zip(overlay.boxes, _tints(len(overlay.boxes)), strict=True):
        corners = place(np.array([[x, y], [x + width, y], [x + width, y + height], [x, y + height], [x, y]]) - 0.5)
        for tint, wide in _cased(color, 0.9 * unit, _EDGE):
            _line(pen, corners, tint, wide)


def _draw_persons(
    pen: ImageDraw, overlay: Overlay, place: Any, axes: tuple[int, int], colors: Sequence[Color], unit: float
) -> None:
    """Draw one person after the other, and then their numbers."""
    P = overlay.num_persons
    people = P or 1
    masks = overlay.drawn.reshape(people, -1), overlay.annotations.reshape(people, -1)
    flat = [
        np.zeros((people, 0, 2)) if x is None else place(np.nan_to_num(x[..., axes])).reshape(people, -1, 2)
        for x in (overlay.predicted, overlay.annotated)
    ]
    if P == 0:
        return
    rims = [_WHITE] if P is None else _tints(people)
    over_map = overlay.prob is not None
    for p, rim in enumerate(rims):
        _draw_keypoints(
            pen, overlay.bones, flat[0][p], masks[0][p], flat[1][p], masks[1][p], colors, rim, unit, over_map
        )
    if P is None or axes != (0, 1):
        return
    for p, rim in enumerate(rims):
        if overlay.boxes is not None:
            corner = place(overlay.boxes[p, :2] - 0.5)
        else:
            seen = np.concatenate([flat[i][p][masks[i][p]] for i in (0, 1) if len(flat[i][p])])
            if not len(seen):
                continue
            corner = seen[seen[:, 1].argmin()] - [0, 8 * unit]
        _tag(pen, str(p + 1), corner, rim, round(5 * unit))


def _tag(pen: ImageDraw, text: str, corner: Array, color: Color, size: int) -> None:
    """Write a number in a box of a color, within the picture."""
    font = font_of(size)
    wide, high = font.getlength(text) + 0.6 * size, 1.25 * size
    x, y = np.clip(corner, 0, [max(pen.im.size[0] - wide, 0), max(pen.im.size[1] - high, 0)])
    pen.rectangle([x, y, x + wide, y + high], fill=color, outline=_BLACK, width=_FINE)
    light = np.dot(color, [0.3, 0.59, 0.11]) > 128
    pen.text((x + wide / 2, y + high / 2), text, _BLACK if light else _WHITE, font=font, anchor="mm")


def _draw_keypoints(
    pen: ImageDraw,
    bones: Sequence[tuple[int, int]],
    predicted: Array,
    drawn: NDArray[np.bool_],
    annotated: Array,
    visible: NDArray[np.bool_],
    colors: Sequence[Color],
    rim: Color,
    unit: float,
    over_map: bool,
) -> None:
    # Many large marks would hide the image, and large ones the peaks of its map.
    r = 2.8 * unit * float(np.clip(np.sqrt(20 / max(len(colors), 1)), 0.5, 1)) * (0.6 if over_map else 1)
    joined, there = (predicted, drawn) if len(predicted) else (annotated, visible)
    segments = [joined[[a, b]] for a, b in bones if there[a] and there[b]]
    edge = max(0.15 * r, _EDGE)
    for color, width in _cased(rim, (0.55 if rim == _WHITE else 0.4) * r, edge):
        for segment in segments:
            _line(pen, segment, color, width)
    for k in np.flatnonzero(visible).tolist():
        color, middle = colors[k], annotated[k]
        if len(predicted) and drawn[k]:
            ends = np.stack([predicted[k], middle])
            for tint, width in _cased(color, 0.45 * r, edge):
                _line(pen, ends, tint, width)
        for tint, width in _cased(color, 0.45 * r, edge):
            _disc(pen, middle, 1.375 * r + width / 2, outline=tint, width=round(width))
    for k in np.flatnonzero(drawn & (len(predicted) > 0)).tolist():
        outer = r + edge + (0 if rim == _WHITE else 0.4 * r)
        for radius, fill in ((outer + edge, _BLACK), (outer, rim), (r + edge, _WHITE), (r, colors[k])):
            _disc(pen, predicted[k], radius, fill=fill)


def _cased(color: Color, width: float, edge: float) -> tuple[tuple[Color, float], ...]:
    """Return a stroke in a casing: what is drawn one above the other, with its width.

    White beside black shows on any image, whatever the color between them.
    """
    return (_BLACK, width + 4 * edge), (_WHITE, width + 2 * edge), (color, width)


# Pillow cuts fractions off, which would move everything up and to the left.


def _disc(pen: ImageDraw, middle: Array, radius: float, **how: Any) -> None:
    pen.ellipse(np.rint([*(middle - radius), *(middle + radius)]).tolist(), **how)


def _line(pen: ImageDraw, points: Array, color: Color, width: float) -> None:
    pen.line(np.rint(points).flatten().tolist(), fill=color, width=max(1, round(width)), joint="curve")


def _curve(pen: ImageDraw, place: Any, rows: Array, color: Color, width: float, dash: float | None = None) -> None:
    """Draw rows over columns, from edge to edge of each run of columns that have one."""
    for run in np.ma.clump_unmasked(np.ma.masked_invalid(rows)):
        columns = np.arange(run.start, run.stop)
        # Four places in a column, so that dashes may be shorter than it.
        x = np.linspace(run.start - 0.5, run.stop - 0.5, 4 * len(columns) + 1)
        points = place(np.stack([x, np.interp(x, columns, rows[run])], -1))
        at = np.zeros(len(x)) if dash is None else points[:, 0] // dash
        for piece in np.split(np.arange(len(x)), np.flatnonzero(np.diff(at)) + 1):
            if len(piece) > 1 and at[piece[0]] % 2 == 0:
                _line(pen, points[piece], color, width)


def _entries(overlays: Sequence[Overlay]) -> list[Entry]:
    """Make the legend of overlays that are drawn together."""
    both = any(o.surfaces is not None and o.annotated_surfaces is not None for o in overlays)
    marks = (
        (any(o.annotated is not None for o in overlays), "ring", "annotated"),
        (any(o.predicted is not None for o in overlays), "ball", "predicted"),
        (any(o.predicted is not None and o.annotations.any() for o in overlays), "line", "error"),
        (both, "dashes", "annotated (white)"),
        (any(o.surfaces is not None for o in overlays), "line", "predicted"),
        (any(o.surfaces is None and o.annotated_surfaces is not None for o in overlays), "line", "annotated"),
        (any(o.prob is not None for o in overlays), "heat", "probability"),
        (any(o.is_volume for o in overlays), "", "left x, y; right z, y"),
    )
    shown: dict[int, Entry] = {}
    for overlay in overlays:
        mark = "line" if overlay.has_surfaces else "ball"
        if overlay.has_surfaces:
            seen = np.asarray(overlay.annotations.any(1) | (overlay.surfaces is not None))
        else:
            seen = np.asarray(np.atleast_2d(overlay.drawn | overlay.annotations).any(0))
        for k, color in enumerate(_colors(overlay)):
            if seen[k]:
                shown.setdefault(int(overlay.ids[k]), Entry(mark, str(overlay.names[k]), color))
    people = max((o.num_persons or 0 for o in overlays), default=0)
    return [
        *(Entry(mark, text) for present, mark, text in marks if present),
        *(shown[i] for i in sorted(shown)),
        *(Entry("line", f"person {p}", color) for p, color in enumerate(_tints(people), 1)),
    ]


def _colors(overlay: Overlay) -> list[Color]:
    colors = keypoint_colors(overlay.ids)
    if overlay.has_surfaces:
        # Thin curves with dark casings: dark colors are mixed with white, so that one of both is seen on any scan.
        light = colors @ [0.3, 0.59, 0.11]
        white = ((0.6 - light) / (1 - light)).clip(0, None)[:, None]
        colors = colors + white * (1 - colors)
    return [rgb(color) for color in colors]


def _tints(ids: int | Sequence[int]) -> list[Color]:
    return [rgb(color) for color in keypoint_colors(ids)]
