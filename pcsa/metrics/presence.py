"""Average precision of the score that says whether a shape has a keypoint."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pcsa._core.checks import check_finite, check_floating, check_mask


def presence_average_precision(
    scores: Float[Tensor, "B K"], present: Bool[Tensor, "B K"], *, validate: bool = True
) -> Float[Tensor, " K"]:
    r"""Average precision of the presence score, per keypoint.

    :math:`\sum_n (R_n - R_{n-1}) P_n`, not interpolated, by torchmetrics. A keypoint that every shape has, or
    none, says nothing about the score and gives NaN: the mean over keypoints is
    ``presence_average_precision(…).nanmean()``.

    Args:
        scores: Presence scores; only their order counts, so logits and probabilities do equally.
        present: Which keypoints each shape has.
        validate: Check that scores are finite.

    Returns:
        Average precision per keypoint, float32. Not differentiable.

    Shapes:
        - **scores**, **present:** :math:`(B, K)`
        - **output:** :math:`(K)`

    Raises:
        ValueError: If shapes or dtypes do not fit or a score is not finite.

    Example:
        >>> scores = torch.tensor([[0.9], [0.8], [0.7]])
        >>> presence_average_precision(scores, torch.tensor([[True], [False], [True]]))  # (1/1 + 2/3) / 2
        tensor([0.8333])
    """
    from torchmetrics.functional.classification import binary_average_precision

    if scores.ndim != 2:
        raise ValueError(f"`scores` {list(scores.shape)} must be [B, K]")
    check_floating("scores", scores)
    check_mask("present", present, scores.shape)
    check_finite("scores", scores, validate)
    result = scores.new_full(scores.shape[1:], math.nan, dtype=torch.float32)
    for k, (score, label) in enumerate(zip(scores.unbind(1), present.unbind(1), strict=True)):
        if label.any() and not label.all():
            # torchmetrics puts logits through a sigmoid, which ties all above 17 in float32: ranks keep their order.
            rank = score.unique(return_inverse=True)[1].double()
            result[k] = binary_average_precision(rank / rank.amax().clamp(min=1), label.long())
    return result
