"""Faces from ellipses: heads with eyes, nose and mouth as points of an ellipsoid in space, whose places are known.

A head is an ellipsoid, its nose, ears and shell of hair are further ones, and every pixel asks which of them it sees
and where on it: what is painted on the head turns with it, and what turns away is hidden by the head itself. The
landmarks are those of `MTFL <https://mmlab.ie.cuhk.edu.hk/projects/TCDCN.html>`_.
"""

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from pcsa.datasets.crops import CropAugment
from pcsa.datasets.procedural.pictures.items import DrawnImages, as_bytes, stream
from pcsa.datasets.procedural.types import Array
from pcsa.datasets.splits import Split

__all__ = ["LANDMARKS", "Faces"]

# In the order of MTFL. Left is left in the picture of a face that looks at the camera: the person's right.
LANDMARKS = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
SIDE = 100


class Faces(DrawnImages):
    """Pictures of one face each, drawn as they are asked for and kept.

    Heads of all proportions, turned in the picture (standard deviation 12 degrees), sideways (to 75 degrees) and up or
    down (to 25), with irises, brows, a shaded nose, mouths from sad to laughing, hair, lighting, before a cluttered
    background. One in five wears glasses (some of them dark), one in eight is covered in part by something.

    ``visible`` is False for what the head itself hides: the far eye and corner of the mouth of a face turned far
    sideways. Glasses, closed lids and things in front hide nothing, since annotators mark a landmark behind them too.
    Left is left in the picture of a face that looks at the camera, as in MTFL.

    Arguments as :class:`~pcsa.datasets.procedural.pictures.items.DrawnImages`: ``input_size`` is (height, width), (64,
    64) by default, and the default ``augment`` flips, scales by 20 %, turns by 20 degrees and shifts by 5 %.

    Example:
        >>> faces = Faces("train", num_images=20)
        >>> faces.names[2], faces.source(3)["image"].shape, faces.source(3)["keypoints"].shape
        ('nose', torch.Size([3, 100, 100]), torch.Size([5, 2]))

    """

    names = LANDMARKS
    pairs = ((0, 1), (3, 4))
    bones = ((0, 1), (0, 2), (1, 2), (2, 3), (2, 4), (3, 4))

    default_size = (64, 64)
    default_augment = CropAugment(flip=0.5, scale=0.2, rotation=20.0, shift=0.05)

    def source(self, index: int) -> dict[str, Any]:
        """Return the whole picture: ``image [3, 100, 100]`` (0..1), ``keypoints [5, 2]``, ``visible [5]``, ``box [4]``.

        The box holds the head, without hair, as inexactly as a detector would have it.
        """
        image8, keypoints, visible, box = self._items[self._row(index)]
        return {
            "image": torch.from_numpy(image8).float() / 255,
            "keypoints": torch.from_numpy(keypoints.copy()),
            "visible": torch.from_numpy(visible.copy()),
            "box": torch.from_numpy(box.copy()),
        }

    @classmethod
    def _stream(cls, split: Split) -> list[int]:
        return [stream(f"faces/{split}")]

    @classmethod
    def _draw(cls, rng: np.random.Generator) -> tuple[Any, ...]:
        image, *labels = make_face(rng)
        return as_bytes(image), *labels


