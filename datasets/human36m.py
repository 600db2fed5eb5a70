r"""Human3.6M frames: one person per picture, 17 joints in pixels and in millimeters of the camera's frame.

**Depth pixels.** A network of the integral kind (`Sun et al., ECCV 2018 <https://arxiv.org/abs/1711.08229>`_) predicts
(x, y, z) in a volume of depth x height x width. z is relative to the root joint, the pelvis, and 2 m deep in all: with
D the depth of ``input_size``, :math:`z = (Z - Z_{root}) / 2000\,\text{mm} \cdot D + (D - 1) / 2`. Cell centers are
integers along all three axes.

**The camera.** A point (X, Y, Z) is seen at :math:`u = f_x x + c_x` with :math:`x = X / Z`, if the lens does not
distort. The lenses of Human3.6M do, by up to 3.4 pixels on the frames here. With the factor
:math:`q = 1 + k_1 r + k_2 r^2 + k_3 r^3 + p_1 y + p_2 x`, :math:`r = x^2 + y^2`, the position is
:math:`(q x + p_2 r, q y + p_1 r)` instead: the release's own form, in which the given pixels are those of the given
millimeters to 4e-5 pixels. (OpenCV's form has twice :math:`p_1 y + p_2 x` in q: 0.02 to 0.1 pixels off on average, 0.2
at most. Without distortion: 0.4 to 1.2 on average, which is 1.6 to 5 mm at 5 m.)
"""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pcsa._core.checks import check_shape
from pcsa.datasets import crops
from pcsa.datasets.arrays import read_arrays
from pcsa.datasets.crops import CropAugment
from pcsa.datasets.files import existing
from pcsa.datasets.images import KeypointImages, masked, read_image
from pcsa.datasets.splits import Split, checked_root

DEPTH_RANGE = 2000.0  # millimeters, over the depth of the volume
SUBJECTS = {"train": ("S1", "S5", "S6", "S7", "S8"), "val": ("S8",), "test": ("S9", "S11")}


