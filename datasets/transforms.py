"""Normalization that can be undone, and augmentations that keep keypoints and their symmetries right.

All of them take a PyG ``Data`` with ``pos [N, 3]``, ``keypoints [1, K, 3]`` and ``visible [1, K]`` (see
:class:`pcsa.datasets.keypointnet.KeypointNet`), leave it as it is and return a changed copy. Keypoints that are not
visible stay zeros. Where the ``Data`` has ``up``, that axis points up (0, 1 or 2, -1 for none), else y.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch_geometric.data import Data

from pcsa._core.checks import check_between, check_count, check_non_negative, check_one_of
from pcsa.datasets.own_augment import vary
from pcsa.datasets.own_function import OwnFunction
from pcsa.datasets.rotations import random_turn, turn_about
from pcsa.datasets.up import mirror_normals

# Every other tensor with one row per point loses the rows that `pos` loses.
_PER_CLOUD = (
    "keypoints",
    "visible",
    "keypoint_index",
    "reflection",
    "rotation",
    "is_circle",
    "offset",
    "scale",
    "marks",
    "marked",
)


# How many times the cloud's longest side the range of all its coordinates may be, see "min_max".
_FAR = 10


def item_generator(seed: int, epoch: int, index: int) -> torch.Generator:
    """Return the generator of one item in one epoch, the same in every process and order.

    Args:
        seed: The run's seed, at least 0.
        epoch: The epoch, at least 0.
        index: The item's index in the dataset, at least 0.

    """
    for name, value in (("seed", seed), ("epoch", epoch), ("index", index)):
        check_count(name, value, least=0)
    # Mixed, because plain sums of the three would give different items the same stream.
    state = np.random.SeedSequence([seed, epoch, index]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]))


class Normalize:
    """Move and scale a cloud into a standard frame and store how: ``(pos - offset) / scale``.

    The result has ``offset [1, 3]`` and ``scale [1, 1]``, in the units of `pos` before, with which
    :func:`denormalize` leads back. Several normalizations in a row compose.

    A float64 cloud is moved and scaled in float64, and then becomes torch's default dtype, float32, which its network
    takes and which near the origin is fine enough; ``offset`` and ``scale`` stay float64, so that :func:`denormalize`
    gives float64.

    Args:
        mode: ``"unit_sphere"``: centroid at 0, farthest point at 1. ``"unit_box"``: center of the bounding
            box at 0, its longest side 2. ``"min_max"``: one scalar minimum and maximum over all axes to -1
            and 1, as the dual alignment score does. A cloud so far from the line x = y = z that it would fill less
            than a tenth of that range is moved to the center of its bounding box first. A cloud without extent keeps
            its scale.

    Example:
        >>> data = Normalize("unit_box")(Data(pos=torch.tensor([[0.0, 0.0, 0.0], [4.0, 2.0, 0.0]])))
        >>> data.pos, data.offset, data.scale
        (tensor([[-1.0000, -0.5000,  0.0000],
                [ 1.0000,  0.5000,  0.0000]]), tensor([[2., 1., 0.]]), tensor([[2.]]))

    """

    def __init__(self, mode: str = "unit_sphere") -> None:
        check_one_of("mode", mode, ("unit_sphere", "unit_box", "min_max"))
        self.mode = mode

    def __call__(self, data: Data) -> Data:
        """Return a normalized copy of one cloud."""
        pos = data.pos
        if pos is None or len(pos) == 0:
            raise ValueError("`data.pos` has no points")
        if self.mode == "unit_sphere":
            offset = pos.mean(0)
            scale = (pos - offset).norm(dim=1).max()
        elif self.mode == "unit_box":
            low, high = pos.amin(0), pos.amax(0)
            offset, scale = (low + high) / 2, (high - low).max() / 2
        else:
            low, high = pos.min(), pos.max()
            offset, scale = ((low + high) / 2).expand(3), (high - low) / 2
            lowest, highest = pos.amin(0), pos.amax(0)
            side = (highest - lowest).max()
            if high - low > _FAR * side > 0:
                # Far off, the range is that of the cloud's place, and leaves the shape no digits.
                center = (lowest + highest) / 2
                low, high = (pos - center).min(), (pos - center).max()
                offset, scale = center + (low + high) / 2, (high - low) / 2
        if not torch.isfinite(scale):
            raise ValueError(
                f"`data.pos` (up to {pos.abs().max().item():.3g}) must be finite, and small enough to scale"
            )
        scale = torch.where(scale > 0, scale, 1.0)
        dtype = torch.get_default_dtype() if pos.dtype == torch.float64 else pos.dtype
        out = map_positions(data, lambda x: ((x - offset) / scale).to(dtype))
        if "scale" in data:
            offset, scale = data.offset[0] + data.scale[0] * offset.to(data.offset), data.scale[0, 0] * scale
        out.offset, out.scale = offset[None].clone(), scale.view(1, 1)
        return out

    def __repr__(self) -> str:
        return f"Normalize({self.mode!r})"


def denormalize(
    pos: Tensor,
    offset: Float[Tensor, "B 3"],
    scale: Float[Tensor, "B 1"],
    batch: Int[Tensor, " N"] | None = None,
) -> Tensor:
    """Take positions back to the units and frame before :class:`Normalize`.

    Differentiable in `pos`.

    Args:
        pos: `[B, ..., 3]` (keypoints, samples), or `[N, 3]` points of a ragged batch or, without `batch`, of
            one cloud.
        offset: ``offset`` of the clouds, from :class:`Normalize`.
        scale: ``scale`` of the clouds, from :class:`Normalize`. Standard deviations and distances only need
            ``* scale``.
        batch: The cloud of each point.

    Returns:
        Positions of the same shape, in the precision of ``offset`` and ``scale`` where that is higher.

    """
    if batch is not None:
        return pos * scale[batch] + offset[batch]
    if pos.dim() == 2:
        if len(offset) != 1:
            raise ValueError(f"`pos` (shape {list(pos.shape)}) of {len(offset)} clouds needs `batch`")
        return pos * scale + offset
    middle = (1,) * (pos.dim() - 2)
    return pos * scale.view(-1, *middle, 1) + offset.view(-1, *middle, 3)


@dataclass(frozen=True)
class Augment(OwnFunction):
    """Random changes of a cloud and its keypoints.

    ``augment(data, generator)`` returns a changed copy; all randomness comes from the generator, and that of
    :func:`item_generator` depends on nothing but (seed, epoch, index). The changes come in the order of the
    arguments, and each is off by default.

    A ``bandwidth [N]`` of the cloud grows with ``scale``. The options in :attr:`deforming` change which points are
    neighbors, so that they must be off for a cloud with a ``bandwidth``.

    Args:
        mirror: Probability of mirroring the shape, which swaps the ids of its keypoints. A shape whose reflection
            pairs do not allow it stays as it is, see :func:`mirror_partners`.
        mirror_poses: Whether shapes are bodies that are alike on both sides and hold them differently: ``mirror`` then
            exchanges all of their pairs, wherever these lie.
        other_side: Probability of making a left shape of a right one: mirrored, and keypoints keep their ids. For
            what bodies have two of, such as bones, hands and ears; not for shapes that have both sides themselves.
        rotate: Largest angle in degrees of a turn about the axis that points up, through the origin; 180 for all
            directions.
        tilt: Largest angle in degrees of a turn about a random axis through the origin, for clouds that do not stand
            quite alike; 180 for any rotation, all of them alike.
        scale: Largest change of the factor for all axes together, drawn from ``[1 - scale, 1 + scale]``.
        axis_scale: Largest change of the factor for each axis on its own.
        shift: Largest distance along each axis, in the units of `pos`.
        jitter: Standard deviation of the noise on every point, in the units of `pos`; the noise is cut off at three
            times that. The keypoints stay where the shape has them.
        drop: Largest share of points to leave out; the share is drawn too, and one point always stays.
            Keypoints stay; the ``keypoint_index`` of a dropped point becomes -1.
        resample: Number of points to draw in the end, without repetition as far as there are enough; 0 keeps all
            points.
        custom: Function of your own, as package.module:function, called last as ``function(data, generator)`` on a
            copy of the cloud, returns a Data with the same fields, of any number of points. What it returns is checked.
            See the guide "Your own backbone".

    Raises:
        ValueError: If an argument is out of its range; the message names it, its value and the rule.

    """

    mirror: float = 0.0
    mirror_poses: bool = False
    other_side: float = 0.0
    rotate: float = 0.0
    tilt: float = 0.0
    scale: float = 0.0
    axis_scale: float = 0.0
    shift: float = 0.0
    jitter: float = 0.0
    drop: float = 0.0
    resample: int = 0
    custom: str | None = None

    def __post_init__(self) -> None:
        for name in ("mirror", "other_side"):
            check_between(name, getattr(self, name), 0, 1)
        for name in ("rotate", "tilt"):
            check_between(name, getattr(self, name), 0, 180)
        for name in ("shift", "jitter"):
            check_non_negative(name, getattr(self, name))
        for name in ("scale", "axis_scale", "drop"):
            check_between(name, getattr(self, name), 0, 1, "[)")
        check_count("resample", self.resample, least=0)
        self.check_custom()

    @property
    def deforming(self) -> tuple[str, ...]:
        """The options in use that do not leave all distances in proportion."""
        return tuple(name for name in ("axis_scale", "jitter", "drop", "resample", "custom") if getattr(self, name))

    def __call__(self, data: Data, generator: torch.Generator) -> Data:
        """Return an augmented copy of one cloud; `generator` must be a CPU generator."""
        if "bandwidth" in data and self.deforming:
            name = self.deforming[0]
            off = "None" if name == "custom" else 0
            raise ValueError(
                f"`{name}` (={getattr(self, name)}) must be {off} for `data` with a `bandwidth`: it changes which "
                "points are neighbors"
            )
        if self.mirror > 0:
            data = random_mirror(data, generator, self.mirror, poses=self.mirror_poses)
        if self.other_side > 0 and torch.rand((), generator=generator).item() < self.other_side:
            data = other_side(data)
        if self.rotate > 0:
            data = rotate_up(data, math.radians(self.rotate) * _uniform(generator).item())
        if self.tilt > 0:
            turn = _tilt(self.tilt, generator)
            data = map_positions(data, lambda x: x @ turn.to(x).mT)
        if self.scale > 0 or self.axis_scale > 0:
            factor = 1 + self.scale * _uniform(generator)
            factors = factor * (1 + self.axis_scale * _uniform(generator, 3))
            data = map_positions(data, lambda x: x * factors.to(x))
            if "bandwidth" in data:
                data.bandwidth = data.bandwidth * factor.to(data.bandwidth)
        if self.shift > 0:
            offset = self.shift * _uniform(generator, 3)
            data = map_positions(data, lambda x: x + offset.to(x))
        if self.jitter > 0:
            data = copy.copy(data)
            noise = torch.randn(data.pos.shape, generator=generator).clamp(-3, 3)
            data.pos = data.pos + self.jitter * noise.to(data.pos)
        if self.drop > 0:
            data = drop_points(data, generator, self.drop)
        if self.resample > 0:
            data = resample_points(data, generator, self.resample)
        if self.custom is not None:
            data = vary(self.custom, data, generator, _PER_CLOUD)
        return data


def other_side(data: Data) -> Data:
    """Mirror a cloud through the origin's plane across its first level axis; keypoints keep their ids."""
    factor = torch.ones(3)
    factor[mirror_normals(_up(data))[0]] = -1.0
    return map_positions(data, lambda x: x * factor.to(x))


