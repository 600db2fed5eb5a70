"""How far people are from each other where several marked the same keypoint."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from pcsa.metrics.ellipsoids import check_marks
from pcsa.metrics.errors import CountedError


def rater_error(
    marks: Float[Tensor, "B K M D"], marked: Bool[Tensor, "B K M"], *, validate: bool = True
) -> CountedError:
    r"""Distance of one mark from the mean of the others: what a detector as good as one person reaches.

    Of each keypoint of each shape, every mark is left out in turn and held against the mean of the rest. The mean over
    shapes, ``error.distance.sum(0) / error.counted.sum(0)``, says on which keypoints people agree; pooled, averaged as
    the scores of detectors are, it is ``mean_error(*error)``. Where one person marked a keypoint several times, their
    other marks are among the rest: people are then farther from each other than this says.

    Args:
        marks: Places that people marked, in the dataset's own units; may hold anything where not marked.
        marked: Which of them there are.
        validate: Check the values (synchronizes with the device).

    Returns:
        :class:`CountedError`: mean distance of the marks of each keypoint, float64, and whether it has two marks at
        least. Not differentiable.

    Shapes:
        - **marks:** :math:`(B, K, M, D)`
        - **marked:** :math:`(B, K, M)`
        - **output:** twice :math:`(B, K)`

    Raises:
        ValueError: If shapes or dtypes do not fit, or a mark is not finite.

    Example:
        >>> marks = torch.tensor([[[[0.0], [3.0], [6.0]]]])
        >>> rater_error(marks, torch.ones(1, 1, 3, dtype=torch.bool)).distance  # 4.5, 0 and 4.5
        tensor([[3.]], dtype=torch.float64)
    """
    check_marks(marks, marked, validate)
    count = marked.sum(2)
    known = torch.where(marked.unsqueeze(-1), marks.detach(), 0.0).double()
    middle = known.sum(2) / count.clamp(min=1).unsqueeze(-1)
    away = torch.where(marked, (known - middle.unsqueeze(2)).norm(dim=-1), 0.0)
    # The mean of the others is as much farther: m - (n mean - m) / (n - 1) = (m - mean) n / (n - 1).
    counted = count > 1
    distance = away.sum(2) / (count - 1).clamp(min=1)
    return CountedError(torch.where(counted, distance, 0.0), counted)
