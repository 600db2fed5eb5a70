"""Objectives of several true places per keypoint: those that several people marked."""

from collections.abc import Callable

from jaxtyping import Bool, Float
from torch import Tensor

from pcsa._core.checks import Reduction, check_floating, check_mask, check_shape
from pcsa.losses.arguments import Logits, keypoints_of


def over_marks(
    loss: Callable[..., Float[Tensor, "B K_times_M"]],
    logits: Logits,
    marks: Float[Tensor, "B K M D"],
    marked: Bool[Tensor, "B K M"],
    *,
    visible: Bool[Tensor, "B K"] | None = None,
    reduction: Reduction = "mean",
    validate: bool = True,
) -> Tensor:
    r"""Mean of an objective over the marks of each keypoint, each keypoint counting once.

    Of :func:`mixture_nll` it is :math:`-\frac{1}{M} \sum_m \log \sum_i \pi_i\, \mathcal{N}(m; y_i, \sigma_i^2 I)`,
    least where the mixture is as wide as people disagree. The same holds of :func:`nearest_point_cross_entropy` and
    :func:`soft_label_cross_entropy`; an expected *error* is least where the map is a single place, whatever the marks.

    Every mark is a column of its own, with the scores of its keypoint: it takes as much memory as the objective of
    ``K * M`` keypoints. With one mark it is the objective itself, bit for bit.

    Args:
        loss: Called as ``loss(logits, target, visible=…, reduction="none", validate=…)`` with a column for each mark,
            ``logits [N, K * M]`` or ``[B, N, K * M]`` and ``target [B, K * M, D]``; returns ``[B, K * M]``.
        logits: Scores before softmax, ragged ``[N, K]`` or dense ``[B, N, K]``.
        marks: Places that people marked, in the units of the positions; may hold anything where not ``marked``.
        marked: Which of them there are.
        visible: Keypoints that count; those without a mark do not.
        reduction: ``"mean"`` over the keypoints that count, ``"sum"``, or ``"none"`` for ``[B, K]``.
        validate: Check values too.

    Returns:
        The loss, differentiable as that of one target.

    Raises:
        ValueError: If shapes or types do not fit, or as ``loss`` does.

    Example:
        >>> import torch
        >>> from pcsa.losses import nearest_point_cross_entropy
        >>> pos, marks = torch.tensor([[0.0], [2.0]]), torch.tensor([[[[0.0], [2.0], [2.0]]]])
        >>> def term(logits, target, **options):
        ...     return nearest_point_cross_entropy(logits, pos, target, **options)
        >>> logits = torch.tensor([[0.25], [0.75]]).log()
        >>> loss = over_marks(term, logits, marks, torch.ones(1, 1, 3, dtype=torch.bool))
        >>> round((-3 * loss).exp().item(), 4)  # 1/4 · 3/4 · 3/4
        0.1406
    """
    check_floating("marks", marks)
    check_shape("marks", marks, ("B", "K", "M", "D"))
    B, K, M, _ = marks.shape
    check_mask("marked", marked, (B, K, M))
    if logits.shape[-1] != K:
        raise ValueError(f"`marks` {list(marks.shape)} must have the K (={logits.shape[-1]}) keypoints of `logits`")
    if visible is not None:
        check_mask("visible", visible, (B, K))
        marked = marked & visible.unsqueeze(-1)
    wide = logits.repeat_interleave(M, dim=-1)
    each = loss(wide, marks.flatten(1, 2), visible=marked.flatten(1, 2), reduction="none", validate=validate)
    # What is not marked is 0.
    mean = each.unflatten(1, (K, M)).sum(2) / marked.sum(2).clamp(min=1)
    return keypoints_of((B, K), visible=marked.any(2), reduction=reduction).reduce(mean)