class _Ellipsoid(NamedTuple):
    """An ellipsoid in the camera's frame: x right, y down, z towards the viewer, in pixels."""

    center: Array
    axes: Array
    rotation: Array  # from the head's frame to the camera's

    @property
    def matrix(self) -> Array:
        return (self.rotation / self.axes**2) @ self.rotation.T

    def hit(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Find what the viewer sees of it at places of the picture: z, and the share of the pixel that it covers."""
        m = self.matrix
        u, v = x - self.center[0], y - self.center[1]
        slope = (m[0, 2] * u + m[1, 2] * v) / m[2, 2]
        # The outline is an ellipse too.
        a, b, c = (m[i, j] - m[i, 2] * m[j, 2] / m[2, 2] for i, j in ((0, 0), (0, 1), (1, 1)))
        p, q = a * u + b * v, b * u + c * v
        square = u * p + v * q
        z = self.center[2] - slope + np.sqrt(np.maximum(1 - square, 0) / m[2, 2])
        root = np.sqrt(square)
        away = (1 - root) * root / np.maximum(np.sqrt(p * p + q * q), 1e-6)
        # At its very center the gradient vanishes, and there all is covered.
        return z, np.where(square < 0.05, 1, np.clip(away + 0.5, 0, 1)).astype(np.float32)

    def local(self, x: Array, y: Array, z: Array) -> tuple[Array, Array, Array]:
        """Coordinates in the head's frame, from the ellipsoid's center, of places in the camera's."""
        u, v, w = x - self.center[0], y - self.center[1], z - self.center[2]
        r = self.rotation
        return tuple(r[0, i] * u + r[1, i] * v + r[2, i] * w for i in range(3))

    def normal(self, x: Array, y: Array, z: Array) -> Array:
        """Unit normals ``[3, ...]`` in the camera's frame."""
        place = np.stack([x - self.center[0], y - self.center[1], z - self.center[2]])
        n = np.tensordot(self.matrix, place, 1)
        return n / np.maximum(np.sqrt((n * n).sum(0)), 1e-9)

    def outline(self) -> tuple[float, float]:
        """Half of the width and height of the outline in the picture."""
        extent = np.sqrt(((self.rotation * self.axes) ** 2).sum(1))
        return float(extent[0]), float(extent[1])


def _ellipsoid(center: Any, axes: Any, rotation: Any) -> _Ellipsoid:
    # In the precision of the pictures' coordinates: numpy would raise those to the parameters' precision otherwise.
    return _Ellipsoid(*(np.asarray(value, np.float32) for value in (center, axes, rotation)))


class _Head(NamedTuple):
    """A head in its own frame: x right in the picture, y down, z towards where it looks; units are pixels."""

    skull: _Ellipsoid
    hair: _Ellipsoid
    nose: _Ellipsoid
    ears: tuple[_Ellipsoid, _Ellipsoid]
    eyes: Array  # [2, 2]: x and y of the middle of each eye's opening
    mouth: Array  # [2, 2]: x and y of each corner
    hairline: tuple[float, float, float]  # top of the forehead, how far its temples reach down, where the side begins
    bald: bool


def make_face(rng: np.random.Generator) -> tuple[Array, Array, NDArray[np.bool_], Array]:
    """Draw one picture: ``[3, 100, 100]`` (0..1), landmarks ``[5, 2]``, which are visible ``[5]``, box ``[4]``."""
    head = _head(rng)
    points = landmarks(head)
    visible = seen(head, points)
    image = _picture(rng, head)
    width, height = head.skull.outline()
    center = head.skull.center[:2] + rng.normal(0, 0.03, 2) * (width, height)
    size = 2 * np.array([width, height]) * np.exp(rng.normal(0, 0.04, 2))
    box = np.concatenate([center + 0.5 - size / 2, size]).astype(np.float32)
    return image, np.where(visible[:, None], points[:, :2], 0).astype(np.float32), visible, box


def landmarks(head: _Head) -> Array:
    """The five landmarks ``[5, 3]`` in the camera's frame: on the skull, but for the tip of the nose."""
    skull, nose = head.skull, head.nose
    flat = np.concatenate([head.eyes, head.mouth])
    z = skull.axes[2] * np.sqrt(1 - ((flat / skull.axes[:2]) ** 2).sum(1))
    on_skull = np.column_stack([flat, z]) @ skull.rotation.T + skull.center
    tip = nose.center + nose.rotation @ np.array([0, 0.25 * nose.axes[1], nose.axes[2] * math.sqrt(1 - 0.25**2)])
    return np.stack([on_skull[0], on_skull[1], tip, on_skull[2], on_skull[3]]).astype(np.float32)


def seen(head: _Head, points: Array) -> NDArray[np.bool_]:
    """Which places ``[N, 3]`` on a head no part of it hides."""
    x, y, z = points.T
    slack = 0.03 * head.skull.axes[0]
    out = np.ones(len(points), bool)
    for part in (head.skull, head.nose, *head.ears, head.hair):
        front, cover = part.hit(x, y)
        if part is head.hair:
            cover = cover * _hair_share(head, *part.local(x, y, front))
        out &= (cover < 0.5) | (front <= z + slack)
    return out


def _head(rng: np.random.Generator) -> _Head:
    height = rng.uniform(26, 36)
    axes = height * np.array([rng.uniform(0.7, 0.84), 1.0, rng.uniform(0.8, 0.95)])
    yaw = rng.uniform(-75, 75) if rng.random() < 0.25 else float(np.clip(rng.normal(0, 22), -75, 75))
    pitch = float(np.clip(rng.normal(0, 9), -25, 25))
    rotation = _turn(math.radians(rng.normal(0, 12)), math.radians(yaw), math.radians(pitch))
    center = np.array([*((SIDE - 1) / 2 + rng.normal(0, 3, 2)), 0.0])
    skull = _ellipsoid(center, axes, rotation)
    a, b = axes[:2]

    eye_x, eye_y = rng.uniform(0.36, 0.46), rng.uniform(-0.2, -0.1)
    eyes = np.array([[-eye_x * a, eye_y * b], [eye_x * a, eye_y * b]]) + rng.normal(0, 0.008, (2, 2)) * a
    mouth_x, mouth_y = rng.uniform(0.26, 0.42), rng.uniform(0.44, 0.54)
    lift = rng.normal(0, 0.02)
    mouth = np.array([[-mouth_x * a, (mouth_y + lift) * b], [mouth_x * a, (mouth_y - lift) * b]])
    mouth[:, 0] += rng.normal(0, 0.02) * a

    nose_y = rng.uniform(0.1, 0.18)
    nose_axes = np.array([rng.uniform(0.12, 0.19) * a, rng.uniform(0.17, 0.23) * b, rng.uniform(0.2, 0.3) * axes[2]])
    surface = axes[2] * math.sqrt(1 - nose_y**2)
    nose = _ellipsoid(center + rotation @ np.array([0, nose_y * b, surface - 0.25 * nose_axes[2]]), nose_axes, rotation)
    ear_axes = np.array([0.1 * a, 0.2 * b, 0.14 * axes[2]])
    left, right = (
        _ellipsoid(center + rotation @ np.array([side * 1.0 * a, 0.02 * b, -0.12 * axes[2]]), ear_axes, rotation)
        for side in (-1, 1)
    )
    thick = rng.uniform(1.04, 1.14)
    hair = _ellipsoid(center + rotation @ np.array([0, -0.03 * b, -0.04 * axes[2]]), axes * thick, rotation)
    hairline = (rng.uniform(-0.75, -0.52), rng.uniform(0.0, 0.5), rng.uniform(-0.25, 0.15))
    flat = eyes.astype(np.float32), mouth.astype(np.float32)
    return _Head(skull, hair, nose, (left, right), *flat, hairline, bool(rng.random() < 0.1))


def _turn(roll: float, yaw: float, pitch: float) -> Array:
    """From the head's frame to the camera's: nod, then turn sideways (positive: to the right), then roll clockwise."""
    c, s = math.cos(pitch), math.sin(pitch)
    nod = np.array([[1, 0, 0], [0, c, s], [0, -s, c]])
    c, s = math.cos(yaw), math.sin(yaw)
    aside = np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])
    c, s = math.cos(roll), math.sin(roll)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ aside @ nod


