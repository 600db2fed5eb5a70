"""Describe what a picture shows, and make the balls and lines that every renderer draws."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import pcsa
from pcsa._core.checks import check_one_of
from pcsa.viz.colors import Array as Array, MapScale, heat, keypoint_colors, scaled, strengths

_log = logging.getLogger(__name__)

LAYERS = ("mesh", "cloud", "keypoints", "annotated", "errors", "covariance", "samples", "skeleton")
"""What a scene can show, each of which a renderer can leave out."""


Up = Literal["x", "y", "z"]
_OTHERS = ("prob", "activation", "color", "vertices", "vertex_color")


@dataclass(frozen=True, eq=False)
class Scene:
    """A cloud and what is known of its keypoints. Positions in one unit and frame, tensors or arrays.

    Only ``pos`` is needed: what is ``None`` is not drawn.

    Args:
        pos: Points [N, 3].
        title: Written above the picture.
        names: Name of each keypoint; default its id.
        ids: Semantic id of each keypoint, which determines its color; default 0 to K - 1.
        keypoints: Predicted positions [K, 3].
        present: Which predictions are drawn, bool [K]; default all.
        confidence: Confidence of each prediction [K], for tooltips.
        covariance: Covariance of each prediction [K, 3, 3], drawn as its ellipsoid of one standard deviation.
        annotated: Annotated positions [K, 3]. Where both are drawn, a line joins them to the predictions.
        visible: Which annotations there are, bool [K]; default all.
        samples: Drawn from the probability maps [K, S, 3].
        prob: Probability of each point for each keypoint [N, K]; one column at a time colors the cloud.
        segments: Pairs of keypoints that a skeleton joins, integer [M, 2].
        activation: Strength of each segment [M], 0 to 1; default 1.
        color: Colors of the points [N, 3], 0 to 1; default grays that show the surface.
        vertices: Vertices of a mesh [V, 3].
        faces: Faces of a mesh, integer [F, 3].
        vertex_color: Colors of the vertices [V, 3], 0 to 1; default light gray.
        note: Small print below the picture.
        map_scale: What a map's colors are of: the share of the largest probability, or its logarithm, from 1/1000:
            then one peak does not hide the rest.
        up: The axis that points up in pictures, windows and pages.

    Raises:
        ValueError: If shapes do not fit, or a value that would be drawn is not finite.
    """

    pos: Any
    title: str = ""
    names: Sequence[str] = ()
    ids: Sequence[int] = ()
    keypoints: Any = None
    present: Any = None
    confidence: Any = None
    covariance: Any = None
    annotated: Any = None
    visible: Any = None
    samples: Any = None
    prob: Any = None
    segments: Any = None
    activation: Any = None
    color: Any = None
    vertices: Any = None
    faces: Any = None
    vertex_color: Any = None
    note: str = ""
    map_scale: MapScale = "linear"
    up: Up = "y"

    def __post_init__(self) -> None:
        for name in ("pos", "keypoints", "confidence", "covariance", "annotated", "samples", "activation", "vertices"):
            self._to_array(name, np.float64)
        for name in ("prob", "color", "vertex_color"):
            self._to_array(name, np.float32)
        for name, dtype in (("present", np.bool_), ("visible", np.bool_), ("segments", np.int64), ("faces", np.int64)):
            self._to_array(name, dtype)
        if self.pos.ndim != 2 or self.pos.shape[1] != 3 or len(self.pos) == 0:
            raise ValueError(f"`pos` {list(self.pos.shape)} must be [N, 3] with N at least 1")
        for name in ("title", "note"):
            object.__setattr__(self, name, text_of(getattr(self, name)))
        for name in ("names", "ids"):
            value = getattr(self, name)
            object.__setattr__(self, name, () if value is None else list(value))
        check_one_of("map_scale", self.map_scale, ("linear", "log"))
        check_one_of("up", self.up, get_args(Up))
        N, K = len(self.pos), self.num_keypoints
        names, ids = named(self.names, self.ids, K)
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "ids", ids)
        M = 0 if self.segments is None else len(self.segments)
        V = 0 if self.vertices is None else len(self.vertices)
        shapes: dict[str, tuple[int | None, ...]] = {
            "keypoints": (K, 3),
            "present": (K,),
            "confidence": (K,),
            "covariance": (K, 3, 3),
            "annotated": (K, 3),
            "visible": (K,),
            "samples": (K, None, 3),
            "prob": (N, K),
            "segments": (M, 2),
            "activation": (M,),
            "color": (N, 3),
            "vertices": (V, 3),
            "faces": (None, 3),
            "vertex_color": (V, 3),
        }
        for name, shape in shapes.items():
            value = getattr(self, name)
            if value is not None and (
                value.ndim != len(shape) or any(b not in (None, a) for a, b in zip(value.shape, shape, strict=True))
            ):
                wanted = ", ".join("?" if n is None else str(n) for n in shape)
                raise ValueError(
                    f"`{name}` {list(value.shape)} must be [{wanted}] as {N} points and {K} keypoints need"
                )
        if len(self.names) != K or len(self.ids) != K:
            raise ValueError(f"`names` ({len(self.names)}) and `ids` ({len(self.ids)}) must be {K}, one per keypoint")
        for name, limit, of in (("segments", K, "keypoints"), ("faces", V, "vertices")):
            value = getattr(self, name)
            if value is not None and value.size and not (value.min() >= 0 and value.max() < limit):
                raise ValueError(
                    f"`{name}` must be places in the {limit} `{of}`, goes from {value.min()} to {value.max()}"
                )
        if self.segments is not None and self.keypoints is None:
            raise ValueError("`segments` join `keypoints`, which are None")
        drawn, annotated = self.drawn, self.annotations
        for name in ("pos", "keypoints", "annotated", "covariance", "samples", *_OTHERS):
            value = getattr(self, name)
            if value is None:
                continue
            if name in ("keypoints", "covariance", "samples"):
                value = value[drawn]
            elif name == "annotated":
                value = value[annotated]
            if not np.isfinite(value).all():
                raise ValueError(f"`{name}` has {int((~np.isfinite(value)).sum())} values that are not finite")

    def _to_array(self, name: str, dtype: Any) -> None:
        value = getattr(self, name)
        if value is None:
            return
        if isinstance(value, Tensor):
            value = value.detach().cpu().numpy()
        try:
            object.__setattr__(self, name, np.asarray(value).astype(dtype))
        except (TypeError, ValueError) as error:
            raise ValueError(f"`{name}` must be numbers: {error}") from None

    @property
    def num_keypoints(self) -> int:
        """K."""
        for value in (self.keypoints, self.annotated, self.samples):
            if value is not None:
                return len(value)
        return len(self.ids) or len(self.names) or (0 if self.prob is None else self.prob.shape[-1])

    @property
    def drawn(self) -> NDArray[np.bool_]:
        """Which predictions are drawn, [K]."""
        there = self.keypoints is not None or self.samples is not None
        present = np.ones(self.num_keypoints, bool) if self.present is None else self.present
        return np.asarray(present & there)

    @property
    def annotations(self) -> NDArray[np.bool_]:
        """Which annotations are drawn, [K]."""
        visible = np.ones(self.num_keypoints, bool) if self.visible is None else self.visible
        return np.asarray(visible & (self.annotated is not None))

    @property
    def error(self) -> Array:
        """Distance of each prediction to its annotation, [K]; NaN where one of them is missing."""
        error = np.full(self.num_keypoints, np.nan)
        both = self.drawn & self.annotations
        if self.keypoints is not None and both.any():
            error[both] = np.linalg.norm(self.keypoints[both] - self.annotated[both], axis=1)
        return error

    @property
    def layers(self) -> tuple[str, ...]:
        """Those of :data:`LAYERS` that the scene has something for."""
        has = {
            "mesh": self.faces is not None and len(self.faces) > 0,
            "cloud": True,
            "keypoints": self.keypoints is not None and bool(self.drawn.any()),
            "annotated": bool(self.annotations.any()),
            "errors": bool(np.isfinite(self.error).any()),
            "covariance": self.covariance is not None and self.keypoints is not None and bool(self.drawn.any()),
            "samples": self.samples is not None and self.samples.shape[1] > 0 and bool(self.drawn.any()),
            "skeleton": self.segments is not None and len(self.segments) > 0,
        }
        return tuple(name for name in LAYERS if has[name])


def text_of(value: object) -> str:
    """Return a text that can be written, empty for None; bytes of a file name that are no letters become ``?``."""
    return "" if value is None else str(value).encode("utf-8", "replace").decode()


def named(names: Sequence[object], ids: Sequence[int], count: int) -> tuple[list[str], list[int]]:
    """Return names and ids of keypoints; an id that is not given is the place, a name that is not given the id."""
    whole = list(range(count)) if len(ids) == 0 else [int(i) for i in ids]
    given = list(whole) if len(names) == 0 else list(names)
    if len(given) != len(whole):
        return [text_of(name) for name in given], whole
    return [text_of(name).strip() or str(i) for name, i in zip(given, whole, strict=True)], whole


@torch.no_grad()
def keypoint_scene(
    pos: Tensor,
    logits: Tensor,
    *,
    bandwidth: float | Tensor | None = None,
    read_out: pcsa.localization.ReadOut = "expectation",
    radius: float | None = None,
    num_samples: int = 0,
    temperature: float = 1.0,
    tempering: Literal["logits", "noise"] = "logits",
    generator: torch.Generator | None = None,
    **about: Any,
) -> Scene:
    """Make the scene of one cloud from the scores that a network gave its points.

    Args:
        pos: Points [N, 3], any unit.
        logits: Raw scores [N, K].
        bandwidth: See :func:`pcsa.localize`; default from the neighbors.
        read_out: See :func:`pcsa.localize`.
        radius: The same, in the units of ``pos``.
        num_samples: Samples to draw for every keypoint.
        temperature: Temperature of the samples.
        tempering: What the temperature divides: the perturbed ``"logits"`` (Eq. 11), or the ``"noise"`` alone.
        generator: Source of the samples' noise.
        about: Other fields of :class:`Scene`: title, names, ids, annotated, visible, present, …
    """
    pos, logits = pos.detach().cpu(), logits.detach().float().cpu()
    check_one_of("tempering", tempering, ("logits", "noise"))
    # About the middle, so that float32 is enough wherever the cloud lies.
    center = pos.double().mean(0)
    near = (pos.double() - center).float()
    if bandwidth is None:
        bandwidth = pcsa.knn_bandwidth(near)
    found = pcsa.localize(logits, near, bandwidth, read_out=read_out, radius=radius)
    if num_samples:
        samples = pcsa.sampling_argmax(
            logits * temperature if tempering == "noise" else logits,
            near,
            bandwidth,
            num_samples=num_samples,
            temperature=temperature,
            generator=generator,
        )
        about["samples"] = samples[0].double() + center
    return Scene(
        pos=pos,
        keypoints=found.position[0].double() + center,
        covariance=found.covariance[0],
        confidence=found.confidence[0],
        prob=logits.softmax(0),
        **about,
    )


def thin(scene: Scene, limit: int) -> Scene:
    """Keep at most ``limit`` points, chosen at random but always the same; the note and the log say so."""
    N = len(scene.pos)
    if limit >= N:
        return scene
    rows = np.random.default_rng(0).choice(N, limit, replace=False)
    if scene.prob is not None:
        # A map must not lose its peak.
        best = scene.prob.argmax(0)
        rows = np.concatenate([rows[: max(limit - len(best), 1)], best])
    rows = np.unique(rows)
    said = f"{len(rows):,} of {N:,} points drawn"
    _log.info("%s: %s", scene.title or "scene", said)
    part = {name: getattr(scene, name)[rows] for name in ("pos", "prob", "color") if getattr(scene, name) is not None}
    return dataclasses.replace(scene, note="; ".join(filter(None, (scene.note, said))), **part)


def shading(pos: Array, light: Array) -> Array:
    """Return how squarely a lamp from ``light`` falls on the surface at each point, 0 to 1, from either side."""
    N = len(pos)
    if N < 4:
        return np.full(N, 0.7)
    k = min(N, 12)
    x = torch.from_numpy((pos - pos.mean(0)) / max(float(np.ptp(pos, axis=0).max()), 1e-300)).float()
    index = pcsa.neighbors.knn(x, torch.tensor([0, N]), k).index.numpy()
    local = pos[index] - pos[index].mean(1, keepdims=True)
    normal = np.linalg.eigh(np.einsum("nka,nkb->nab", local, local))[1][:, :, 0]
    return np.asarray(np.abs(normal @ (light / np.linalg.norm(light))))


def cloud_colors(scene: Scene, keypoint: int | None, light: Array) -> Array:
    """Color the points [N, 3]: by the probability of ``keypoint``, else by their own colors, else in shaded gray."""
    if keypoint is not None:
        return heat(map_shares(scene, keypoint))
    if scene.color is not None:
        return np.clip(scene.color, 0, 1)
    gray = 0.50 + 0.36 * shading(scene.pos, light)
    return np.repeat(gray[:, None], 3, axis=1)


def map_shares(scene: Scene, keypoint: int) -> Array:
    """Return the place of each point on the scale of a map's colors, 0 to 1."""
    return scaled(linear_shares(scene, keypoint), scene.map_scale)