def check_turns(name: str, degrees: float, up: str) -> None:
    """Raise if clouds without an axis that points up are to be turned about it."""
    if degrees > 0 and up == "none":
        raise ValueError(f"`{name}` (={degrees:g}) must be 0 for clouds whose `up` is 'none': it turns them about that")


def rotate_up(data: Data, angle: float) -> Data:
    """Turn a cloud and its keypoints about the axis that points up, through the origin, by `angle` radians.

    Where y is up z turns towards x, where z is x towards y, where x is y towards z.

    Raises:
        ValueError: If no axis of the cloud points up.

    """
    up = _up(data)
    if up < 0:
        raise ValueError("`data.up` (=-1) must be an axis to turn about: no axis of the cloud points up")
    cos, sin = math.cos(angle), math.sin(angle)
    a, b = (up + 1) % 3, (up + 2) % 3
    matrix = torch.zeros(3, 3)
    matrix[a, a] = matrix[b, b] = cos
    matrix[a, b], matrix[b, a], matrix[up, up] = -sin, sin, 1.0
    return map_positions(data, lambda x: x @ matrix.to(x).mT)


def drop_points(data: Data, generator: torch.Generator, max_share: float) -> Data:
    """Leave out a random share of the points, the share itself uniform in ``[0, max_share]``."""
    n = data.num_nodes
    count = max(1, n - int(n * max_share * torch.rand((), generator=generator).item()))
    keep = torch.randperm(n, generator=generator)[:count].sort().values
    return take_points(data, keep)


