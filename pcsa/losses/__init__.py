"""Objectives of sampling-argmax on point sets; a grid is the point set of its cells' centers.

Equation numbers are those of `Localization with Sampling-Argmax <https://arxiv.org/abs/2110.08825>`_.

What all functions share:

* ``logits`` and ``pos`` are ragged ``[N, K]`` and ``[N, D]`` with ``batch [N]`` (sorted) or ``ptr [B + 1]``,
  one cloud without either, or dense ``[B, N, K]`` and ``[B, N, D]`` with an optional bool ``mask [B, N]``
  (true: the point exists). ``bandwidth`` is a number, one per point (``[N]``, dense ``[B, N]``), or one per
  point and axis (the shape of ``pos``).
* ``target [B, K, D]`` holds the true positions, in the units of ``pos``; of keypoints that several people marked, see
  :func:`over_marks`.
* ``visible [B, K]`` (bool) says which keypoints an instance has; without it all of them count. What
  ``target`` holds for the others is never used: it may be NaN. They add exactly zero to loss and gradient.
* ``reduction``: ``"mean"`` over the visible keypoints of the whole batch (0 where there is none), ``"sum"``,
  or ``"none"`` for ``[B, K]`` with zeros where a keypoint is not visible.
* ``validate=False`` skips the rules on values, and with them the wait for the device; rules on shapes, types
  and options always hold. While compiling, values are not looked at either. The loss of a map of −inf alone, and of a
  cloud without points, that is let through so means nothing: take such keypoints out by ``visible``.
* A score of −inf leaves a point out for its keypoint: it has no probability, and is nobody's nearest. ``temperature``
  divides the logits of all objectives on maps; as a 0-d tensor that needs a gradient it is learned.
* ``pos`` may be a PyTorch Geometric ``Data`` or ``Batch``, with its ``ptr`` or ``batch``.
* The loss is computed in float32 at least, under autocast too, and in float64 where the input is float64. It is
  differentiable in every floating point tensor unless the function says otherwise.
* A broken rule raises a ValueError that names the argument, its value and the rule.
"""

from pcsa._core.checks import Reduction as Reduction
from pcsa.losses.arguments import Masking as Masking, Norm as Norm, Options as Options
from pcsa.losses.classification import (
    nearest_point_cross_entropy as nearest_point_cross_entropy,
    presence_loss as presence_loss,
)
from pcsa.losses.correspondence import keypoint_contrast as keypoint_contrast, place_spread as place_spread
from pcsa.losses.expectation import (
    discrete_expected_error as discrete_expected_error,
    expectation_error as expectation_error,
)
from pcsa.losses.marks import over_marks as over_marks
from pcsa.losses.mixture import mixture_expected_error as mixture_expected_error, mixture_nll as mixture_nll
from pcsa.losses.regularization import (
    js_regularization as js_regularization,
    variance_regularization as variance_regularization,
)
from pcsa.losses.samples import (
    energy_score as energy_score,
    position_error as position_error,
    sample_error as sample_error,
)
from pcsa.losses.soft_labels import soft_label_cross_entropy as soft_label_cross_entropy
from pcsa.skeleton import (
    CompositeChamfer as CompositeChamfer,
    composite_chamfer as composite_chamfer,
    keypoint_separation as keypoint_separation,
    mirror_error as mirror_error,
)
