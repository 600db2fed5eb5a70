"""Expectations of the position: soft-argmax, and the same under a window around the peak."""

import math
from collections.abc import Iterable
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from pcsa._core.checks import check_one_of, check_positive, check_temperature
from pcsa._core.marginals import axis_sums
from pcsa._core.points import full_precision, over_learned, working_dtype
from pcsa.grid.frames import Frame, Spacing, affine_of
from pcsa.grid.maps import cells, check_logits
from pcsa.grid.rings import axis_means, rings_of, wrapped

KernelOn = Literal["probabilities", "scores"]


def soft_argmax(
    logits: Float[Tensor, "B K *spatial"],
    *,
    temperature: float | Tensor = 1.0,
    frame: Frame | None = None,
    spacing: Spacing | None = None,
    periodic: Iterable[str] = (),
    validate: bool = True,
) -> Float[Tensor, "B K D"]:
    r"""Expectation of each keypoint's position over the cells of its map (Eq. 1).

    On a ``periodic`` axis, the circular mean instead, the direction of
    :math:`\sum_i \pi_i (\cos(2 \pi x_i / n), \sin(2 \pi x_i / n))`: the sinusoidal soft-argmax of
    `"Cylindrical Convolutional Networks" <https://arxiv.org/abs/2003.11303>`_. A map without a direction (flat, or two
    equal peaks opposite to each other) gets index 0 there, and no gradient.

    Differentiable in ``logits``. Computed in float32 under autocast and from half precision; float64 stays float64.

    Args:
        logits: Raw scores, before softmax, on one, two or three axes.
        temperature: Divides the logits. Default 1.
        frame: Frame of the result, see :mod:`pcsa.grid`. Default ``"index"``, or ``"physical"`` where ``spacing`` is
            given.
        spacing: Units per cell in the frames ``"pixels"`` and ``"physical"``: a number, or one per axis, x first.
        periodic: Names of the axes that close to a ring, such as ``"x"``; the index there is from -1/2 to n - 1/2.
        validate: Check that the logits are finite too; costs one synchronization on an accelerator.

    Returns:
        Positions ``[B, K, D]``, in the order x, y, z.

    Raises:
        ValueError: If an argument breaks a rule; the message names the argument, its value and the rule.

    Example:
        >>> logits = torch.full((1, 1, 2, 4), -1000.0)  # two rows of four cells
        >>> logits[0, 0, 1, 2:] = 0.0  # the last two cells of the second row
        >>> soft_argmax(logits)
        tensor([[[2.5000, 1.0000]]])
        >>> soft_argmax(logits, frame="pixels", spacing=4)
        tensor([[[11.5000,  5.5000]]])
    """
    shape = check_logits(logits, validate)
    check_temperature(temperature)
    affine = affine_of(shape, frame, spacing)
    around = rings_of(periodic, shape)
    with full_precision(logits):
        flat = logits.to(working_dtype(logits)).flatten(2)
        # Less their maximum, so that a small temperature cannot overflow large logits.
        lower = flat - flat.detach().amax(2, keepdim=True)
        if isinstance(temperature, Tensor) and temperature.requires_grad:
            tempered = over_learned(lower, temperature)
        else:
            tempered = lower / temperature
        prob = tempered.softmax(2).unflatten(2, shape)
        return affine.apply(axis_means(axis_sums(prob), around))


def kernel_soft_argmax(
    logits: Float[Tensor, "B K *spatial"],
    sigma: float,
    *,
    on: KernelOn = "probabilities",
    temperature: float | Tensor = 1.0,
    frame: Frame | None = None,
    spacing: Spacing | None = None,
    periodic: Iterable[str] = (),
    validate: bool = True,
) -> Float[Tensor, "B K D"]:
    r"""Expectation of the position under a Gaussian window around the map's peak.

    With p the cell of the largest logit and :math:`k_i = e^{-\|y_i - y_p\|^2 / 2 \sigma^2}`, the expectation of
    :math:`y_i` under weights in proportion to

    * ``on="probabilities"``: :math:`\pi_i k_i`. A common offset of the logits changes nothing.
    * ``on="scores"``: :math:`e^{k_i \ell_i / \tau}`, the kernel soft-argmax of `"SFNet: Learning Object-aware
      Semantic Correspondence" <https://arxiv.org/abs/1904.01810>`_, for scores that are not negative (there:
      correlations, sigma 5, 1 / temperature 50). The window pulls a score towards 0: a negative one *gains* by it.

    Other peaks no longer draw the result towards them; as sigma grows, it becomes :func:`soft_argmax`.

    Differentiable in ``logits``; the peak is held fixed. Computed in float32 under autocast and from half precision;
    float64 stays float64.

    Args:
        logits: Raw scores, before softmax, on one, two or three axes.
        sigma: Standard deviation of the window in cells. Positive.
        on: What the window multiplies.
        temperature: Divides the logits. Default 1.
        frame: Frame of the result, see :func:`soft_argmax`.
        spacing: Units per cell, see :func:`soft_argmax`.
        periodic: Names of the axes that close to a ring, where distances are the shorter way round.
        validate: Check that the logits are finite too.

    Returns:
        Positions ``[B, K, D]``, in the order x, y, z. Of equally high peaks the first in the array counts.

    Raises:
        ValueError: If an argument breaks a rule; the message names the argument, its value and the rule.

    Example:
        >>> logits = torch.tensor([[[5.0, -99.0, -99.0, -99.0, -99.0, 4.9, 4.9]]])  # peak at 0, a broader one at 5 to 6
        >>> soft_argmax(logits).round(decimals=2), kernel_soft_argmax(logits, sigma=1.0).round(decimals=2)
        (tensor([[[3.5400]]]), tensor([[[0.]]]))
    """
    shape = check_logits(logits, validate)
    check_temperature(temperature)
    check_one_of("on", on, get_args(KernelOn))
    check_positive("sigma", sigma)
    periodic = tuple(periodic)
    around = rings_of(periodic, shape)
    affine_of(shape, frame, spacing)
    with full_precision(logits):
        logits = logits.to(working_dtype(logits))
        pos = cells(shape, dtype=logits.dtype, device=logits.device)
        peak = pos[logits.flatten(2).argmax(-1)]
        away = peak.unsqueeze(2) - pos
        axes = zip(away.unbind(-1), shape[::-1], around, strict=True)
        away = torch.stack([wrapped(a, n) if ring else a for a, n, ring in axes])
        exponent = (away / sigma).square().sum(0).view_as(logits) / 2
        scores = logits - exponent * temperature
        if on == "scores":
            # Times a window of 0, -inf would be NaN.
            off = logits == -math.inf
            scores = (logits.masked_fill(off, 0.0) * (-exponent).exp()).masked_fill(off, -math.inf)
    return soft_argmax(scores, temperature=temperature, frame=frame, spacing=spacing, periodic=periodic, validate=False)