def _hair_share(head: _Head, x: Array, y: Array, z: Array) -> Array:
    """How much hair (0..1) there is at places of the shell of hair, in the head's frame."""
    if head.bald:
        return np.zeros_like(x, dtype=np.float32)
    a, b, c = head.hair.axes
    top, temple, side = head.hairline
    above = (top + temple * (x / a) ** 2) * b - y
    behind = np.minimum(side * c - z, 0.35 * b - y)
    return np.clip(np.maximum(above, behind) + 0.5, 0, 1).astype(np.float32)


def _picture(rng: np.random.Generator, head: _Head) -> Array:
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    image = _background(rng, x, y)
    skin = _skin(rng)
    hair = _hair_color(rng)
    light = rng.normal(0, 1, 3) * (0.7, 0.5, 0.2) + (0, -0.4, 1.1)
    light = (light / np.linalg.norm(light)).astype(np.float32)
    ambient = rng.uniform(0.35, 0.75)

    def shade(part: _Ellipsoid, z: Array) -> Array:
        lambert = np.clip(np.tensordot(light, part.normal(x, y, z), 1), 0, 1)
        return ambient + (1.1 - ambient) * lambert

    skull = head.skull
    a, b = skull.axes[:2]
    down = skull.rotation[:2, 1] / np.linalg.norm(skull.rotation[:2, 1])
    if not head.bald and rng.random() < 0.35:  # long hair falls behind the neck
        middle = skull.center[:2] + down * 0.35 * b
        _blend(image, hair * rng.uniform(0.5, 0.8), _ellipse(x, y, middle, (1.15 * a, 1.15 * b), down))
    neck = skull.center[:2] + down * 1.05 * b
    _blend(image, skin * ambient * 0.9, _ellipse(x, y, neck, (0.5 * a, 0.6 * b), down))
    _blend(image, rng.uniform(0.05, 0.9, 3), _ellipse(x, y, skull.center[:2] + down * 2.05 * b, (2 * a, b), down))

    front = np.full_like(x, -np.inf)
    for ear in head.ears:
        z, cover = ear.hit(x, y)
        _blend(image, skin[:, None, None] * (0.85 * shade(ear, z)), cover)
        front = np.where(cover >= 0.5, np.maximum(front, z), front)
    z, cover = skull.hit(x, y)
    paint = _paint(rng, head, skin, hair, *skull.local(x, y, z)) * shade(skull, z)
    _blend(image, paint, np.where(z > front, cover, 0))
    front = np.where(cover >= 0.5, np.maximum(front, z), front)

    nose, nose_cover = head.nose.hit(x, y)
    u, v, w = head.nose.local(x, y, nose)
    p, q, _ = head.nose.axes
    # Only what stands out of the face, the upper end running into the bridge.
    share = nose_cover * np.clip(nose - front + 0.5, 0, 1) * np.clip((v / q + 1) * 1.6, 0, 1)
    color = skin[:, None, None] * (1.04 * shade(head.nose, nose))
    nostrils = _spot(np.abs(u) - 0.45 * p, v - 0.72 * q, 0.24 * p, 0.16 * q) * (w > 0)
    _blend(color, skin * 0.25, nostrils)
    _blend(image, color, share)
    front = np.where(share >= 0.5, nose, front)

    z, cover = head.hair.hit(x, y)
    cover = cover * _hair_share(head, *head.hair.local(x, y, z)) * (z > front)
    strands = 1 + 0.15 * rng.standard_normal((SIDE, SIDE), np.float32)
    _blend(image, hair[:, None, None] * (shade(head.hair, z) * strands), cover)

    if rng.random() < 0.125:
        _occlude(rng, image, x, y, skull)
    tint = (np.exp(rng.normal(0, 0.06, 3)) * rng.uniform(0.75, 1.2)).astype(np.float32)[:, None, None]
    image = np.clip(image * tint, 0, 1) ** rng.uniform(0.8, 1.25)
    image += rng.uniform(0.005, 0.04) * rng.standard_normal(image.shape, np.float32)
    return np.clip(image, 0, 1).astype(np.float32)