def resample_points(data: Data, generator: torch.Generator, num_points: int) -> Data:
    """Draw `num_points` points at random: all of them and then some again where the cloud has fewer."""
    n = data.num_nodes
    chosen = torch.randperm(n, generator=generator)[:num_points]
    if num_points > n:
        chosen = torch.cat([chosen, torch.randint(n, (num_points - n,), generator=generator)])
    return take_points(data, chosen)


def random_mirror(
    data: Data, generator: torch.Generator, probability: float = 0.5, tolerance: float = 0.03, *, poses: bool = False
) -> Data:
    """Mirror a shape across one of its vertical planes, with the ids of mirrored keypoints swapped.

    The plane is drawn from those at right angles to an axis through the center of the bounding box, as far as
    :func:`mirror_partners` accepts them: from the vertical ones, x = c and z = c where y is up, or all three where no
    axis points up. A shape without such a plane, or without ``reflection``, stays as it is.

    Args:
        data: The cloud, with ``reflection [1, P, 2]``.
        generator: The source of randomness.
        probability: Probability of mirroring a shape that can be mirrored.
        tolerance: How far a keypoint may be from the mirror image of its partner, as a share of the diagonal
            of the bounding box.
        poses: Whether the shape is in a pose: across that of these planes which partners are farthest from each other
            across, all pairs are exchanged, wherever they lie.

    Raises:
        ValueError: If a keypoint has several partners, of a shape in a pose.

    """
    chance, choice = torch.rand(2, generator=generator).tolist()
    if chance >= probability or "reflection" not in data:
        return data
    low, high = data.pos.amin(0), data.pos.amax(0)
    center, distance = (low + high) / 2, tolerance * (high - low).norm().item()
    planes = []
    if poses:
        planes = _posed_planes(data)
    else:
        for axis in mirror_normals(_up(data)):
            where = center[axis].item()
            found = mirror_partners(data.keypoints[0], data.visible[0], data.reflection[0], axis, where, distance)
            if found is not None:
                planes.append((axis, found))
    if not planes:
        return data
    axis, partner = planes[int(choice * len(planes))]
    factor = torch.ones_like(center)
    factor[axis] = -1.0
    offset = torch.zeros_like(center)
    offset[axis] = 2 * center[axis]
    out = map_positions(data, lambda x: x * factor + offset)
    for key in ("keypoints", "visible", "keypoint_index", "detour", "marks", "marked"):
        if key in out:
            out[key] = out[key][:, partner]
    for key in ("reflection", "rotation"):
        if key in out:
            out[key] = torch.where(out[key] >= 0, partner[out[key].clamp(min=0)], -1)
    return out