def linear_shares(scene: Scene, keypoint: int) -> Array:
    """Divide the probability of each point for one keypoint by the largest."""
    if scene.prob is None:
        raise ValueError(f"`keypoint` (={keypoint}) needs a scene with `prob`")
    if not 0 <= keypoint < scene.num_keypoints:
        raise ValueError(f"`keypoint` (={keypoint}) must be a place in the {scene.num_keypoints} keypoints")
    prob = scene.prob[:, keypoint]
    return np.asarray(prob / max(prob.max(), 1e-300))


class Balls(NamedTuple):
    """Centers [M, 3], colors [M, 3], radii [M], and the keypoint of each [M]."""

    center: Array
    color: Array
    radius: Array
    keypoint: NDArray[np.int64]


class Lines(NamedTuple):
    """Ends [M, 3] each, colors [M, 3], radii [M], and the keypoint of each [M], -1 for none."""

    start: Array
    end: Array
    color: Array
    radius: Array
    keypoint: NDArray[np.int64]


def size_of(scene: Scene) -> float:
    """Return half the diagonal of the box around the cloud, never 0: the unit of sizes in a picture."""
    box = np.ptp(scene.pos, axis=0)
    half = float(np.linalg.norm(box)) / 2
    if half > 0:
        return half
    marks = [(scene.keypoints, scene.drawn), (scene.annotated, scene.annotations)]
    far = max((float(np.abs(x[on] - scene.pos[0]).max(initial=0)) for x, on in marks if x is not None), default=0.0)
    return far or 1.0