def _paint(rng: np.random.Generator, head: _Head, skin: Array, hair: Array, x: Array, y: Array, z: Array) -> Array:
    """The colors ``[3, H, W]`` of the skull's skin, by places in the head's frame."""
    a, b, _ = head.skull.axes
    blotches = 1 + 0.04 * np.sin(x * rng.uniform(0.1, 0.4) + rng.uniform(0, 6)) * np.sin(y * rng.uniform(0.1, 0.4))
    color = skin[:, None, None] * blotches
    facing = (z > 0).astype(np.float32)
    beard = rng.random() < 0.15
    if beard:
        jaw = np.clip((y - (0.28 - 0.25 * (x / a) ** 2) * b) / 2, 0, 1) * (
            1 - _spot(x, y - 0.5 * b, 0.35 * a, 0.12 * b)
        )
        _blend(color, hair, rng.uniform(0.3, 0.9) * jaw * facing)
    else:
        blush = rng.uniform(0, 0.3)
        for side in (-1, 1):
            soft = np.exp(-(((x - side * 0.5 * a) / (0.22 * a)) ** 2) - ((y - 0.2 * b) / (0.14 * b)) ** 2)
            _blend(color, np.array([0.85, 0.4, 0.35]), blush * soft * facing)
    _paint_mouth(rng, color, head.mouth, skin, b, x, y, facing)
    _paint_eyes(rng, color, head, skin, hair, x, y, facing)
    if rng.random() < 0.2:
        _paint_glasses(rng, color, head, x, y, facing)
    return color


def _paint_mouth(
    rng: np.random.Generator, color: Array, corners: Array, skin: Array, b: float, x: Array, y: Array, facing: Array
) -> None:
    (x0, y0), (x1, y1) = corners
    t = 2 * (x - x0) / (x1 - x0) - 1
    between = facing * np.clip((1 - np.abs(t)) * (x1 - x0) / 2 + 0.5, 0, 1)
    bow = np.clip(1 - t * t, 0, None)
    line = y0 + (y1 - y0) * (t + 1) / 2 + rng.uniform(-0.05, 0.11) * b * bow  # a smile sags between its corners
    opening = float(rng.choice([0.0, rng.uniform(0.01, 0.12)])) * b * bow
    upper = line - opening / 2 - rng.uniform(0.025, 0.06) * b * bow * (1 - 0.35 * np.exp(-((t / 0.15) ** 2)))
    lower = line + opening / 2 + rng.uniform(0.035, 0.08) * b * bow
    lips = skin * (0.75, 0.45, 0.45) + rng.uniform(0, 0.25) * np.array([1, 0, 0.1])
    _blend(color, lips, between * _band(y, upper, lower))
    inside = _band(y, line - opening / 2 - 0.4, line + opening / 2 + 0.4)
    _blend(color, lips * 0.3, between * inside)
    if rng.random() < 0.6:
        _blend(color, np.array([0.93, 0.92, 0.88]), between * _band(y, line - opening / 2, line + 0.1 * opening))