class Human36M(KeypointImages):
    """Frames of Human3.6M, `"Human3.6M" <https://doi.org/10.1109/TPAMI.2013.248>`_.

    ``root`` has ``frames.npz`` (``imgname``, ``center`` and ``scale`` of the box, its side being 200 scale, ``part``
    `[N, 17, 3]` pixels, ``S`` `[N, 17, 4]` meters in the camera's frame), the pictures, and ``cameras.json``
    (``"('S1', '54138969')"`` to ``f``, ``c``, ``k``, ``p``). The camera of a frame is in the name of its folder.

    The order of the joints is the release's: **right** leg, left leg, then left arm, right arm. Checked on the frames:
    a person's left side is where the nose and the bend of the knees point forward and those of the elbows backward. The
    category in a ``frames_coco.json`` that lists the left leg first has the legs' names exchanged. This reader takes
    the joints from ``frames.npz``, by index: 1 to 3 are the right leg, whatever that file calls them. The joints 9 and
    10, which it calls neck_base and head, are "nose" and "head_top" here, as in most of the literature.

    The standard protocol trains on S1, S5, S6, S7 and S8, tests on S9 and S11 and has no part for validation:
    ``"val"`` is S8, which the training uses too: for watching, not for choosing. ``subjects`` changes that.

    ``keypoints`` are `[17, 3]`, with z in depth pixels in the source frame too; a joint deeper than the volume is not
    visible. ``source(i)`` and ``dataset[i]`` also have ``root_depth`` (mm), ``camera`` `[4]` (fx, fy, cx, cy in
    pixels), ``distortion`` `[5]` (k1, k2, k3, p1, p2), ``positions`` `[17, 3]`, the true millimeters in the camera's
    frame, and ``labeled`` `[17]`: which of them are known, too deep for the volume or not. A random rotation or flip
    turns x and y and leaves z, as usual; ``positions`` stay the source's.

    The box has its margin already (1.2 times the joints'), so that the crop is the box.

    Args:
        root: The folder.
        split: The split.
        input_size: (depth, height, width) of the network's volume; crops have the last two.
        augment: What ``augmented`` varies. Default: what :class:`~pcsa.datasets.crops.CropAugment` varies.
        subjects: The subjects, in place of those of the split.

    Raises:
        FileNotFoundError: If a file or folder is missing; the message names it.
        ValueError: If a file or an argument is broken; the message names it and the rule.

    """

    names = (
        *("pelvis", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "spine", "thorax"),
        *("nose", "head_top", "left_shoulder", "left_elbow", "left_wrist"),
        *("right_shoulder", "right_elbow", "right_wrist"),
    )
    pairs = ((1, 4), (2, 5), (3, 6), (11, 14), (12, 15), (13, 16))
    bones = (
        *((0, 1), (1, 2), (2, 3), (0, 4), (4, 5), (5, 6), (0, 7), (7, 8), (8, 9), (9, 10)),
        *((8, 11), (11, 12), (12, 13), (8, 14), (14, 15), (15, 16)),
    )
    padding = 1.0

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: Split,
        *,
        input_size: tuple[int, int, int] = (64, 256, 256),
        augment: CropAugment | None = None,
        subjects: Sequence[str] | None = None,
    ) -> None:
        super().__init__(input_size, augment, axes=3)
        self.root = checked_root(root, split)
        frames = _frames(existing(self.root / "frames.npz"))
        cameras = _cameras(existing(self.root / "cameras.json"))
        self.subjects = SUBJECTS[split] if subjects is None else tuple(subjects)
        self._items = []
        for i, name in enumerate(frames["imgname"].tolist()):
            subject = name.split("/")[0]
            if subject not in self.subjects:
                continue
            view = name.split("/")[-2].split(".")[-1] if "/" in name else ""
            if (subject, view) not in cameras:
                raise ValueError(f"`{self.root / 'cameras.json'}` has no camera {view!r} of {subject} for `{name}`")
            labeled = (frames["part"][i, :, 2] > 0) & (frames["S"][i, :, 3] > 0)
            if not labeled.any() or not labeled[0]:
                self._skip("no visible joint" if not labeled.any() else "root joint not visible")
                continue
            self._items.append((i, name, cameras[subject, view], labeled))
        if not self._items:
            there = sorted({name.split("/")[0] for name in frames["imgname"].tolist()})
            raise ValueError(
                f"`subjects` (={self.subjects}) has no frame in `{self.root}`, which has {', '.join(there)}"
            )
        self._frames = frames

    def source(self, index: int) -> dict[str, Any]:
        """Return the picture, joints, box and camera of a frame; see the class."""
        row, name, (camera, distortion), labeled = self._items[self._row(index)]
        positions = self._frames["S"][row, :, :3] * 1000
        root_depth = float(positions[0, 2])
        depth = self.input_size[0]
        z = (positions[:, 2] - root_depth) / DEPTH_RANGE * depth + (depth - 1) / 2
        visible = labeled & (z >= -0.5) & (z <= depth - 0.5)
        keypoints = np.concatenate([self._frames["part"][row, :, :2], z[:, None]], 1)
        side = 200 * float(self._frames["scale"][row])
        corner = self._frames["center"][row] + 0.5 - side / 2
        return {
            "image": read_image(self.root / name),
            **masked(keypoints, visible),
            "box": torch.tensor([*corner, side, side], dtype=torch.float32),
            "root_depth": root_depth,
            "camera": torch.tensor(camera, dtype=torch.float32),
            "distortion": torch.tensor(distortion, dtype=torch.float32),
            "labeled": torch.from_numpy(labeled),
            "positions": torch.from_numpy(np.where(labeled[:, None], positions, 0).astype(np.float32)),
        }


def project(
    positions: Float[Tensor, "B K 3"], camera: Float[Tensor, "B 4"], distortion: Float[Tensor, "B 5"] | None = None
) -> Float[Tensor, "B K 2"]:
    """Project millimeters in the camera's frame to pixels of the source; see the module. Differentiable.

    Args:
        positions: X, Y, Z; Z above 0.
        camera: fx, fy, cx, cy in pixels.
        distortion: k1, k2, k3, p1, p2. Default: none.

    """
    check_shape("positions", positions, ("B", "K", 3))
    _check_camera(camera, distortion, len(positions))
    flat = positions[..., :2] / positions[..., 2:]
    if distortion is not None:
        factor, shift = _lens(flat, distortion)
        flat = flat * factor + shift
    return flat * camera[:, None, :2] + camera[:, None, 2:]


