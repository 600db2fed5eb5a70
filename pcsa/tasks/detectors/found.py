"""What a detector finds in one input, and what other libraries take of it."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pcsa.viz.colors import keypoint_colors

# From this probability on a keypoint counts as there, as in pictures and pages.
_PRESENT = 0.5


@dataclass(frozen=True, eq=False)
class Found:
    """Keypoints of one input, K of them, in the input's own units and frame; all tensors are on the CPU.

    ``len(found)`` is K, and ``found["nose"]`` the position of one of them.
    """

    names: tuple[str, ...]
    """Name of each keypoint."""
    position: Tensor
    """``[K, 3]`` in the units of a cloud; ``[K, 2]`` in pixels of an image, x first (``[K, 3]`` in voxels of a volume);
    ``[K, W]`` for surfaces of a scan: a row of the image for each column."""
    confidence: Tensor
    """Probability within ``radius`` of the position, ``[K]`` (``[K, W]``); the largest probability of a point or cell
    where no radius is given. Under ``temperature``."""
    covariance: Tensor | None = None
    """Spread of the probability map, ``[K, 3, 3]`` in the input's units squared; ``[K, 2, 2]`` of images, x first, and
    ``[K, W, 1, 1]`` of surfaces. Like the map, it is what the network was trained to; nothing calibrates it."""
    presence: Tensor | None = None
    """Probability that the input has the keypoint, ``[K]``, where the network was trained to tell. It falls with
    ``novelty``."""
    entropy: Tensor | None = None
    """Entropy of the probability map, ``[K]``, in nats; of clouds."""
    index: Tensor | None = None
    """The most probable point, ``[K]``: its row in the input, or among those taken from a mesh; of clouds."""
    point: Tensor | None = None
    """Position of that point, ``[K, 3]``."""
    radius: float | None = None
    """Radius by which the map was read, in the input's units, or in pixels of the network's input."""
    temperature: float = 1.0
    """Temperature of the confidences that the checkpoint has; 1 where none was fitted."""
    novelty: float | None = None
    """How far the cloud is from the training clouds: above 1 it is unlike them. None where that is not known."""
    reason: str = ""
    """What the cloud differs in most, where it is unlike the training clouds."""
    num_points: int | None = None
    """Points of the cloud, or sampled on the mesh."""
    num_used: int | None = None
    """Points that the network was given: fewer where the training clouds had fewer."""
    box: tuple[float, float, float, float] | None = None
    """Part of an image that was looked at: x, y, width and height in pixels."""
    depth_mm: Tensor | None = None
    """How far behind the first joint each joint is, ``[K]``, of poses in three dimensions from images."""
    segments: Tensor | None = None
    """Pairs of keypoints that a skeleton joins, ``[M, 2]``; of Skeleton Merger."""
    activation: Tensor | None = None
    """Strength of each of them, ``[M]``."""
    ids: tuple[int, ...] = field(default=(), repr=False)
    """What colors the keypoints in pictures; default 0 to K - 1."""

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.names:
            raise KeyError(f"{name!r} is none of the keypoints {', '.join(self.names)}")
        return self.position[self.names.index(name)]

    def __str__(self) -> str:
        if self.confidence.dim() > 1:
            return f"{len(self)} surfaces of {self.position.shape[-1]} columns: {', '.join(self.names)}"
        lines = []
        for k, name in enumerate(self.names):
            place = ", ".join(f"{x:.4g}" for x in self.position[k].tolist())
            there = "" if self.presence is None else f", presence {self.presence[k].item():.2f}"
            lines.append(f"{name}: ({place}), confidence {self.confidence[k].item():.2f}{there}")
        return "\n".join([*lines, *([f"unlike the training clouds ({self.reason})"] * self.is_unlike)])

    @property
    def sigma(self) -> Tensor | None:
        """Root of the mean variance of the axes, ``[K]`` (``[K, W]``), in the input's units."""
        if self.covariance is None:
            return None
        return self.covariance.diagonal(dim1=-2, dim2=-1).mean(-1).clamp(min=0).sqrt()

    @property
    def is_unlike(self) -> bool:
        """Whether the cloud is unlike the training clouds, so that what is found says little."""
        return self.novelty is not None and self.novelty > 1

    @property
    def present(self) -> Tensor:
        """Which keypoints are thought to be there, bool ``[K]``: all, where the network does not tell."""
        if self.presence is None:
            return torch.ones(len(self), dtype=torch.bool)
        return self.presence > _PRESENT

    @property
    def colors(self) -> Tensor:
        """Color of each keypoint, ``[K, 3]`` from 0 to 1: the same as in pictures, pages and windows."""
        return torch.from_numpy(keypoint_colors(self.ids or len(self)))

    def to_open3d(self, radius: float | None = None) -> Any:
        """The keypoints that are present, colored, for Open3D.

        Args:
            radius: Radius of a ball for each keypoint, in the units of the cloud. Default: points.

        Returns:
            An ``open3d.geometry.PointCloud`` or, with a radius, one ``TriangleMesh`` of all balls.

        Raises:
            ImportError: If Open3D is not installed.
            ValueError: If the keypoints are not in space.
        """
        o3d = _module("open3d", "viz")
        pos, colors = self._in_space("to_open3d")
        if radius is None:
            cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(pos))
            cloud.colors = o3d.utility.Vector3dVector(colors)
            return cloud
        balls = o3d.geometry.TriangleMesh()
        for place, color in zip(pos, colors, strict=True):
            ball = o3d.geometry.TriangleMesh.create_sphere(radius).translate(place).paint_uniform_color(color)
            balls += ball.compute_vertex_normals()
        return balls

    def to_trimesh(self, radius: float | None = None) -> Any:
        """The keypoints that are present, colored, for trimesh.

        Args:
            radius: Radius of a ball for each keypoint, in the units of the cloud. Default: points.

        Returns:
            A ``trimesh.PointCloud`` or, with a radius, one ``trimesh.Trimesh`` of all balls.

        Raises:
            ImportError: If trimesh is not installed.
            ValueError: If the keypoints are not in space.
        """
        trimesh = _module("trimesh", "train")
        pos, colors = self._in_space("to_trimesh")
        shades = np.rint(255 * np.c_[colors, np.ones(len(colors))]).astype(np.uint8)
        if radius is None:
            return trimesh.PointCloud(pos, colors=shades)
        balls = []
        for place, shade in zip(pos, shades, strict=True):
            ball = trimesh.creation.icosphere(subdivisions=2, radius=radius)
            ball.apply_translation(place)
            ball.visual.face_colors = shade
            balls.append(ball)
        return trimesh.util.concatenate(balls) if balls else trimesh.Trimesh()

    def to_pandas(self) -> Any:
        """A ``pandas.DataFrame`` with a row for each keypoint, its name the index; surfaces have a column for each row.

        Columns are x, y and z (as many as there are axes), ``confidence`` and, where they are known, ``presence``,
        ``sigma`` (root of the mean variance of the axes, in the input's units), ``entropy``, ``index`` and
        ``depth_mm``.

        Raises:
            ImportError: If pandas is not installed; pcsa does not need it for anything else.
        """
        pandas = _module("pandas", None)
        names = pandas.Index(self.names, name="keypoint")
        if self.confidence.dim() > 1:
            return pandas.DataFrame(self.position.numpy(), index=names)
        columns: dict[str, Any] = {axis: self.position[:, i].numpy() for i, axis in enumerate("xyz"[: self.axes])}
        columns["confidence"] = self.confidence.numpy()
        for name in ("sigma", "presence", "entropy", "index", "depth_mm"):
            value = getattr(self, name)
            if value is not None:
                columns[name] = value.numpy()
        return pandas.DataFrame(columns, index=names)

    @property
    def axes(self) -> int:
        """Axes of a position; 1 of surfaces, which have a row for each column."""
        return 1 if self.confidence.dim() > 1 else self.position.shape[1]

    def _in_space(self, name: str) -> tuple[Any, Any]:
        if self.axes != 3:
            raise ValueError(f"`{name}` must be called for keypoints of three axes: these have {self.axes}")
        present = self.present
        return self.position[present].double().numpy(), self.colors[present].numpy()


def _module(name: str, extra: str | None) -> Any:
    """A package that is used here only, or what to install."""
    try:
        return importlib.import_module(name)
    except ImportError:
        install = f"pip install 'pcsa[{extra}]'" if extra else f"pip install {name}"
        raise ImportError(f"`to_{name}` needs {name}: {install}") from None