def _paint_eyes(
    rng: np.random.Generator, color: Array, head: _Head, skin: Array, hair: Array, x: Array, y: Array, facing: Array
) -> None:
    a, b, _ = head.skull.axes
    half, opened = rng.uniform(0.17, 0.22) * a, rng.uniform(0.045, 0.09) * b
    closed = rng.random() < 0.06
    iris = rng.uniform(0.05, 0.4) * rng.uniform(0.3, 1.0, 3)
    gaze = [float(value) for value in np.clip(rng.normal(0, 0.2, 2), -0.4, 0.4) * (half, opened)]
    lid = skin * 0.35
    brow = hair * rng.uniform(0.3, 0.8)
    rise, thick = rng.uniform(0.16, 0.23) * b, rng.uniform(0.025, 0.055) * b
    arch, tilt = rng.uniform(0.02, 0.08) * b, rng.normal(0, 0.12)
    for side, (ex, ey) in zip((-1, 1), head.eyes, strict=True):
        u, v = x - ex, y - ey
        socket = np.exp(-((u / (1.5 * half)) ** 2) - (v / (2.4 * opened)) ** 2)
        _blend(color, skin * 0.6, 0.5 * socket * facing)
        bow = np.clip(1 - (u / half) ** 2, 0, None)
        if closed:
            _blend(color, lid, facing * _band(v, -0.7 + 0.2 * opened * bow, 0.7 + 0.2 * opened * bow) * (bow > 0))
        else:
            _blend(color, lid, facing * _spot(u, v + 0.15 * opened, 1.12 * half, 1.15 * opened))
            ball = facing * _spot(u, v, half, opened)
            _blend(color, np.array([0.92, 0.91, 0.9]), ball)
            radius = 0.5 * half
            _blend(color, iris, ball * _spot(u - gaze[0], v - gaze[1], radius, radius))
            _blend(color, np.array([0.02, 0.02, 0.02]), ball * _spot(u - gaze[0], v - gaze[1], radius / 2, radius / 2))
        reach = 1.35 * half
        ridge = -rise - arch * (1 - (u / reach) ** 2) + side * tilt * u
        hairs = _band(v, ridge - thick / 2, ridge + thick / 2) * np.clip(reach - np.abs(u) + 0.5, 0, 1)
        _blend(color, brow, facing * hairs * 0.9)


def _paint_glasses(rng: np.random.Generator, color: Array, head: _Head, x: Array, y: Array, facing: Array) -> None:
    a, b, _ = head.skull.axes
    frame = rng.uniform(0.02, 0.5) * rng.uniform(0.3, 1, 3)
    wide, high, rim = rng.uniform(0.26, 0.33) * a, rng.uniform(0.13, 0.2) * b, rng.uniform(0.5, 1.1)
    dark = float(rng.choice([0.0, 0.12, 0.85], p=[0.55, 0.3, 0.15]))
    middle = head.eyes[:, 1].mean()
    for ex, ey in head.eyes:
        lens = _spot(x - ex, y - ey, wide, high)
        _blend(color, frame * 0.5, facing * dark * lens)
        _blend(color, frame, facing * (_spot(x - ex, y - ey, wide + rim, high + rim) - lens))
    (x0, _), (x1, _) = head.eyes
    outside = np.clip(x0 - wide - x, 0, 1) + np.clip(x - x1 - wide, 0, 1)
    bridge = np.clip(x - x0 - wide, 0, 1) * np.clip(x1 - wide - x, 0, 1)
    _blend(color, frame, facing * np.clip(outside + bridge, 0, 1) * _band(y, middle - rim, middle + rim))