def mark_size(scene: Scene) -> float:
    """Return the unit of the sizes of marks: that of the cloud, smaller where there are many keypoints."""
    return size_of(scene) * float(np.clip((40 / max(scene.num_keypoints, 1)) ** 0.5, 0.35, 1))


REACH = 3.0
"""How far from the middle of the cloud marks are drawn, in the unit of :func:`size_of`: farther ones are put there."""


def within_reach(scene: Scene, x: Array) -> Array:
    """Draw positions [..., 3] that lie far outside of the cloud nearer, so that it does not shrink to a dot."""
    away = x - _middle(scene)
    far = np.linalg.norm(away, axis=-1, keepdims=True)
    limit = REACH * size_of(scene)
    return np.asarray(np.where(far > limit, _middle(scene) + away * (limit / np.maximum(far, limit)), x))


def _middle(scene: Scene) -> Array:
    return np.asarray((scene.pos.min(0) + scene.pos.max(0)) / 2)


def note_of(scene: Scene) -> str:
    """Return the small print: that of the scene, and how many keypoints lie farther away than they are drawn."""
    far = np.zeros(scene.num_keypoints, bool)
    for x, on in ((scene.keypoints, scene.drawn), (scene.annotated, scene.annotations)):
        if x is not None:
            far[on] |= np.linalg.norm(x[on] - _middle(scene), axis=1) > REACH * size_of(scene)
    count = int(far.sum())
    said = f"{count} {'keypoint' if count == 1 else 'keypoints'} far outside, drawn nearer" if count else ""
    return "; ".join(filter(None, (scene.note, said)))


