"""How far off a place is, by a map itself."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from pcsa._core.balls import check_centers, squared_distance
from pcsa._core.checks import check_temperature
from pcsa._core.data import Cloud
from pcsa._core.points import canonical, cloud_softmax, cloud_sum, full_precision, tempered


@torch.no_grad()
def expected_distance(
    logits: Float[Tensor, "*N K"],
    pos: Float[Tensor, "*N D"] | Cloud,
    center: Float[Tensor, "B K D"],
    batch: Int[Tensor, " N"] | None = None,
    *,
    ptr: Int[Tensor, " B_plus_1"] | None = None,
    temperature: float | Tensor = 1.0,
    mask: Bool[Tensor, "B N"] | None = None,
    batch_size: int | None = None,
    validate: bool = True,
) -> Float[Tensor, "B K"]:
    r"""Mean distance of a place from the keypoint, by the keypoint's map.

    .. math:: \sum_i \pi_i \lVert y_i - c \rVert, \qquad \pi = \mathrm{softmax}(\ell / \tau)

    If the map is right, that is the mean error of a keypoint read as ``center``. Not differentiable; to train by it see
    :func:`pcsa.losses.expectation_error`.

    Args:
        logits: Raw scores, before softmax: ragged ``[N, K]`` or dense ``[B, N, K]``.
        pos: Positions ``[N, D]`` or ``[B, N, D]``, or what has them, as for :func:`pcsa.soft_argmax`.
        center: Places ``[B, K, D]``, in the units and frame of ``pos``.
        batch: Cloud of each point, sorted, for ragged input; without ``batch`` and ``ptr`` there is one cloud.
        ptr: Where each cloud begins, then N; instead of ``batch``.
        temperature: Divides the logits. Default 1.
        mask: True at the points of dense input that exist.
        batch_size: Number of clouds; see :func:`pcsa.sampling_argmax`.
        validate: Check values too.

    Returns:
        Distance ``[B, K]``, in the units of ``pos``.

    Raises:
        ValueError: Naming the argument, its value and the rule.

    Example:
        >>> pos = torch.tensor([[0.0], [1.0], [10.0]])
        >>> logits = torch.tensor([[0.5], [0.4], [0.1]]).log()
        >>> expected_distance(logits, pos, torch.tensor([[[1.0]]]))
        tensor([[1.4000]])

    """
    check_temperature(temperature)
    points = canonical(logits, pos, None, batch, ptr=ptr, mask=mask, batch_size=batch_size, validate=validate)
    check_centers(center, points, validate)
    with full_precision(logits):
        prob = cloud_softmax(tempered(points, temperature), points)
        return cloud_sum(prob * squared_distance(center.to(prob.dtype), points).sqrt_(), points)
