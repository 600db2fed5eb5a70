"""Error of shapes that look the same after a rotation, against the best of their equivalent labelings."""

from typing import NamedTuple

from jaxtyping import Bool, Float, Int
from torch import Tensor

from pcsa._core.checks import check_finite, check_floating, check_index, check_mask, check_rows, reads_values
from pcsa._core.points import working_dtype
from pcsa.metrics.errors import distances


class SymmetricError(NamedTuple):
    """Error against the labeling that counts, from :func:`symmetric_error`.

    Attributes:
        error: Euclidean distances; 0 where not visible.
        choice: Which candidate counts.
    """

    error: Float[Tensor, " K"]
    choice: Int[Tensor, ""]


def symmetric_error(
    predicted: Float[Tensor, "K D"],
    candidates: Float[Tensor, "R K D"],
    visible: Bool[Tensor, " K"],
    *,
    logits: Float[Tensor, "N K"] | None = None,
    index: Int[Tensor, "R K"] | None = None,
    validate: bool = True,
) -> SymmetricError:
    r"""Error of one shape against the best of its equivalent labelings.

    A shape that looks the same after a rotation has several right labelings (the first of ``candidates`` is the
    annotated one, the others are rotated). KeypointNet's benchmark counts the labeling with the lowest cross-entropy
    :math:`-\frac{1}{|V|} \sum_{k \in V} \log \pi_{i_k, k}` over the visible keypoints; pass ``logits`` and ``index``
    for that. Without them the labeling with the lowest mean distance counts, which favors the prediction more. A figure
    that uses this has to say so.

    Args:
        predicted: Predicted positions, in the dataset's own units.
        candidates: Equivalent labelings, same units; see ``pcsa.datasets.keypointnet.rotated_labelings``.
        visible: Which keypoints the shape has.
        logits: The network's scores of the cloud's points; log-probabilities do as well.
        index: The candidates as rows of ``logits``; may hold anything where not visible.
        validate: Check the values (synchronizes with the device).

    Returns:
        :class:`SymmetricError`: ``error`` is against ``candidates[choice]``, and differentiable with respect
        to ``predicted`` and ``candidates``; ``choice`` is not.

    Shapes:
        - **predicted:** :math:`(K, D)`
        - **candidates:** :math:`(R, K, D)`
        - **visible:** :math:`(K)`
        - **logits:** :math:`(N, K)`
        - **index:** :math:`(R, K)`
        - **error:** :math:`(K)`, **choice:** scalar

    Raises:
        ValueError: If shapes or dtypes do not fit, there is no candidate, only one of ``logits`` and
            ``index`` is given, values are not finite where visible, or an index is out of range where
            visible.
    """
    if candidates.ndim != 3 or candidates.size(0) == 0 or candidates.shape[1:] != predicted.shape:
        raise ValueError(
            f"`candidates` {list(candidates.shape)} must be [R, K, D], R at least 1, "
            f"with `predicted` [K, D] (={list(predicted.shape)})"
        )
    if (logits is None) != (index is None):
        raise ValueError("`logits` and `index` must be given together")
    R, K = candidates.shape[:2]
    if index is not None:
        check_index("index", index, (R, K))
    check_mask("visible", visible, (K,))
    error = distances(predicted.expand_as(candidates), candidates, visible.expand(R, K), validate, "candidates")
    if logits is None or index is None:
        choice = error.detach().sum(dim=1).argmin()
    else:
        choice = _cross_entropy(logits, index, visible, validate).argmin()
    return SymmetricError(error[choice], choice)


def _cross_entropy(logits: Tensor, index: Tensor, visible: Tensor, validate: bool) -> Tensor:
    """Cross-entropy of every labeling, ``[R]``, summed over the visible keypoints."""
    K = len(visible)
    if logits.ndim != 2 or logits.size(1) != K or logits.size(0) == 0:
        raise ValueError(f"`logits` {list(logits.shape)} must be [N, {K}], N at least 1")
    check_floating("logits", logits)
    index = index.long().masked_fill(~visible, 0)
    check_finite("logits", logits, validate)
    if reads_values(validate):
        check_rows("index", index, logits.size(0), "logits")
    log_prob = logits.detach().to(working_dtype(logits)).log_softmax(dim=0)
    return -(log_prob.gather(0, index) * visible).sum(dim=1)
