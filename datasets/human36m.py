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

import math
import numbers
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pcsa._core.checks import check_shape
from pcsa._core.json_text import parse_json
from pcsa.datasets import crops
from pcsa.datasets.arrays import read_arrays
from pcsa.datasets.crops import CropAugment
from pcsa.datasets.faults import Problem, noting, reading, refuse, some
from pcsa.datasets.files import existing
from pcsa.datasets.images import KeypointImages, check_readable, labeled_size, masked
from pcsa.datasets.limits import leads_out
from pcsa.datasets.plausible import check_inside
from pcsa.datasets.splits import Split, checked_root
from pcsa.datasets.values import ValueRange

DEPTH_RANGE = 2000.0  # millimeters, over the depth of the volume
_LEGS = ((1, 2), (2, 3), (4, 5), (5, 6))  # thighs and shins
_OFF_HIPS = 0.5  # in units of the distance of the hips; the release has 0
_LEG = (0.2, 0.8)  # meters: a bone of a leg
_DEPTH = (1.0, 20.0)  # meters, of the root
_BOX = (0.5, 5.0)  # times the extent of the joints
_FEWEST = 3  # joints with which an extent is one
_CENTER = (0.4, 0.6)  # of the picture's width and height
_OUTSIDE = 0.1  # how far a joint may lie outside of its picture, as a share of the longer side
_SAMPLE = 20  # pictures whose headers are read when the dataset opens
_CAMERA = {"f": 2, "c": 2, "k": 3, "p": 2}  # numbers of each part of a camera
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

    Units and frames are checked: the bones of the legs are 0.2 to 0.8 m long in the median over a subject's frames
    (``S`` in millimeters is refused), the pelvis is near the middle of the hips, the roots are 1 to 20 m before the
    camera, ``part`` is what the camera sees of ``S`` (to a twentieth of the box), the box is 0.5 to 5 times as large as
    the joints, the camera's center is near the middle of the picture, and the joints are within it.

    Args:
        root: The folder.
        split: The split.
        input_size: (depth, height, width) of the network's volume; crops have the last two.
        augment: What ``augmented`` varies. Default: what :class:`~pcsa.datasets.crops.CropAugment` varies.
        subjects: The subjects, in place of those of the split.
        value_range: What 0 and 1 stand for in the pictures. Default: see
            :func:`pcsa.datasets.values.unit_values`.

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
        value_range: ValueRange | None = None,
    ) -> None:
        super().__init__(input_size, augment, axes=3, value_range=value_range)
        self.root = checked_root(root, split)
        frames = _frames(existing(self.root / "frames.npz"))
        cameras = _cameras(existing(self.root / "cameras.json"))
        self.subjects = SUBJECTS[split] if subjects is None else tuple(subjects)
        rows = [i for i, name in enumerate(frames["imgname"].tolist()) if _subject(name) in self.subjects]
        if not rows:
            there = sorted({_subject(name) for name in frames["imgname"].tolist()})
            raise ValueError(
                f"`subjects` (={self.subjects}) has no frame in `{self.root}`, which has {', '.join(there)}"
            )
        refuse(_problems(self.root, frames, cameras, rows))
        step = max(1, len(rows) // _SAMPLE)
        refuse(_picture_problems(self.root, frames, cameras, rows[::step]))
        self._items = []
        for i in rows:
            name, labeled = str(frames["imgname"][i]), _labeled(frames, i)
            if not labeled.any() or not labeled[0]:
                self._skip("no visible joint" if not labeled.any() else "root joint not visible")
                continue
            self._items.append((i, name, cameras[_view(name)], labeled))
        self._frames = frames

    def files(self, index: int) -> list[Path]:
        """Return the picture of a frame, and the files of joints and cameras."""
        return [self.root / name for name in (self._items[self._row(index)][1], "frames.npz", "cameras.json")]

    def source(self, index: int) -> dict[str, Any]:
        """Return the picture, joints, box and camera of a frame; see the class."""
        row, name, (camera, distortion), labeled = self._items[self._row(index)]
        image = self.read(self.root / name)
        with reading(self.root / name, "a labeled picture"):
            _check_picture(self._frames["part"][row, :, :2], labeled, camera, (image.shape[2], image.shape[1]))
        positions = self._frames["S"][row, :, :3] * 1000
        root_depth = float(positions[0, 2])
        depth = self.input_size[0]
        z = (positions[:, 2] - root_depth) / DEPTH_RANGE * depth + (depth - 1) / 2
        visible = labeled & (z >= -0.5) & (z <= depth - 0.5)
        keypoints = np.concatenate([self._frames["part"][row, :, :2], z[:, None]], 1)
        side = 200 * float(self._frames["scale"][row])
        corner = self._frames["center"][row] + 0.5 - side / 2
        return {
            "image": image,
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


def check_human36m(root: str | os.PathLike[str], *, value_range: ValueRange | None = None) -> list[Problem]:
    """List everything that is missing or broken in a folder of :class:`Human36M`, pictures included.

    Args:
        root: The folder.
        value_range: As for :class:`Human36M`.

    """
    root = Path(root)
    problems: list[Problem] = []
    frames, cameras = None, None
    with noting(problems, root / "frames.npz"):
        frames = _frames(existing(root / "frames.npz"))
    with noting(problems, root / "cameras.json"):
        cameras = _cameras(existing(root / "cameras.json"))
    if frames is not None and cameras is not None:
        rows = list(range(len(frames["imgname"])))
        problems += _problems(root, frames, cameras, rows)
        unmet = _picture_problems(root, frames, cameras, rows)
        for name in [] if unmet else frames["imgname"].tolist():
            with noting(unmet, root / name):
                check_readable(root / name, value_range)
        problems += unmet
        known = {subject for subjects in SUBJECTS.values() for subject in subjects}
        others = sorted({_subject(name) for name in frames["imgname"].tolist()} - known)
        if others:
            problems.append(Problem(str(root / "frames.npz"), f"`imgname`: no split has the subjects {some(others)}"))
    return problems


_Cameras = dict[tuple[str, str], tuple[list[float], list[float]]]


def _subject(name: str) -> str:
    return name.split("/")[0]


def _view(name: str) -> tuple[str, str]:
    """Return the subject and the camera of a frame, by the name of its folder."""
    return _subject(name), name.split("/")[-2].split(".")[-1] if "/" in name else ""


def _labeled(frames: dict[str, np.ndarray], row: int | Sequence[int]) -> np.ndarray:
    labeled: np.ndarray = (frames["part"][row, ..., 2] > 0) & (frames["S"][row, ..., 3] > 0)
    return labeled


def _problems(root: Path, frames: dict[str, np.ndarray], cameras: _Cameras, rows: list[int]) -> list[Problem]:
    """Return what is wrong with the labels of some frames, each rule once for all the frames that break it."""
    problems: list[Problem] = []
    path = root / "frames.npz"
    names = frames["imgname"][rows].tolist()
    absent = sorted({_view(name) for name in names} - set(cameras))
    for subject, view in absent:
        example = next(name for name in names if _view(name) == (subject, view))
        problems.append(Problem(str(root / "cameras.json"), f"has no camera {view!r} of {subject} for `{example}`"))
    labeled = _labeled(frames, rows)
    people = [i for i, row in enumerate(labeled) if row[0]]
    if not people:
        return problems
    kept, labeled = [rows[i] for i in people], labeled[people]
    positions, part = frames["S"][kept, :, :3].astype(np.float64), frames["part"][kept, :, :2].astype(np.float64)
    part = np.where(labeled[..., None], part, np.nan)
    for subject in sorted({_subject(names[i]) for i in people}):
        own = np.array([_subject(names[i]) == subject for i in people])
        length = _leg(positions[own], labeled[own])
        if length is not None and not _LEG[0] <= length <= _LEG[1]:
            rule = f"must be from {_LEG[0]} to {_LEG[1]} long: `S` is in meters, its joints in the order of the class"
            problems.append(Problem(str(path), f"`S`: the bones of the legs of {subject} (={length:.4g}) {rule}"))
        off = _off_hips(positions[own], labeled[own])
        if off is not None and off > _OFF_HIPS:
            what = f"`S`: the pelvis of {subject} is off the hips' middle (={off:.4g})"
            rule = f"must be at most {_OFF_HIPS} of the distance of the hips: are the joints in the order of the class?"
            problems.append(Problem(str(path), f"{what}: {rule}"))
    if problems:
        return problems
    depth = positions[:, 0, 2]
    far = (depth < _DEPTH[0]) | (depth > _DEPTH[1])
    rule = f"must be from {_DEPTH[0]:g} to {_DEPTH[1]:g} m before the camera, in whose frame `S` is"
    problems += _broken(path, kept, far, "`S`: depth of the root", depth, rule)
    if far.any():
        return problems
    extent = np.nanmax(np.nanmax(part, 1) - np.nanmin(part, 1), 1)
    side = 200 * frames["scale"][kept].astype(np.float64)
    middle = (np.nanmax(part, 1) + np.nanmin(part, 1)) / 2
    away = np.abs(middle - frames["center"][kept]).max(1)
    shown = np.maximum(extent, 1e-6)
    few = labeled.sum(1) < _FEWEST
    share = np.where(few, 1, side / shown)
    rule = f"must be from {_BOX[0]} to {_BOX[1]:g} times the extent of the joints in `part`, both in pixels"
    problems += _broken(path, kept, (share < _BOX[0]) | (share > _BOX[1]), "200 `scale`, the box's side", side, rule)
    rule = "must be within half the box's side of the middle of the joints in `part`, in pixels"
    problems += _broken(path, kept, ~few & (away > side / 2), "`center`: its distance", away, rule)
    camera, lens = (torch.tensor([cameras[_view(names[i])][k] for i in people], dtype=torch.float64) for k in (0, 1))
    # Joints that are not labeled may have any depth, 0 too.
    safe = np.where(labeled[..., None] & (positions[..., 2:] > 0), positions, (0.0, 0.0, 1.0))
    seen = project(torch.from_numpy(safe), camera, lens).numpy()
    error = np.nanmedian(np.linalg.norm(seen - part, axis=2), 1)
    rule = "must be at most a twentieth of the box: the camera sees `S`, in its own frame, at `part`, in pixels"
    problems += _broken(path, kept, error > side / 20, "`part`: distance to the projection of `S`", error, rule)
    return problems


def _leg(positions: np.ndarray, labeled: np.ndarray) -> float | None:
    """Return the median length of the bones of the legs, None where no two of their ends are labeled."""
    bones = [np.linalg.norm(positions[:, a] - positions[:, b], axis=1)[labeled[:, a] & labeled[:, b]] for a, b in _LEGS]
    lengths = np.concatenate(bones)
    return float(np.quantile(lengths, 0.5, method="lower")) if lengths.size else None


def _off_hips(positions: np.ndarray, labeled: np.ndarray) -> float | None:
    """Return the median distance of the pelvis from the middle of the hips, in units of the distance of these."""
    pelvis, right, left = positions[labeled[:, [0, 1, 4]].all(1)][:, [0, 1, 4]].transpose(1, 0, 2)
    if not len(pelvis):
        return None
    width = np.maximum(np.linalg.norm(right - left, axis=1), 1e-9)
    return float(np.median(np.linalg.norm(pelvis - (right + left) / 2, axis=1) / width))


def _broken(path: Path, rows: list[int], broken: np.ndarray, what: str, values: np.ndarray, rule: str) -> list[Problem]:
    """Return a problem for the frames that break a rule, none if no frame does."""
    found = np.flatnonzero(broken)
    if not len(found):
        return []
    frames = f"frames {some([rows[i] for i in found])}: " if len(found) > 1 else f"frame {rows[found[0]]}: "
    return [Problem(str(path), f"{frames}{what} (={values[found[0]]:.4g}) {rule}")]


def _picture_problems(
    root: Path, frames: dict[str, np.ndarray], cameras: _Cameras, rows: Sequence[int]
) -> list[Problem]:
    """Return what is wrong with the pictures of some frames, of which the headers are read."""
    problems: list[Problem] = []
    for row in rows:
        name = str(frames["imgname"][row])
        with noting(problems, root / name):
            size = labeled_size(root / name)
            if _view(name) in cameras:
                _check_picture(frames["part"][row, :, :2], _labeled(frames, row), cameras[_view(name)][0], size)
    return problems


def _check_picture(part: np.ndarray, labeled: np.ndarray, camera: list[float], size: tuple[int, int]) -> None:
    """Raise if a picture has another size than the one that its labels and its camera belong to."""
    for center, axis, length in ((camera[2], "width", size[0]), (camera[3], "height", size[1])):
        if not _CENTER[0] <= center / length <= _CENTER[1]:
            raise ValueError(
                f"the camera's center (={center:g}) must be at {_CENTER[0]} to {_CENTER[1]} of the picture's {axis} "
                f"(={length}): the picture has another size than the camera's"
            )
    check_inside(np.where(labeled[:, None], part, np.nan), Human36M.names, size, _OUTSIDE)


def _frames(path: Path) -> dict[str, np.ndarray]:
    shapes = {"imgname": (), "center": (2,), "scale": (), "part": (17, 3), "S": (17, 4)}
    frames = read_arrays(path, list(shapes))
    with reading(path, "frames"):
        number = len(frames["imgname"])
        for name, shape in shapes.items():
            array, kinds = frames[name], "US" if name == "imgname" else "bfiu"
            if array.shape != (number, *shape) or array.dtype.kind not in kinds:
                what = "text" if name == "imgname" else "numbers"
                raise ValueError(f"`{name}` ({array.dtype} {list(array.shape)}) must be {what} {[number, *shape]}")
            if name != "imgname" and not np.isfinite(array).all():
                row = int(np.argwhere(~np.isfinite(array))[0][0])
                raise ValueError(f"`{name}`: frame {row}: must be finite")
        if number == 0:
            raise ValueError("must have a frame: it has none")
        if frames["imgname"].dtype.kind == "S":
            frames["imgname"] = np.char.decode(frames["imgname"], "utf-8")
        frames["imgname"] = np.char.replace(frames["imgname"], "\\", "/")
        for row, name in enumerate(frames["imgname"].tolist()):
            if leads_out(name):
                raise ValueError(f"`imgname`: frame {row}: `{name[:120]}` must lead to a picture below the folder")
    return frames


def _cameras(path: Path) -> _Cameras:
    with reading(path, "cameras"):
        entries = parse_json(path.read_text(encoding="utf-8-sig"))
        if not isinstance(entries, dict):
            raise ValueError("must map \"('S1', '54138969')\" to f, c, k and p")
        cameras = {}
        for key, entry in entries.items():
            names = [name.strip(" '\"") for name in key.strip("()").split(",")]
            if len(names) != 2 or not isinstance(entry, dict):
                raise ValueError(f"`{key}` must be as \"('S1', '54138969')\", with f, c, k and p")
            parts = {name: _numbers(key, entry, name, count) for name, count in _CAMERA.items()}
            cameras[names[0], names[1]] = (parts["f"] + parts["c"], parts["k"] + parts["p"])
    return cameras


def _numbers(key: str, entry: dict[str, Any], name: str, count: int) -> list[float]:
    """Return one part of a camera as so many numbers."""
    value = np.asarray(entry.get(name, []), dtype=object).ravel().tolist()
    real = all(isinstance(x, numbers.Real) and not isinstance(x, bool) and math.isfinite(x) for x in value)
    if len(value) != count or not real:
        raise ValueError(f"the camera {key}: `{name}` (={value}) must be {count} finite numbers")
    return [float(x) for x in value]
