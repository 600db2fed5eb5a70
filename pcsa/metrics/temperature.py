"""Temperature scaling: one number that makes the probabilities of trained maps as large as they are right."""

import math
from collections.abc import Sequence

from jaxtyping import Float, Int
from torch import Tensor

from pcsa._core.checks import check_finite, check_floating, check_index, check_rows

_RANGE = (1e-3, 1e3)
_STEPS = 60


def fit_temperature(
    logits: Sequence[Float[Tensor, "_N _K"]], index: Sequence[Int[Tensor, " _K"]], *, validate: bool = True
) -> float:
    r"""The temperature under which maps give the annotated points the most likelihood.

    Minimizes :math:`-\sum_k \log \mathrm{softmax}(\ell_k / T)_{i_k}` over T, the method of `"On Calibration of Modern
    Neural Networks" <https://arxiv.org/abs/1706.04599>`_ with the points of a cloud as the classes: the likelihood is
    a proper score, so T does not depend on any threshold. In 1/T the sum is convex, and its derivative, the
    annotated logits minus the mean ones, is bisected.

    Fit on shapes that the network was not trained on, and report on others still.

    Args:
        logits: Raw scores of the points of each cloud, before softmax; -inf where a point does not count.
        index: The annotated point of each keypoint, a row of the logits; -1 where the cloud lacks the keypoint.
        validate: Check values.

    Returns:
        The temperature, from 0.001 to 1000: above 1 the maps are too sure of themselves. 1000 where the
        likelihood rises up to it; where every annotated point is the most probable one, so small that it is 1.

    Shapes:
        - **logits:** for each cloud :math:`(N, K)`
        - **index:** for each cloud :math:`(K)`

    Raises:
        ValueError: If shapes or dtypes do not fit, no keypoint is annotated, a logit is NaN or infinite, or that of an
            annotated point is -inf.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[2.0, 2.0], [0.0, 0.0]])
        >>> round(fit_temperature([logits] * 2, [torch.tensor([0, 0]), torch.tensor([0, 1])]), 3)
        1.82

    """
    if len(logits) != len(index):
        raise ValueError(f"`index` (of {len(index)} clouds) must be of as many clouds as `logits` (of {len(logits)})")
    maps = []
    for score, row in zip(logits, index, strict=True):
        check_floating("logits", score)
        if score.ndim != 2:
            raise ValueError(f"`logits` {list(score.shape)} must be [N, K] for each cloud")
        check_index("index", row, (score.shape[1],))
        known = row >= 0
        check_rows("index", row[known], len(score), "logits")
        own = score.detach().double()[:, known]
        at = own.gather(0, row[known][None].long())[0]
        if validate and bool((own.isnan() | (own == math.inf)).any()):
            raise ValueError("`logits` must not be NaN or infinite")
        check_finite("logits at `index`", at, validate)
        # Differences from the annotated logit: its own is 0.
        maps.append(own - at)
    if not sum(x.shape[1] for x in maps):
        raise ValueError("`index` must have an annotated keypoint: all are -1")

    def slope(beta: float) -> float:
        # A product of 0 and -inf is NaN.
        return sum(float(((beta * x).softmax(0) * x.masked_fill(x == -math.inf, 0.0)).sum()) for x in maps)

    low, high = (math.log(bound) for bound in _RANGE)
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(math.exp(middle)) < 0 else (low, middle)
    return math.exp(-(low + high) / 2)
