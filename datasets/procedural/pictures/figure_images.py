"""Pictures of articulated figures with exact truth: people of capsules and ellipsoids, for pose estimation.

One body model (bone lengths of a person, joint angles of a pose, a direction to see it from) is drawn as

- :class:`Figures2D`: pictures with COCO's 17 keypoints,
- :class:`FigureImages3D`: the same pictures with Human3.6M's 17 joints and their depth,
- :class:`~pcsa.datasets.procedural.pictures.figure_volumes.Figures3D`: volumes with Human3.6M's 17 joints.

An item takes 2 to 5 ms to draw.

**Left and right** are those of the person. In pictures, the face, the light panel on the chest, the toes, and how knees
and elbows bend tell the front from the back, and so the sides. One side is lighter than the other, but which one is
drawn by lot: a mirrored picture with exchanged sides is as likely as the picture, and flips in training and testing
are exact. In volumes the left limbs are always denser and thicker.

**Frames.** Pixel (voxel) centers are integers; positions are (x, y) or (x, y, z), arrays (z,) y, x; y points down. A
box is (x, y, width, height) with the outer edge of its top left pixel, where the picture spans 0 to its width.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from pcsa.datasets.coco import CocoKeypoints
from pcsa.datasets.human36m import DEPTH_RANGE, Human36M
from pcsa.datasets.images import masked
from pcsa.datasets.procedural.pictures.body import Body, draw_person, draw_view, pose, turn
from pcsa.datasets.procedural.pictures.items import DrawnImages, as_bytes
from pcsa.datasets.procedural.pictures.render import Canvas, background
from pcsa.datasets.procedural.types import Array

__all__ = ["FigureImages3D", "Figures2D"]

# Height and width of a whole picture.
_CANVAS = 160
# What the body calls the joints of Human3.6M whose names are other points of it.
_HEAD = {"nose": "human36m_nose", "head_top": "human36m_head_top"}


class _Picture(NamedTuple):
    image: NDArray[np.uint8]  # [H, W, 3]
    points: Array  # [J, 3]: x, y in pixels, depth behind the pelvis in millimeters
    inside: NDArray[np.bool_]  # [J]: in the picture
    averted: NDArray[np.bool_]  # [J]: point of the face on the far side of the head
    hidden: NDArray[np.bool_]  # [J]: behind something
    box: Array
    area: float
    mm_per_pixel: float


class _Figures(DrawnImages):
    """Pictures of people. A subclass names the joints of the body that are its keypoints."""

    joints: tuple[str, ...]
    cut_off: bool

    @classmethod
    def _draw(cls, rng: np.random.Generator) -> _Picture:
        return draw_picture(rng, cls.joints, cut_off=cls.cut_off)

    def _source(self, picture: _Picture, points: Array, visible: NDArray[np.bool_]) -> dict[str, Any]:
        return {
            "image": torch.from_numpy(picture.image).permute(2, 0, 1).contiguous().float() / 255,
            **masked(points, visible),
            "box": torch.from_numpy(picture.box).float(),
            "area": torch.tensor(picture.area),
        }


class Figures2D(_Figures):
    """Pictures of people with COCO's 17 keypoints.

    A person of thick limbs stands, walks, sits or reaches before a cluttered background whose rods are shaded as limbs
    are; nearer parts hide farther ones. In one picture of four something opaque covers part of the person, and in one
    of four the picture's border cuts the person off.

    `visible` is what COCO would label: all that is in the picture, also behind a limb or a cover, but for the points of
    the face on the far side of the head. The box and `area` are those of the person's silhouette in the picture, as if
    nothing covered it.

    Arguments as :class:`~pcsa.datasets.procedural.pictures.items.DrawnImages`: ``input_size`` is (height, width), (96,
    72) by default, and the default ``augment`` is :class:`~pcsa.datasets.crops.CropAugment` as it is.

    Example:
        >>> figures = Figures2D("val", num_images=10)
        >>> source = figures.source(3)
        >>> source["image"].shape, source["keypoints"].shape, figures.names[5]
        (torch.Size([3, 160, 160]), torch.Size([17, 2]), 'left_shoulder')

    """

    names = CocoKeypoints.names
    pairs = CocoKeypoints.pairs
    bones = CocoKeypoints.bones
    joints = names
    cut_off = True
    default_size = (96, 72)

    def source(self, index: int) -> dict[str, Any]:
        """Return the whole picture `[3, 160, 160]`, in its own pixels, and the box of the person.

        Extras: `area`, the silhouette's pixels, and `hidden` `[17]`, which of the visible keypoints are behind a limb
        or a cover (COCO's flag 1; the others have flag 2).
        """
        picture: _Picture = self._items[self._row(index)]
        visible = picture.inside & ~picture.averted
        source = self._source(picture, picture.points[:, :2], visible)
        return source | {"hidden": torch.from_numpy(picture.hidden & visible)}

    def coco_annotations(self) -> dict[str, Any]:
        """Return the split as COCO's ground truth for keypoints, for ``pycocotools``.

        Image i has id i and is ``source(i)``; its one annotation has id i + 1. Keypoints are in pixels of the source
        whose centers are integers, `bbox` is its `box`: the frames that predictions are to be in.

        Example:
            >>> truth = Figures2D("val", num_images=2).coco_annotations()
            >>> [annotation["image_id"] for annotation in truth["annotations"]]
            [0, 1]

        """
        annotations = []
        for i in range(len(self)):
            source = self.source(i)
            flags = source["visible"].long() * 2 - source["hidden"].long()
            annotations.append(
                {
                    "id": i + 1,
                    "image_id": i,
                    "category_id": 1,
                    "iscrowd": 0,
                    "keypoints": torch.cat([source["keypoints"], flags[:, None]], 1).flatten().tolist(),
                    "num_keypoints": int(source["visible"].sum()),
                    "area": float(source["area"]),
                    "bbox": source["box"].tolist(),
                }
            )
        person = {
            "supercategory": "person",
            "id": 1,
            "name": "person",
            "keypoints": list(self.names),
            "skeleton": [[a + 1, b + 1] for a, b in self.bones],
        }
        images = [{"id": i, "file_name": f"{i:06d}.png", "height": _CANVAS, "width": _CANVAS} for i in range(len(self))]
        return {"info": {}, "images": images, "annotations": annotations, "categories": [person]}

    def _crop(self, index: int, **arguments: Any) -> dict[str, Any]:
        sample = super()._crop(index, **arguments)
        del sample["area"], sample["hidden"]  # these hold in the source alone
        return sample


class FigureImages3D(_Figures):
    r"""Pictures of people with the 17 joints of :class:`~pcsa.datasets.human36m.Human36M` and their depth.

    Pictures as those of :class:`Figures2D`, but nobody is cut off. They are orthographic, so that millimeters are
    exact, and what is nearer is lighter. The joints have the order and the names of Human3.6M, so that a network of one
    can be scored on the other; "nose" and "head_top" are about where Human3.6M has them, at the chin and inside of the
    head.

    A keypoint is (x, y, z): x and y in pixels, z in "depth pixels", with the root in the middle of the D of them,
    :math:`z = (Z - Z_{root}) D / r + (D - 1) / 2` for depths Z in millimeters away from the viewer and r
    ``depth_range``. Crops leave z as it is. Back to millimeters relative to the root, x to the right, y down, z away:
    ``(x - x_root) * mm_per_pixel``, ``(y - y_root) * mm_per_pixel``, ``(z - z_root) * depth_range / D``, which is
    :meth:`to_mm`; every sample has its own ``mm_per_pixel``, that of the source over the scale of its crop. A crop
    that is turned shows a body that is turned.

    `visible` are all joints in the depth range (all but the farthest reaches) and in the crop, also hidden ones.

    Arguments as :class:`~pcsa.datasets.procedural.pictures.items.DrawnImages`: ``input_size`` is (depth, height,
    width), the D above and the size of the network's input, (64, 96, 72) by default, and the default ``augment`` is
    :class:`~pcsa.datasets.crops.CropAugment` as it is.

    Example:
        >>> figures = FigureImages3D("val", num_images=10)
        >>> source = figures.source(3)
        >>> source["keypoints"][0, 2]  # the root, in the middle of 64
        tensor(31.5000)

    """

    names = Human36M.names
    pairs = Human36M.pairs
    bones = Human36M.bones
    joints = tuple(_HEAD.get(name, name) for name in names)
    cut_off = False
    default_size = (64, 96, 72)
    depth_range = DEPTH_RANGE

    def source(self, index: int) -> dict[str, Any]:
        """Return the whole picture `[3, 160, 160]` and the box of the person.

        Extras: `area`, the silhouette's pixels; `mm_per_pixel`; and `joints` `[17, 3]`, all of them, in millimeters
        relative to the root.
        """
        picture: _Picture = self._items[self._row(index)]
        depth = self.input_size[0]
        points = picture.points * (1, 1, depth / self.depth_range) + (0, 0, (depth - 1) / 2)
        visible = picture.inside & (points[:, 2] >= -0.5) & (points[:, 2] <= depth - 0.5)
        scale = picture.mm_per_pixel
        joints = (picture.points - picture.points[0] * (1, 1, 0)) * (scale, scale, 1)
        return self._source(picture, points, visible) | {
            "mm_per_pixel": torch.tensor(scale),
            "joints": torch.from_numpy(joints).float(),
        }

    def to_mm(self, keypoints: Float[Tensor, "B K 3"], mm_per_pixel: Float[Tensor, " B"]) -> Float[Tensor, "B K 3"]:
        """Turn keypoints of samples into millimeters relative to the root, which is the first of them.

        Differentiable in ``keypoints``.
        """
        scale = mm_per_pixel.to(keypoints)[:, None].expand(-1, 3).clone()
        scale[:, 2] = self.depth_range / self.input_size[0]
        return (keypoints - keypoints[:, :1]) * scale[:, None]

    def _crop(self, index: int, **arguments: Any) -> dict[str, Any]:
        sample = super()._crop(index, **arguments)
        del sample["area"], sample["joints"]  # these hold in the source alone
        # Source pixels per pixel of the crop, whichever way it is turned or flipped.
        a, b = sample["to_source"][0, :2]
        return sample | {"mm_per_pixel": sample["mm_per_pixel"] * torch.hypot(a, b)}


def draw_picture(rng: np.random.Generator, names: Sequence[str], *, cut_off: bool) -> _Picture:
    n = _CANVAS
    person = draw_person(rng)
    body = pose(person, rng, draw_view(rng))
    joints = np.stack(list(body.joints.values()))[:, :2]
    low, high = joints.min(0), joints.max(0)
    margin = 0.06 * person.stature
    extent = float((high - low).max() + 2 * margin)
    scale = rng.uniform(0.62, 0.95) * n / extent
    # Anywhere inside; or pushed out, by four tenths of itself at most.
    room = (n - 1) / 2 - scale * ((high - low) / 2 + margin)
    shift = rng.uniform(-1, 1, 2) * room
    if cut_off and rng.random() < 0.25:
        axis = rng.integers(2)
        out = room + rng.uniform(0.1, 0.4) * scale * (high - low)
        shift[axis] = rng.choice([-1, 1]) * out[axis]
    offset = np.append((n - 1) / 2 + shift - scale * (low + high) / 2, 0.0)

    lamp = turn(1, rng.uniform(-45, 45)) @ turn(0, rng.uniform(-10, 45)) @ np.array([0.0, 0.0, -1.0])
    canvas = Canvas(background(rng, n, n, lamp), lamp, fade=0.5 / (1000 * scale))
    _paint_body(canvas, body, offset, scale, rng)
    mask = canvas.mask
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = np.array([columns[0], rows[0], columns[-1] + 1 - columns[0], rows[-1] + 1 - rows[0]], dtype=np.float64)
    if rng.random() < 0.25:
        _cover(canvas, box, rng)
    # Uniform: drawn in a fifth of the time of normal noise.
    noise = (rng.random((n, n, 3), dtype=np.float32) - np.float32(0.5)) * np.float32(rng.uniform(0.03, 0.17))
    image = as_bytes(np.clip(canvas.color + noise, 0, 1))

    places = np.stack([body.place(name) for name in names])
    points = places * (scale, scale, 1) + offset
    inside = ((points[:, :2] >= -0.5) & (points[:, :2] <= n - 0.5)).all(1)
    averted = np.array([name in body.normals and body.normals[name][2] > 0.25 for name in names])
    pixels = np.clip(np.rint(points[:, :2]), 0, n - 1).astype(int)
    slack = np.array([body.thickness[name] for name in names])
    hidden = canvas.depth[pixels[:, 1], pixels[:, 0]] < scale * (points[:, 2] - slack)
    return _Picture(image, points, inside, averted, hidden, box, float(mask.sum()), 1 / scale)


def _paint_body(canvas: Canvas, body: Body, offset: Array, scale: float, rng: np.random.Generator) -> None:
    skin = np.array([0.95, 0.76, 0.62]) * rng.uniform(0.4, 1) + rng.uniform(-0.03, 0.03, 3)
    hair = np.array([0.5, 0.38, 0.25]) * rng.uniform(0.1, 1.1)
    shirt, trousers, shoe = rng.uniform(0.08, 0.85, (3, 3))
    panel = 0.25 * shirt + 0.75 * rng.uniform(0.85, 1.0)
    sleeve = skin if rng.random() < 0.3 else shirt
    leg = skin if rng.random() < 0.2 else trousers
    colors = {"skin": skin, "nose": np.minimum(1.15 * skin, 1), "shirt": shirt}
    colors |= {"sleeve": sleeve, "leg": leg, "shoe": shoe}
    contrast = rng.choice([-1, 1]) * rng.uniform(0.12, 0.3)

    def torso(q: Array) -> Array:
        front = (q[..., 2] < -0.15) & (np.abs(q[..., 0]) < 0.5) & (q[..., 1] > -0.85)
        return np.where(front[..., None], panel, np.where(q[..., 2:] < 0, shirt, 0.7 * shirt))

    eyes = ((0.42, -0.15), (-0.42, -0.15))

    def head(q: Array) -> Array:
        face = (q[..., 2] < 0.1) & (q[..., 1] > -0.5 - 0.2 * q[..., 2])
        color = np.where(face[..., None], skin, hair)
        for x, y in eyes:
            far = np.hypot(q[..., 0] - x, (q[..., 1] - y) * 1.4) + 9 * (q[..., 2] > 0)
            color = color * np.clip((far - 0.12) * 5, 0.05, 1)[..., None]
        mouth = np.hypot(q[..., 0] * 0.4, q[..., 1] - 0.52) + 9 * (q[..., 2] > 0)
        return color * np.clip((mouth - 0.05) * 8, 0.35, 1)[..., None]

    def plain(color: Array, q: Array) -> Array:
        return color + 0 * q

    cloths: dict[str, Callable[[Array], Array]] = {"head": head, "shirt": torso, "pants": partial(plain, trousers)}
    paints: list[tuple[float, Callable[[], None]]] = []
    for solid in body.solids:
        center = solid.center * scale + offset
        paint = partial(canvas.ellipsoid, center, solid.frame, solid.radii * scale, cloths[solid.cloth])
        paints.append((center[2], paint))
    for limb in body.limbs:
        start, end = limb.start * scale + offset, limb.end * scale + offset
        color = np.clip(colors[limb.cloth] * (1 + limb.side * contrast), 0, 1)
        radii = (limb.radii[0] * scale, limb.radii[1] * scale)
        paints.append(((start[2] + end[2]) / 2, partial(canvas.capsule, start, end, radii, color)))
    # From far to near, so that soft edges blend with what is behind them.
    for _, run in sorted(paints, key=lambda entry: -entry[0]):
        run()


def _cover(canvas: Canvas, box: Array, rng: np.random.Generator) -> None:
    """Put something opaque in front of part of a box."""
    x, y, width, height = box
    across, down = rng.uniform(0.25, 0.6) * width, rng.uniform(0.15, 0.35) * height
    left, top = x + rng.uniform(-0.1, 1.1) * width - across / 2, y + rng.uniform(0, 1) * height - down / 2
    rows, columns = (
        slice(max(0, int(top)), max(0, int(top + down))),
        slice(max(0, int(left)), max(0, int(left + across))),
    )
    part = canvas.color[rows, columns]
    ramp = np.linspace(0.8, 1.2, part.shape[1], dtype=np.float32)[None, :, None]
    part[:] = np.clip(ramp * rng.uniform(0.05, 0.9, 3).astype(np.float32), 0, 1)
    canvas.depth[rows, columns] = -np.inf
