"""Which planes mirror the shapes of a category, and which keypoint becomes which."""

from collections import Counter
from collections.abc import Iterable

from torch_geometric.data import Data

from pcsa.datasets.transforms import mirror_partners
from pcsa.datasets.up import mirror_normals


def category_mirrors(
    clouds: Iterable[Data], num_keypoints: int, *, tolerance: float = 0.03, least_share: float = 0.5
) -> dict[int, tuple[int, ...]]:
    """Find the vertical planes across which a category may be mirrored, from its annotated clouds.

    A cloud without annotations says no plane, but its category does: the planes through the middle of the bounding box
    that :func:`~pcsa.datasets.transforms.mirror_partners` accepts for most shapes. Others would take a shape for one
    that the category hardly has: a bed with its head where beds have their feet.

    Args:
        clouds: With ``reflection [1, P, 2]``; those without a pair do not count. Their ``up`` says what is vertical,
            see :mod:`pcsa.datasets.transforms`.
        num_keypoints: K.
        tolerance: See :func:`~pcsa.datasets.transforms.random_mirror`.
        least_share: Share of the clouds with pairs that must have the plane.

    Returns:
        By axis of the plane's normal, the column that each keypoint becomes: -1 where no shape with this plane has the
        keypoint, or shapes disagree.

    """
    votes = {axis: [Counter[int]() for _ in range(num_keypoints)] for axis in range(3)}
    accepted, counted = Counter[int](), 0
    for cloud in clouds:
        pairs = cloud.reflection[0] if "reflection" in cloud else None
        if pairs is None or not bool((pairs >= 0).all(1).any()):
            continue
        counted += 1
        low, high = cloud.pos.amin(0), cloud.pos.amax(0)
        center, distance = (low + high) / 2, tolerance * (high - low).norm().item()
        for axis in mirror_normals(int(cloud.up) if "up" in cloud else 1):
            visible = cloud.visible[0]
            partner = mirror_partners(cloud.keypoints[0], visible, pairs, axis, center[axis].item(), distance)
            if partner is None:
                continue
            accepted[axis] += 1
            for k in visible.nonzero().flatten().tolist():
                votes[axis][k][int(partner[k])] += 1
    planes = [axis for axis in votes if accepted[axis] > 0 and accepted[axis] >= least_share * counted]
    return {axis: _agreed([next(iter(v)) if len(v) == 1 else -1 for v in votes[axis]]) for axis in planes}


def _agreed(partner: list[int]) -> tuple[int, ...]:
    """What each keypoint becomes, where that one becomes it in turn."""
    return tuple(p if p >= 0 and partner[p] == k else -1 for k, p in enumerate(partner))
