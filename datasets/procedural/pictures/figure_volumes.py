"""Volumes of articulated figures with exact truth, for pose estimation in 3-D.

Bodies, joints and frames are those of :mod:`pcsa.datasets.procedural.pictures.figure_images`.
"""

from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from pcsa.datasets.own_samples import vary_sample
from pcsa.datasets.procedural.pictures.body import draw_person, draw_view, pose
from pcsa.datasets.procedural.pictures.figure_images import FigureImages3D
from pcsa.datasets.procedural.pictures.items import Items, as_bytes, check_arguments, stream
from pcsa.datasets.procedural.pictures.render import add_capsule, add_ellipsoid
from pcsa.datasets.procedural.types import Array
from pcsa.datasets.samples import Samples
from pcsa.datasets.splits import SPLITS, Split

__all__ = ["Figures3D"]


class _Volume(NamedTuple):
    image: NDArray[np.uint8]  # [D, H, W]
    points: Array  # [J, 3] in voxels
    voxel_size: float


class Figures3D(Samples):
    """Volumes of bodies with the 17 joints of :class:`~pcsa.datasets.human36m.Human36M`, as in the pictures.

    Bodies are upright and turned about the vertical axis, all directions alike. They are capsules and ellipsoids whose
    density falls off over one voxel, under noise, among balls and rods that mean nothing. A voxel is about as large as
    makes the volume 2 meters wide, or larger if a pose needs it: the whole body is inside.

    The limbs on the body's left are denser (0.95 against 0.65) and a tenth thicker. A mirrored volume would have them
    on the wrong side, so that :meth:`augmented` draws a body anew, with the *right* side denser, and mirrors that; and
    averaging over a mirrored input when testing is wrong here.

    Args:
        split: ``"train"``, ``"val"`` or ``"test"``.
        num_volumes: Length of the split, at least 1.
        input_size: (depth, height, width) of the volumes, each at least 16. Default (32, 32, 32).
        seed: Whole number of at least 0.
        custom: Function of your own by which :meth:`augmented` varies a volume in the end, as package.module:function;
            see :func:`pcsa.datasets.own_samples.vary_sample`.

    Raises:
        ValueError: Naming the argument, its value and the rule.

    Example:
        >>> sample = Figures3D("val", num_volumes=10)[3]
        >>> sample["image"].shape, sample["keypoints"].shape
        (torch.Size([1, 32, 32, 32]), torch.Size([17, 3]))

    """

    names = FigureImages3D.names
    pairs = FigureImages3D.pairs
    bones = FigureImages3D.bones

    def __init__(
        self,
        split: Split,
        *,
        num_volumes: int,
        input_size: tuple[int, int, int] = (32, 32, 32),
        seed: int = 0,
        custom: str | None = None,
    ) -> None:
        super().__init__(input_size, axes=3)
        self.custom = custom
        if min(self.input_size) < 16:
            raise ValueError(
                f"`input_size` (={input_size}) must be at least 16 each: limbs would be thinner than a voxel"
            )
        check_arguments(split, "num_volumes", num_volumes, seed)
        key = [seed, stream("Figures3D"), SPLITS.index(split)]
        self._items, self._mirrored = (
            Items(key, num_volumes, partial(_draw_volume, size=self.input_size, dense=side)) for side in (1.0, -1.0)
        )

    def source(self, index: int) -> dict[str, Any]:
        """Return the volume with its joints: networks take it whole."""
        return _sample(self._items[self._row(index)])

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.source(index) | {"index": self._row(index)}

    def augmented(self, index: int, generator: torch.Generator) -> dict[str, Any]:
        """Return ``self[index]`` or, half of the time, its mirror image along x, whose left limbs are denser too."""
        sample = self._perhaps_mirrored(index, generator)
        return sample if self.custom is None else vary_sample(self.custom, sample, generator)

    def _perhaps_mirrored(self, index: int, generator: torch.Generator) -> dict[str, Any]:
        if not torch.rand((), generator=generator) < 0.5:
            return self[index]
        index = self._row(index)
        sample = _sample(self._mirrored[index])
        image, keypoints = sample["image"].flip(-1), sample["keypoints"].clone()
        keypoints[:, 0] = self.input_size[2] - 1 - keypoints[:, 0]
        order = list(range(self.num_keypoints))
        for left, right in self.pairs:
            order[left], order[right] = right, left
        return sample | {"image": image, "keypoints": keypoints[order], "index": index}


def _sample(volume: _Volume) -> dict[str, Any]:
    return {
        "image": torch.from_numpy(volume.image)[None].float() / 255,
        "keypoints": torch.from_numpy(volume.points).float(),
        "visible": torch.ones(len(volume.points), dtype=torch.bool),
        "voxel_size": torch.tensor(volume.voxel_size),
    }


def _draw_volume(rng: np.random.Generator, size: tuple[int, ...], dense: float) -> _Volume:
    """Draw a body whose limbs of the side `dense` (1: left) are denser; all else is the same for both sides."""
    person = draw_person(rng)
    body = pose(person, rng, draw_view(rng, upright=True))
    extents = np.array(size[::-1], dtype=np.float64)
    ends = np.stack(list(body.joints.values()))
    margin = 0.05 * person.stature
    low, high = ends.min(0) - margin, ends.max(0) + margin
    # 31 of 32 voxels: positions are of centers.
    voxel_size = max(2000 / min(size), float(((high - low) / (extents - 1)).max())) * rng.uniform(1.0, 1.08)
    room = (extents - 1) - (high - low) / voxel_size
    offset = rng.uniform(0, 1, 3) * room - low / voxel_size

    volume = np.zeros(size, dtype=np.float32)
    for _ in range(rng.integers(2, 5)):
        center, radii = rng.uniform(0, 1, 3) * (extents - 1), rng.uniform(0.025, 0.07, 3) * min(size)
        add_ellipsoid(volume, center, np.eye(3), radii, rng.uniform(0.3, 0.8))
    for _ in range(rng.integers(2, 5)):
        start, way = rng.uniform(0, 1, 3) * (extents - 1), rng.normal(size=3)
        end = start + way / np.linalg.norm(way) * rng.uniform(0.1, 0.35) * min(size)
        radius = rng.uniform(0.4, 1.2)
        add_capsule(volume, start, end, (radius, radius), rng.uniform(0.3, 0.9))
    for solid in body.solids:
        add_ellipsoid(volume, solid.center / voxel_size + offset, solid.frame, solid.radii / voxel_size, 0.8)
    for limb in body.limbs:
        if limb.start is limb.end:
            continue  # nose and ears are too small for voxels
        side = dense * limb.side
        # Thinner than a voxel, a limb would fade between voxels.
        first, last = ((1 + 0.05 * side) * max(1.0, radius / voxel_size) for radius in limb.radii)
        start, end = limb.start / voxel_size + offset, limb.end / voxel_size + offset
        add_capsule(volume, start, end, (first, last), 0.8 + 0.15 * side)
    volume += rng.normal(0.05, rng.uniform(0.03, 0.08), size).astype(np.float32)
    points = np.stack([body.place(joint) for joint in FigureImages3D.joints]) / voxel_size + offset
    return _Volume(as_bytes(np.clip(volume, 0, 1)), points, voxel_size)