def balls(scene: Scene, layers: Collection[str], keypoint: int | None = None) -> Balls:
    """Make balls of keypoints and samples; where a map is shown, of the samples of its keypoint alone."""
    colors, size, shown = keypoint_colors(scene.ids), size_of(scene), {*layers} & {*scene.layers}
    k = _chosen(scene.drawn, keypoint)
    parts = []

    def add(center: Array, keypoint: NDArray[np.int64], radius: float) -> None:
        parts.append(Balls(center, colors[keypoint], np.full(len(center), radius), keypoint))

    add(np.zeros((0, 3)), k[:0], 0.0)
    if "samples" in shown:
        samples = within_reach(scene, scene.samples[k].reshape(-1, 3))
        add(samples, np.repeat(k, scene.samples.shape[1]), 0.008 * size)
    # A ball would hide the peak of a map: there, lines mark the place.
    if "keypoints" in shown and keypoint is None:
        add(within_reach(scene, scene.keypoints[k]), k, 0.030 * mark_size(scene))
    return Balls(*(np.concatenate(field) for field in zip(*parts, strict=True)))


def _chosen(mask: NDArray[np.bool_], keypoint: int | None) -> NDArray[np.int64]:
    k = np.flatnonzero(mask)
    return k if keypoint is None else k[k == keypoint]


