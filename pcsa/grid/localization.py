"""Reading trained heatmaps: where the keypoint is, and how sure that is."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from pcsa._core.checks import check_floating, check_positive, finite, raise_first, reads_values
from pcsa._core.points import full_precision, working_dtype
from pcsa.grid.frames import Frame, Spacing, affine_of
from pcsa.grid.maps import cells, check_logits, flatten
from pcsa.localization import NEED_RADIUS, Localization, ReadOut, localize as localize_points


def localize(
    logits: Float[Tensor, "B K *spatial"],
    *,
    read_out: ReadOut = "expectation",
    radius: float | None = None,
    bandwidth: float | Float[Tensor, "B K"] | None = None,
    temperature: float | Tensor = 1.0,
    frame: Frame | None = None,
    spacing: Spacing | None = None,
    validate: bool = True,
) -> Localization:
    r"""Position and certainty of every keypoint from the heatmaps of a trained network.

    The read-outs are those of :func:`pcsa.localize` on the cells' centers, in the units of the frame, also where the
    axes have cells of different sizes. Choose by the metric:

    ====================================================  ==========================================================
    metric                                                read-out
    ====================================================  ==========================================================
    squared error                                         ``"expectation"``
    mean distance (MPJPE, surfaces)                       ``"median"``
    PCK, PCKh, accuracy within a distance                 ``"ball"``, with the distance as ``radius``
    OKS, and COCO's AP, which counts persons by OKS       ``"mode"``, with the width of OKS as ``bandwidth``:
                                                          :math:`2 \sigma_k \sqrt{A}` for the area A of the person
    ====================================================  ==========================================================

    The expected OKS of a place c is :math:`\sum_i \pi_i \exp(-\lVert y_i - c \rVert^2 / 2 s_k^2)` with
    :math:`s_k = 2 \sigma_k \sqrt{A}`: it is largest where the mixture of Gaussians of that bandwidth is densest.

    Differentiable in what :func:`pcsa.localize` is: expectation, covariance, peak and entropy.

    Args:
        logits: Raw scores, before softmax, on one, two or three spatial axes.
        read_out: See :func:`pcsa.localize`.
        radius: The same, in the units of the frame.
        bandwidth: Standard deviation of the bases, in the units of the frame: a number, or ``[B, K]``, one for each
            keypoint. Default one cell, along every axis.
        temperature: Divides the logits. Default 1.
        frame: Frame of the positions, see :mod:`pcsa.grid`.
        spacing: Units per cell, see :func:`pcsa.grid.from_index`.
        validate: Check values too.

    Returns:
        See :func:`pcsa.localize`; positions in the frame, x first, covariances in its squared units, ``index`` is the
        cell in the order of :func:`pcsa.grid.cells`.

    Raises:
        ValueError: If an argument breaks a rule; the message names the argument, its value and the rule.

    Example:
        >>> maps = torch.tensor([[[0.4, 0.3, 0.2, 0.1]]]).log()  # one axis
        >>> found = localize(maps, read_out="ball", radius=1.1)
        >>> found.position, found.confidence  # of the cells 0, 1 and 2
        (tensor([[[0.9165]]]), tensor([[0.9000]]))
        >>> localize(maps, read_out="ball", radius=4.4, frame="pixels", spacing=4).position
        tensor([[[5.1660]]])
    """
    shape = check_logits(logits, validate)
    affine = affine_of(shape, frame, spacing)
    if radius is not None:
        check_positive("radius", radius)
    elif read_out in NEED_RADIUS:
        raise ValueError(f"`radius` (=None) must be given with `read_out` {read_out!r}")
    size = [scale / divisor for scale, divisor in zip(affine.scale, affine.divisor, strict=True)]
    # Cells of the first axis are the unit: where cells are as wide as high, positions are exact whole numbers.
    unit, ratio = size[0], [s / size[0] for s in size]
    dtype = working_dtype(logits)
    index = cells(shape, dtype=dtype, device=logits.device)
    stretch = None if set(ratio) == {1.0} else torch.tensor(ratio, dtype=dtype).to(logits.device, non_blocking=True)
    pos = index if stretch is None else index * stretch
    B, K = logits.shape[:2]
    how: dict[str, Any] = {"temperature": temperature, "validate": False}
    how["read_out"] = "peak" if read_out == "ball_point" else read_out
    how["radius"] = None if radius is None else radius / unit
    width: float | Tensor
    maps = flatten(logits)
    if isinstance(bandwidth, Tensor):
        each = _bandwidths(bandwidth, logits, validate) / unit
        # A keypoint is a cloud of its own.
        maps = maps.transpose(1, 2).reshape(B * K, -1, 1)
        width = each.to(dtype).view(-1, 1).expand(-1, pos.shape[0])
    elif bandwidth is not None:
        check_positive("bandwidth", bandwidth)
        width = bandwidth / unit
    else:
        width = 1.0 if stretch is None else stretch.expand(maps.shape[0], pos.shape[0], -1)
    found = localize_points(maps, pos.expand(maps.shape[0], -1, -1), width, **how)
    if isinstance(bandwidth, Tensor):
        found = Localization(*(x.view(B, K, *x.shape[2:]) for x in found))
    if read_out == "ball_point":
        assert radius is not None
        with torch.no_grad(), full_precision(logits):
            place, mass = _heaviest_cell(logits.to(dtype) / temperature, radius / unit, ratio)
        found = found._replace(position=pos[place], confidence=mass)
    position = found.position if stretch is None else found.position / stretch
    return found._replace(position=affine.apply(position), covariance=found.covariance * unit**2)


def _bandwidths(bandwidth: Tensor, logits: Tensor, validate: bool) -> Tensor:
    check_floating("bandwidth", bandwidth)
    if bandwidth.shape != logits.shape[:2] or bandwidth.device != logits.device:
        raise ValueError(
            f"`bandwidth` {list(bandwidth.shape)} (on {bandwidth.device}) must be a number or "
            f"{list(logits.shape[:2])} on the device of `logits` ({logits.device})"
        )
    if reads_values(validate):
        rule = "`bandwidth` must be positive and finite everywhere"
        raise_first([finite("bandwidth", bandwidth), ((bandwidth > 0).all(), rule)])
    return bandwidth


def _heaviest_cell(logits: Tensor, radius: float, size: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Cells [B, K] about which the ball holds the most probability, and what it holds: a convolution with the ball.

    Of cells with as much, it is the most probable.
    """
    shape = logits.shape[2:]
    prob = logits.flatten(2).softmax(2).view(-1, 1, *shape)
    reach = [min(math.ceil(radius / s), n - 1) for s, n in zip(size, reversed(shape), strict=True)][::-1]
    along = [
        torch.arange(-r, r + 1, dtype=torch.float64, device=logits.device) * s
        for r, s in zip(reach, reversed(size), strict=True)
    ]
    apart = torch.stack(torch.meshgrid(*along, indexing="ij")).square().sum(0)
    ball = (apart < radius**2).to(prob.dtype)[None, None]
    convolve = (functional.conv1d, functional.conv2d, functional.conv3d)[len(shape) - 1]
    mass = convolve(prob, ball, padding=reach).view(*logits.shape[:2], -1)
    best = mass.amax(2, keepdim=True)
    as_much = mass >= best - 64 * torch.finfo(prob.dtype).eps
    place = torch.where(as_much, prob.view(mass.shape), -1.0).argmax(2)
    return place, mass.gather(2, place[..., None])[..., 0]