def _posed_planes(data: Data) -> list[tuple[int, Tensor]]:
    """The normal of the plane that mirrors a body in a pose, and what each keypoint becomes; none without pairs."""
    pairs = data.reflection[0]
    pairs = pairs[(pairs >= 0).all(1)]
    if not len(pairs):
        return []
    columns, count = pairs.unique(return_counts=True)
    several = int(count.argmax())
    if count[several] > 1:
        name = data.model_id if "model_id" in data else "a shape"
        raise ValueError(
            "`mirror_poses` (=True) must be for shapes whose keypoints have one partner each: keypoint "
            f"{columns[several].item()} of {name} has several"
        )
    partner = torch.arange(data.visible.shape[1], device=pairs.device)
    partner[pairs[:, 0]], partner[pairs[:, 1]] = pairs[:, 1], pairs[:, 0]
    both = pairs[data.visible[0][pairs].all(1)]
    apart = (data.keypoints[0][both[:, 0]] - data.keypoints[0][both[:, 1]]).abs().sum(0)
    return [(max(mirror_normals(_up(data)), key=lambda axis: apart[axis].item()), partner)]


def mirror_partners(
    keypoints: Float[Tensor, "K 3"],
    visible: Bool[Tensor, " K"],
    pairs: Int[Tensor, "P 2"],
    axis: int,
    center: float,
    tolerance: float,
) -> Int[Tensor, " K"] | None:
    """Find which keypoint each keypoint becomes when the shape is mirrored across a plane.

    The data has pairs but no planes, and a keypoint may be in several pairs (one per plane of symmetry). A
    pair counts for this plane if each of its keypoints is the mirror image of the other.

    Args:
        keypoints: Positions of the keypoints.
        visible: Which keypoints the shape has.
        pairs: Columns that some plane exchanges; rows of -1 are skipped.
        axis: Axis of the plane's normal: 0, 1 or 2.
        center: Position of the plane on that axis, in the units of `keypoints`.
        tolerance: Largest distance to the mirror image, and largest distance of a keypoint "on" the plane.

    Returns:
        A permutation of the columns, or None if the pairs do not cover every visible keypoint off the plane.

    """
    image = keypoints.clone()
    image[:, axis] = 2 * center - image[:, axis]
    partner = torch.arange(len(keypoints), device=keypoints.device)
    taken = torch.zeros(len(keypoints), dtype=torch.bool)
    pairs = pairs[(pairs >= 0).all(1)]
    distance = (image[pairs[:, 0]] - keypoints[pairs[:, 1]]).norm(dim=1)
    for gap, (a, b) in sorted(zip(distance.tolist(), pairs.tolist(), strict=True)):
        if gap <= tolerance and a != b and not (taken[a] or taken[b]):
            partner[a], partner[b] = b, a
            taken[a] = taken[b] = True
    off_plane = visible.cpu() & ((keypoints[:, axis] - center).abs() > tolerance).cpu()
    return None if (off_plane & ~taken).any() else partner