def lines(scene: Scene, layers: Collection[str], keypoint: int | None, axes: Array) -> Lines:
    """Make lines of errors, annotations (rings), covariances (three principal ellipses) and skeletons.

    Where a map is shown, its keypoint is a cross that is open in the middle, in place of a ball.

    Args:
        scene: What is drawn.
        layers: Names of what is drawn.
        keypoint: Keypoint whose marks alone are drawn; None for all.
        axes: The view, see :func:`view_axes`; rings are turned towards the viewer.
    """
    colors, size, shown = keypoint_colors(scene.ids), mark_size(scene), {*layers} & {*scene.layers}
    # None where the layers that need them are not there.
    keypoints: Any
    annotated: Any
    keypoints, annotated = (None if x is None else within_reach(scene, x) for x in (scene.keypoints, scene.annotated))
    parts = []

    def add(start: Array, end: Array, keypoint: NDArray[np.int64], radius: float) -> None:
        parts.append(Lines(start, end, colors[keypoint], np.full(len(start), radius), keypoint))

    def add_loops(center: Array, columns: Array, planes: Sequence[tuple[int, int]], k: Any, radius: float) -> None:
        """Add the ellipses that ``columns`` [..., 3, 3] span in some of their planes."""
        angle = np.linspace(0, 2 * np.pi, 36, endpoint=False)[:, None]
        for i, j in planes:
            loop = np.cos(angle) * columns[..., None, :, i] + np.sin(angle) * columns[..., None, :, j]
            start = center[k][:, None] + loop
            add(start.reshape(-1, 3), np.roll(start, -1, axis=1).reshape(-1, 3), np.repeat(k, len(angle)), radius)

    add(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0, np.int64), 0.0)
    if "errors" in shown:
        k = _chosen(np.isfinite(scene.error), keypoint)
        add(keypoints[k], annotated[k], k, 0.006 * size)
    if "annotated" in shown:
        wide = 0.008 if keypoint is None else 0.004
        add_loops(annotated, 0.047 * size * axes.T, [(0, 1)], _chosen(scene.annotations, keypoint), wide * size)
    if "keypoints" in shown and keypoint is not None:
        k = np.repeat(_chosen(scene.drawn, keypoint), 4)
        away = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]])[: len(k)] @ axes[:2] / 2**0.5
        add(keypoints[k] + 0.035 * size * away, keypoints[k] + 0.085 * size * away, k, 0.005 * size)
    if "covariance" in shown:
        k = _chosen(scene.drawn, keypoint)
        add_loops(keypoints, deviations(scene.covariance[k], size_of(scene)), [(0, 1), (1, 2), (2, 0)], k, 0.004 * size)
    if "skeleton" in shown:
        strength = np.ones(len(scene.segments)) if scene.activation is None else scene.activation.clip(0, 1)
        ok = (strength > 0.02) & scene.drawn[scene.segments].all(1)
        ends, none = keypoints[scene.segments[ok]], np.full(ok.sum(), -1)
        parts.append(Lines(ends[:, 0], ends[:, 1], strengths(strength[ok]), 0.014 * size * strength[ok], none))
    return Lines(*(np.concatenate(field) for field in zip(*parts, strict=True)))


def deviations(covariance: Array, size: float) -> Array:
    """Return the principal axes of [..., 3, 3] as columns.

    Each is as long as the standard deviation along it, and no longer than marks reach from a cloud of a size.
    """
    variance, axes = np.linalg.eigh(covariance)
    return np.asarray(axes * np.sqrt(variance.clip(min=0)).clip(max=REACH * size)[..., None, :])


def view_axes(turn: float = 145.0, tilt: float = 20.0) -> Array:
    """Return the unit vectors right, up and towards the viewer, as rows of [3, 3].

    The viewer stands at ``turn`` degrees from +z over +x and ``tilt`` degrees above; by default where the front is
    seen (-z, as in ShapeNet), a little from above.
    """
    a, b = np.radians(turn), np.radians(tilt)
    right = [np.cos(a), 0.0, -np.sin(a)]
    up = [-np.sin(b) * np.sin(a), np.cos(b), -np.sin(b) * np.cos(a)]
    near = [np.cos(b) * np.sin(a), np.sin(b), np.cos(b) * np.cos(a)]
    return np.array([right, up, near])