def _background(rng: np.random.Generator, x: Array, y: Array) -> Array:
    drawn = np.stack([rng.uniform(0.1, 0.9, 3), rng.normal(0, 0.002, 3), rng.normal(0, 0.002, 3)])
    base, across, down = drawn.astype(np.float32)[..., None, None]
    image = base + across * (x - 50) + down * (y - 50)
    for _ in range(rng.integers(2, 11)):
        angle = rng.uniform(0, math.pi)
        axis = np.array([math.sin(angle), math.cos(angle)], np.float32)
        middle, size = rng.uniform(0, SIDE, 2), rng.uniform(3, 35, 2)
        shape = _ellipse if rng.random() < 0.6 else _box
        _blend(image, rng.uniform(0, 1, 3), rng.uniform(0.4, 1) * shape(x, y, middle, size, axis))
    grain = rng.normal(0, rng.uniform(0, 0.08), (25, 25)).repeat(4, 0).repeat(4, 1)
    return np.clip(image + grain.astype(np.float32), 0, 1)


def _occlude(rng: np.random.Generator, image: Array, x: Array, y: Array, skull: _Ellipsoid) -> None:
    """Cover a part of the face's rim by a bar or a disc: at most about two of the five landmarks."""
    angle = rng.uniform(0, 2 * math.pi)
    toward = np.array([math.cos(angle), math.sin(angle)], np.float32)
    middle = skull.center[:2] + toward * skull.axes[:2] * rng.uniform(0.65, 1.0)
    size = rng.uniform(0.2, 0.4, 2) * skull.axes[0] * (1.0, 1.5)
    shape = _ellipse if rng.random() < 0.5 else _box
    stripes = 1 + 0.2 * np.sin(rng.uniform(0.3, 1.5) * (x * toward[1] - y * toward[0]))
    # The red channel is the weakest: cloth and things, not skin.
    color = np.sort(rng.uniform(0.05, 0.9, 3))[[0, *rng.permutation([1, 2])]]
    _blend(image, color[:, None, None] * stripes, shape(x, y, middle, size, toward))


def _skin(rng: np.random.Generator) -> Array:
    pale, dark = np.array([0.96, 0.8, 0.7]), np.array([0.34, 0.22, 0.15])
    return (pale + (dark - pale) * rng.beta(1, 1.3) + rng.normal(0, 0.02, 3)).astype(np.float32)


def _hair_color(rng: np.random.Generator) -> Array:
    colors = np.array([[0.08, 0.06, 0.05], [0.3, 0.18, 0.1], [0.75, 0.6, 0.35], [0.6, 0.58, 0.56], [0.5, 0.2, 0.08]])
    return (colors[rng.choice(5, p=[0.35, 0.3, 0.15, 0.12, 0.08])] * rng.uniform(0.8, 1.2)).astype(np.float32)


def _blend(image: Array, color: Array, share: Array) -> None:
    """Lay a color ``[3]`` or ``[3, H, W]`` over the picture where, and as far as, `share` says."""
    color, share = color.astype(np.float32, copy=False), share.astype(np.float32, copy=False)
    if color.ndim == 1:
        color = color[:, None, None]
    image += (color - image) * share


def _spot(u: Array, v: Array, p: float, q: float) -> Array:
    """An axis-parallel ellipse around 0 with half axes p, q, its edge one pixel soft."""
    root = np.sqrt((u / p) ** 2 + (v / q) ** 2)
    slope = np.sqrt((u / p**2) ** 2 + (v / q**2) ** 2) / np.maximum(root, 1e-6)
    return np.where(root < 0.1, 1, np.clip((1 - root) / np.maximum(slope, 1e-6) + 0.5, 0, 1))


def _band(y: Array, low: Array | float, high: Array | float) -> Array:
    """What of each pixel lies between two heights."""
    return np.clip(np.minimum(high, y + 0.5) - np.maximum(low, y - 0.5), 0, 1)


def _ellipse(x: Array, y: Array, middle: Array, size: Any, axis: Array) -> Array:
    """A turned ellipse, `axis` the direction of its second half axis."""
    u, v = x - np.float32(middle[0]), y - np.float32(middle[1])
    return _spot(axis[1] * u - axis[0] * v, axis[0] * u + axis[1] * v, float(size[0]), float(size[1]))


def _box(x: Array, y: Array, middle: Array, size: Any, axis: Array) -> Array:
    u, v = x - np.float32(middle[0]), y - np.float32(middle[1])
    p, q = np.abs(axis[1] * u - axis[0] * v), np.abs(axis[0] * u + axis[1] * v)
    return np.clip(float(size[0]) - p + 0.5, 0, 1) * np.clip(float(size[1]) - q + 0.5, 0, 1)
