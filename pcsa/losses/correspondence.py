"""Do keypoints of the same number mean the same on every shape of a category? Objectives that need no label.

What both functions share: row b of a batch is a shape, K keypoints are in the same order in all. ``reduction`` is
``"mean"`` over shapes and keypoints, ``"sum"``, or ``"none"`` for ``[B, K]``. Computed in float32 at least, under
autocast too. Not part of the objective of any keypoint paper.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from pcsa._core.checks import Reduction, check_positive, check_reduction, check_shape
from pcsa._core.points import full_precision
from pcsa.losses.arguments import at_least_float32


def keypoint_contrast(
    features: Float[Tensor, "B K C"], *, temperature: float = 0.1, reduction: Reduction = "mean"
) -> Tensor:
    r"""Contrast of keypoints between shapes: what keypoint k looks like should tell it from the others elsewhere.

    For every ordered pair of different shapes a, b and every keypoint k, with s the cosine of two features (InfoNCE,
    `"Representation Learning with Contrastive Predictive Coding" <https://arxiv.org/abs/1807.03748>`_, Eq. 4, the
    keypoints of b as the candidates):

    .. math::
        -\log \frac{e^{s(f_{ak}, f_{bk}) / \tau}}{\sum_j e^{s(f_{ak}, f_{bj}) / \tau}}

    From 0 for keypoints that no one takes for another; log K where nothing tells them apart. Differentiable in
    ``features``. A shape alone has no other: zero.

    Args:
        features: What the network says of every keypoint, such as the mean over its map of the features of the
            points. A feature of length zero is like no other.
        temperature: :math:`\tau`; positive. Default 0.1.
        reduction: See the module; ``"none"`` is the mean over the other shapes b.

    Example:
        >>> features = torch.eye(2).expand(3, 2, 2)  # three shapes, two keypoints, each with a feature of its own
        >>> keypoint_contrast(features, temperature=1.0)  # log(1 + exp(-1))
        tensor(0.3133)
    """
    check_shape("features", features, ("B", "K", "C"))
    check_positive("temperature", temperature)
    check_reduction(reduction)
    features = at_least_float32("features", features)
    B = len(features)
    with full_precision(features):
        unit = F.normalize(features, dim=2, eps=1e-12)
        score = torch.einsum("akc,bjc->abkj", unit, unit) / temperature
        loss = -score.log_softmax(3).diagonal(dim1=2, dim2=3)
        other = 1 - torch.eye(B, dtype=loss.dtype, device=loss.device)
        each = (loss * other.unsqueeze(2)).sum(1) / max(B - 1, 1)
    return _reduced(each, reduction)


def place_spread(places: Float[Tensor, "B K D"], *, reduction: Reduction = "mean") -> Tensor:
    r"""How far the places of a keypoint are spread over the shapes: :math:`\|c_{bk} - \frac1B \sum_a c_{ak}\|^2`.

    Its mean is half of the mean squared distance between two shapes, a shape with itself included. Take places that
    aligned shapes have in common, such as those in the bounding box (:func:`pcsa.models.box_coordinates`): there a
    foot of a long bed is where that of a short one is. Differentiable in ``places``.

    Args:
        places: One place for every keypoint, in any unit.
        reduction: See the module.

    Example:
        >>> place_spread(torch.tensor([[[0.0, 0.0]], [[2.0, 0.0]]]))
        tensor(1.)
    """
    check_shape("places", places, ("B", "K", "D"))
    check_reduction(reduction)
    places = at_least_float32("places", places)
    return _reduced((places - places.mean(0)).square().sum(2), reduction)


def _reduced(loss: Tensor, reduction: str) -> Tensor:
    return loss if reduction == "none" else loss.sum() if reduction == "sum" else loss.mean()