def back_project(
    pixels: Float[Tensor, "B K 2"],
    depth_mm: Float[Tensor, "B K"],
    camera: Float[Tensor, "B 4"],
    distortion: Float[Tensor, "B 5"] | None = None,
) -> Float[Tensor, "B K 3"]:
    """Take pixels of the source and depths to millimeters in the camera's frame: the inverse of :func:`project`.

    Differentiable. Where there is distortion, ten steps of a fixed-point iteration undo it (to 0.001 pixels on this
    dataset's lenses).

    Args:
        pixels: x and y.
        depth_mm: Z in millimeters.
        camera: fx, fy, cx, cy in pixels.
        distortion: k1, k2, k3, p1, p2. Default: none.

    Raises:
        ValueError: If an argument has another shape; the message names it.

    Example:
        >>> camera = torch.tensor([[1000.0, 1000.0, 500.0, 500.0]])
        >>> back_project(torch.tensor([[[600.0, 500.0]]]), torch.tensor([[5000.0]]), camera)
        tensor([[[ 500.,    0., 5000.]]])

    """
    check_shape("pixels", pixels, ("B", "K", 2))
    _check_camera(camera, distortion, len(pixels))
    check_shape("depth_mm", depth_mm, pixels.shape[:2])
    seen = (pixels - camera[:, None, 2:]) / camera[:, None, :2]
    flat = seen
    if distortion is not None:
        for _ in range(10):
            factor, shift = _lens(flat, distortion)
            flat = (seen - shift) / factor
    return torch.cat([flat * depth_mm[..., None], depth_mm[..., None]], 2)


def to_camera(
    points: Float[Tensor, "B K 3"],
    to_source: Float[Tensor, "B 2 3"],
    root_depth: Float[Tensor, " B"],
    camera: Float[Tensor, "B 4"],
    depth: int,
    distortion: Float[Tensor, "B 5"] | None = None,
) -> Float[Tensor, "B K 3"]:
    """Take a network's prediction to millimeters in the camera's frame. Differentiable in ``points``.

    Args:
        points: x and y in input pixels, z in depth pixels.
        to_source: The samples' matrices.
        root_depth: Depth of the samples' root joints in millimeters.
        camera: fx, fy, cx, cy in pixels.
        depth: The first of ``input_size``.
        distortion: k1, k2, k3, p1, p2. Default: none, as most published evaluations have it.

    Raises:
        ValueError: If an argument has another shape; the message names it.

    """
    check_shape("points", points, ("B", "K", 3))
    check_shape("root_depth", root_depth, (len(points),))
    source = crops.to_source(points, to_source)
    depth_mm = (source[..., 2] - (depth - 1) / 2) * (DEPTH_RANGE / depth) + root_depth.to(points)[:, None]
    return back_project(source[..., :2], depth_mm, camera.to(points), distortion)


def _lens(flat: Tensor, distortion: Tensor) -> tuple[Tensor, Tensor]:
    """Return the factor and the shift of the distortion, see the module."""
    k1, k2, k3, p1, p2 = distortion.to(flat)[:, None].unbind(2)
    r = flat.square().sum(2)
    factor = 1 + k1 * r + k2 * r**2 + k3 * r**3 + p1 * flat[..., 1] + p2 * flat[..., 0]
    return factor[..., None], r[..., None] * torch.stack([p2, p1], 2)


def _check_camera(camera: Tensor, distortion: Tensor | None, size: int) -> None:
    check_shape("camera", camera, (size, 4))
    if distortion is not None:
        check_shape("distortion", distortion, (size, 5))


def _frames(path: Path) -> dict[str, np.ndarray]:
    shapes = {"imgname": (), "center": (2,), "scale": (), "part": (17, 3), "S": (17, 4)}
    frames = read_arrays(path, list(shapes))
    number = len(frames["imgname"])
    for name, shape in shapes.items():
        if frames[name].shape != (number, *shape):
            raise ValueError(f"`{path}` has {name} of shape {list(frames[name].shape)}, not {[number, *shape]}")
        if name != "imgname" and not np.isfinite(frames[name]).all():
            raise ValueError(f"`{path}` has {name} that is not finite")
    return frames


def _cameras(path: Path) -> dict[tuple[str, str], tuple[list[float], list[float]]]:
    try:
        entries = json.loads(path.read_text())
        cameras = {}
        for key, entry in entries.items():
            subject, view = key.strip("()").replace("'", "").split(", ")
            f, c, k, p = (np.asarray(entry[name], dtype=np.float64).ravel().tolist() for name in "fckp")
            if (len(f), len(c), len(k), len(p)) != (2, 2, 3, 2):
                raise ValueError(f"the camera {key} must have 2 f, 2 c, 3 k and 2 p")
            cameras[subject, view] = (f + c, k + p)
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"`{path}` must map \"('S1', '54138969')\" to f, c, k and p ({error})") from error
    return cameras