def _tilt(degrees: float, generator: torch.Generator) -> Tensor:
    if degrees == 180:
        return random_turn(generator)
    axis = torch.randn(3, generator=generator, dtype=torch.double)
    return turn_about(axis, math.radians(degrees) * _uniform(generator).item())


def _up(data: Data) -> int:
    return int(data.up) if "up" in data else 1


def _uniform(generator: torch.Generator, *size: int) -> Tensor:
    return torch.rand(size, generator=generator) * 2 - 1


def map_positions(data: Data, function: Callable[[Tensor], Tensor]) -> Data:
    """Return a copy of a cloud whose points, keypoints and marks are mapped; those that are not there stay zeros."""
    out = copy.copy(data)
    out.pos = function(data.pos)
    if "keypoints" in data:
        out.keypoints = torch.where(data.visible[..., None], function(data.keypoints), 0.0)
    if "marks" in data:
        out.marks = torch.where(data.marked[..., None], function(data.marks), 0.0)
    return out


def take_points(data: Data, rows: Int[Tensor, " M"]) -> Data:
    """Keep the points of these rows, in this order; the ``keypoint_index`` of a point that is not kept becomes -1."""
    out = copy.copy(data)
    n = data.num_nodes
    for key, value in data.to_dict().items():
        if key not in _PER_CLOUD and isinstance(value, Tensor) and value.dim() > 0 and len(value) == n:
            out[key] = value[rows]
    if "keypoint_index" in data:
        # A point drawn several times: any of its copies will do, the first is taken.
        place = torch.full((n + 1,), -1)
        place[rows.flip(0)] = torch.arange(len(rows)).flip(0)
        out.keypoint_index = place[data.keypoint_index]  # the last entry serves -1
    return out
