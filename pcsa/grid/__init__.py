r"""Heatmaps: soft-argmax and sampling-argmax on grids of one, two or three axes, and the frames of their positions.

A grid is the point set of its cells' centers, and everything for point sets serves it: see :func:`cells` and
:func:`flatten`. Equation numbers are those of `"Localization with Sampling-Argmax"
<https://arxiv.org/abs/2110.08825>`_.

**Order of the axes.** Arrays are indexed ``[B, K, z, y, x]`` (volumes), ``[B, K, y, x]`` (images), ``[B, K, x]``;
``shape`` has the order of the array. Positions, and whatever has one entry per axis of a position (``spacing``), go the
other way: ``(x, y, z)``, ``(x, y)``, ``(x)``.

**Frames.** For cell i of an axis with n cells:

========================  =========================  ==============================================================
frame                     position of its center     what it is
========================  =========================  ==============================================================
``"index"``               i                          cell centers are integers, cells reach from i - 1/2 to i + 1/2
``"normalized"``          (2 i + 1) / n - 1          -1 and 1 are the outer *edges* of the outer cells, as in dsntnn
                                                     and ``grid_sample(align_corners=False)``
``"normalized_corners"``  2 i / (n - 1) - 1          -1 and 1 are the *centers* of the outer cells, as in kornia and
                                                     ``grid_sample(align_corners=True)``; needs n > 1
``"pixels"``              (i + 1/2) s - 1/2          pixels of the network's input, whose centers are integers;
                                                     ``spacing`` s is the stride, input pixels per cell
``"physical"``            i s                        millimeters, say, from the center of the first cell; ``spacing``
                                                     s is the distance of neighboring centers
``"released"``            i / n - 1/2                what the authors' code trains on
========================  =========================  ==============================================================

Two traps. *Half a cell:* ``index * stride`` is not the input pixel of a cell's center but, with stride 4, 1.5 pixels
short of it; likewise ``"released"`` is half a cell short of half of ``"normalized"``, which does no harm as long as
targets and predictions agree. *W or W - 1:* dividing by n is right for edges and dividing by n - 1 for centers. On 64
cells the two differ by 1/64 at the ends, half a cell, and not at all in the middle, so that a mean error hides it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pcsa._core.checks import check_count, check_temperature, raise_first
from pcsa._core.kernel import draw, draw_seed
from pcsa._core.marginals import axis_sums, basis_noise as draw_basis_noise, draw_marginals
from pcsa._core.points import full_precision
from pcsa.sampling import BasisNoise, sampling_argmax as point_sampling_argmax
from pcsa.schedules import TemperatureSchedule

__all__ = [
    "SamplingArgmax",
    "SoftArgmax",
    "cells",
    "flatten",
    "from_index",
    "kernel_soft_argmax",
    "sampling_argmax",
    "soft_argmax",
    "to_index",
]

Basis = Literal["triangular", "uniform", "gaussian"]
NoiseAxes = Literal["joint", "marginal"]
Form = Literal["paper", "released"]
Frame = Literal["index", "normalized", "normalized_corners", "pixels", "physical", "released"]
KernelOn = Literal["probabilities", "scores"]

_AXES = "xyz"


class _Affine(NamedTuple):
    """A frame: position = (scale * index + offset) / divisor along every axis, x first.

    All whole numbers in the normalized frames, so that the outer centers come out as -1 and 1 exactly.
    """

    scale: list[float]
    offset: list[float]
    divisor: list[float]

    @staticmethod
    def unit(num_axes: int) -> _Affine:
        return _Affine([1.0] * num_axes, [0.0] * num_axes, [1.0] * num_axes)


def soft_argmax(
    logits: Float[Tensor, "B K *spatial"],
    *,
    temperature: float | Tensor = 1.0,
    frame: Frame | None = None,
    spacing: float | Sequence[float] | None = None,
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
        frame: Frame of the result, see the module. Default ``"index"``, or ``"physical"`` where ``spacing`` is given.
        spacing: Units per cell in the frames ``"pixels"`` and ``"physical"``: a number, or one per axis, x first.
        periodic: Names of the axes that close to a ring, such as ``"x"``; the index there is from -1/2 to n - 1/2.
        validate: Check that the logits are finite too; costs one synchronization on an accelerator.

    Returns:
        Positions ``[B, K, D]``, in the order x, y, z.

    Raises:
        ValueError: Naming the argument, its value and the rule.

    Example:
        >>> logits = torch.full((1, 1, 2, 4), -1000.0)  # two rows of four cells
        >>> logits[0, 0, 1, 2:] = 0.0  # the last two cells of the second row
        >>> soft_argmax(logits)
        tensor([[[2.5000, 1.0000]]])
        >>> soft_argmax(logits, frame="pixels", spacing=4)
        tensor([[[11.5000,  5.5000]]])
    """
    shape = _check_logits(logits, validate)
    check_temperature(temperature)
    affine = _affine(shape, frame, spacing)
    around = _check_periodic(periodic, shape)
    with full_precision(logits):
        flat = logits.to(_working(logits)).flatten(2)
        # Less their maximum, so that a small temperature cannot overflow large logits.
        tempered = (flat - flat.detach().amax(2, keepdim=True)) / temperature
        prob = tempered.softmax(2).unflatten(2, shape)
        return _apply(_means(axis_sums(prob), around), affine)


def sampling_argmax(
    logits: Float[Tensor, "B K *spatial"],
    basis: Basis = "triangular",
    *,
    num_samples: int = 1,
    temperature: float | Tensor = 1.0,
    noise_axes: NoiseAxes | None = None,
    basis_noise: BasisNoise = "relaxed",
    form: Form = "paper",
    generator: torch.Generator | None = None,
    frame: Frame | None = None,
    spacing: float | Sequence[float] | None = None,
    periodic: Iterable[str] = (),
    validate: bool = True,
) -> Float[Tensor, "B K S D"]:
    r"""Differentiable samples from each keypoint's map (Eq. 11-12).

    One Gumbel draw over all cells of the map gives the relaxed weights :math:`\hat\pi`. A cell's basis is as wide as
    the cell (c = 1 in index units, the spacing in the frame's), along every axis:

    ================  ==============================  ========================  ========
    ``basis``         density of the noise, c = 1     support                   variance
    ================  ==============================  ========================  ========
    ``"uniform"``     1 (Eq. 7)                       -1/2 to 1/2               1/12
    ``"triangular"``  1 - abs(e) (Eq. 8)              -1 to 1                   1/6
    ``"gaussian"``    standard normal (Eq. 9)         everywhere                1
    ================  ==============================  ========================  ========

    The noise is drawn

    * per cell (``noise_axes="joint"``; the Gaussian basis, by default): :math:`\hat Y = \sum_i \hat\pi_i (y_i +
      \varepsilon_i)` exactly as :func:`pcsa.sampling_argmax` has it for the grid's cells, to the same numbers;
    * per axis (``noise_axes="marginal"``; the only way for the other two): with :math:`m_a` the sum of
      :math:`\hat\pi` over all cells whose index on that axis is a, :math:`\hat Y = \sum_a m_a (a + \varepsilon_a)`.

    Given :math:`\hat\pi`, the noise along an axis has mean 0 and variance :math:`v \sum_i \hat\pi_i^2` or
    :math:`v \sum_a m_a^2`, with v of the table. The second is the larger, beyond one axis. For the Gaussian both are
    normal, and one number is drawn in place of the sum; a weighted sum of uniform or triangular noise is neither
    uniform nor triangular, and is drawn term by term.

    On a ``periodic`` axis, the first part, :math:`\sum_i \hat\pi_i y_i`, becomes the circular mean of
    :func:`soft_argmax`; the noise is added along the axis, and what leaves it at one end comes in at the other.

    ``form="released"`` is what the authors' code for images and volumes does, for comparison with its numbers; it isn't
    Eq. 11-12. Weights are :math:`\mathrm{softmax}(\ell + g / \tau)`, whose largest entry is distributed as
    :math:`\pi^\tau`. Noise is per axis for every basis. Triangular: marginals are interpolated at the
    jittered positions (zero beyond the ends) and normalized again. On two axes only: Gaussian marginals are multiplied
    by :math:`e^{-2\varepsilon^2}` and normalized again, and the gradient of :math:`\sum_a m_a x_a` to :math:`m_a` is 2
    where :math:`x_a` is not below the sum, else -2, in place of :math:`x_a`. That code works in
    ``frame="released"``.

    Differentiable (once) in ``logits``. The memory needed grows with the samples' marginals (S times the sum of the
    axes' lengths), not with S times the number of cells. Computed in float32 under autocast and from half precision;
    float64 stays float64.

    Args:
        logits: Raw scores, before softmax, on one, two or three axes (``form="released"``: two or three).
        basis: Shape of a cell's density.
        num_samples: Samples S of every keypoint. Default 1.
        temperature: Divides the perturbed logits (``form="released"``: the noise alone). Smaller is closer to one-hot.
        noise_axes: ``"joint"`` or ``"marginal"``, see above. Default ``"joint"`` for the Gaussian of the paper,
            ``"marginal"`` for all else.
        basis_noise: ``"relaxed"`` is Eq. 12; ``"mixture"`` draws one number from the basis per sample and axis, which
            Eq. 12 only reaches as the temperature falls to 0.
        form: ``"paper"`` or ``"released"``.
        generator: Source of the seeds; default torch's own. For eager mode.
        frame: Frame of the result, see the module. Default ``"index"``, or ``"physical"`` where ``spacing`` is given.
        spacing: Units per cell in the frames ``"pixels"`` and ``"physical"``: a number, or one per axis, x first.
        periodic: Names of the axes that close to a ring, such as ``"x"``.
        validate: Check that the logits are finite too; costs one synchronization on an accelerator.

    Returns:
        Samples ``[B, K, S, D]``, in the order x, y, z.

    Raises:
        ValueError: Naming the argument, its value and the rule.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> logits = torch.full((1, 1, 2, 4), -100.0)  # two rows of four cells
        >>> logits[0, 0, 1, 2:] = 0.0  # the last two cells of the second row
        >>> samples = sampling_argmax(logits, num_samples=10_000, temperature=0.1)
        >>> samples.mean(2).round(decimals=1)
        tensor([[[2.5000, 1.0000]]])
        >>> (samples.amin(2) > torch.tensor([1.0, 0.0])).all() and (samples.amax(2) < torch.tensor([4.0, 2.0])).all()
        tensor(True)
    """
    shape = _check_logits(logits, validate)
    check_temperature(temperature)
    _check_sampling(basis, num_samples, noise_axes, basis_noise, form)
    affine = _affine(shape, frame, spacing)
    around = _check_periodic(periodic, shape)
    joint_is_possible = basis == "gaussian" and form == "paper"
    if form == "released":
        if len(shape) == 1:
            raise ValueError(
                f"`logits` {list(logits.shape)} must have two or three spatial axes for `form` (='released')"
            )
        if any(around) or basis_noise != "relaxed":
            raise ValueError("`form` (='released') must have neither `periodic` axes nor `basis_noise` (='mixture')")

    with full_precision(logits):
        logits = logits.to(_working(logits))
        if joint_is_possible and noise_axes != "marginal":
            index = _joint(logits, shape, around, num_samples, temperature, basis_noise, generator)
        elif form == "paper":
            marginals = _marginals(logits, num_samples, temperature, generator)
            index = _per_axis(marginals, around, basis, basis_noise, draw_seed(generator))
        else:
            # softmax(l + g / t) is softmax((t l + g) / t).
            marginals = _marginals(logits * temperature, num_samples, temperature, generator)
            noises = _noises(marginals, basis, draw_seed(generator))
            index = torch.stack(
                [_released(m, e, basis, len(shape)) for m, e in zip(marginals, noises, strict=True)], -1
            )
        return _apply(index, affine)


def kernel_soft_argmax(
    logits: Float[Tensor, "B K *spatial"],
    sigma: float,
    *,
    on: KernelOn = "probabilities",
    temperature: float | Tensor = 1.0,
    frame: Frame | None = None,
    spacing: float | Sequence[float] | None = None,
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
        ValueError: Naming the argument, its value and the rule.

    Example:
        >>> logits = torch.tensor([[[5.0, -99.0, -99.0, -99.0, -99.0, 4.9, 4.9]]])  # peak at 0, a broader one at 5 to 6
        >>> soft_argmax(logits).round(decimals=2), kernel_soft_argmax(logits, sigma=1.0).round(decimals=2)
        (tensor([[[3.5400]]]), tensor([[[0.]]]))
    """
    shape = _check_logits(logits, validate)
    check_temperature(temperature)
    _check_choice("on", on, KernelOn)
    if isinstance(sigma, bool) or not isinstance(sigma, (int, float)) or not 0 < sigma < math.inf:
        raise ValueError(f"`sigma` (={sigma!r}) must be a number, positive and finite")
    around = _check_periodic(periodic, shape)
    _affine(shape, frame, spacing)
    with full_precision(logits):
        logits = logits.to(_working(logits))
        pos = cells(shape, dtype=logits.dtype, device=logits.device)
        peak = pos[logits.flatten(2).argmax(-1)]
        away = peak.unsqueeze(2) - pos
        axes = zip(away.unbind(-1), shape[::-1], around, strict=True)
        away = torch.stack([_wrapped(a, n) if ring else a for a, n, ring in axes])
        exponent = (away / sigma).square().sum(0).view_as(logits) / 2
        scores = logits * (-exponent).exp() if on == "scores" else logits - exponent * temperature
    return soft_argmax(
        scores, temperature=temperature, frame=frame, spacing=spacing, periodic=_names(around), validate=False
    )


def cells(
    shape: Sequence[int],
    *,
    frame: Frame | None = None,
    spacing: float | Sequence[float] | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Float[Tensor, "N D"]:
    """Positions of a grid's cell centers, in the order in which :func:`flatten` has the cells.

    With both, whatever is for point sets is for grids: the losses, metrics and read-outs.

    Args:
        shape: Sizes of the spatial axes, in the order of the array: ``(z, y, x)``, ``(y, x)`` or ``(x,)``.
        frame: Frame of the positions, see the module.
        spacing: Units per cell, see :func:`from_index`.
        dtype: Floating point type; default torch's.
        device: Default torch's.

    Returns:
        Positions ``[N, D]``, in the order x, y, z. For a batch, ``.expand(B, -1, -1)`` costs no memory.

    Raises:
        ValueError: Naming the argument, its value and the rule.

    Example:
        >>> cells((2, 3))
        tensor([[0., 0.],
                [1., 0.],
                [2., 0.],
                [0., 1.],
                [1., 1.],
                [2., 1.]])
        >>> from pcsa.losses import variance_regularization
        >>> variance_regularization(
        ...     flatten(torch.zeros(1, 1, 2, 3)), cells((2, 3)).expand(1, -1, -1), target_variance=0.25
        ... )  # the variances are 2/3 along x and 1/4 along y: (2/3 - 1/4)^2
        tensor(0.1736)
    """
    affine = _affine(shape, frame, spacing)
    dtype = dtype or torch.get_default_dtype()
    along = [torch.arange(n, dtype=dtype, device=device) for n in shape]
    index = torch.stack(torch.meshgrid(*along, indexing="ij")[::-1], -1).view(-1, len(along))
    return _apply(index, affine)


def flatten(logits: Float[Tensor, "B K *spatial"]) -> Float[Tensor, "B N K"]:
    """Maps as the dense logits of a point set, cells in the order of :func:`cells`; a view of contiguous maps.

    Args:
        logits: Raw scores on one, two or three axes.

    Returns:
        Logits ``[B, N, K]`` with N cells.

    Raises:
        ValueError: Naming the argument, its value and the rule.

    Example:
        >>> flatten(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]]]))
        tensor([[[1., 5.],
                 [2., 6.],
                 [3., 7.],
                 [4., 8.]]])
    """
    _check_logits(logits, validate=False)
    return logits.flatten(2).transpose(1, 2)


def from_index(
    index: Float[Tensor, "*batch D"],
    shape: Sequence[int],
    *,
    frame: Frame | None = None,
    spacing: float | Sequence[float] | None = None,
) -> Float[Tensor, "*batch D"]:
    """Positions in a frame from positions in index units; the inverse of :func:`to_index`. Differentiable.

    Args:
        index: Positions in index units, x first. Cell centers are integers.
        shape: Sizes of the spatial axes, in the order of the array: ``(z, y, x)``, ``(y, x)`` or ``(x,)``.
        frame: The other frame, see the module. Default ``"index"``, or ``"physical"`` where ``spacing`` is given.
        spacing: Units per cell in the frames ``"pixels"`` and ``"physical"``: a number, or one per axis, x first.

    Returns:
        Positions in ``frame``, x first.

    Raises:
        ValueError: Naming the argument, its value and the rule.

    Example:
        >>> corner = torch.tensor([63.0, 47.0])  # the last cell of 48 rows of 64
        >>> from_index(corner, (48, 64), frame="normalized"), from_index(corner, (48, 64), frame="normalized_corners")
        (tensor([0.9844, 0.9792]), tensor([1., 1.]))
        >>> from_index(corner, (48, 64), frame="pixels", spacing=4)  # of 256 x 192 pixels
        tensor([253.5000, 189.5000])
    """
    _check_positions("index", index, shape)
    return _apply(index, _affine(shape, frame, spacing))


def to_index(
    position: Float[Tensor, "*batch D"],
    shape: Sequence[int],
    *,
    frame: Frame | None = None,
    spacing: float | Sequence[float] | None = None,
) -> Float[Tensor, "*batch D"]:
    """Positions in index units from positions in a frame; the inverse of :func:`from_index`. Differentiable.

    Args:
        position: Positions in ``frame``, x first.
        shape: As in :func:`from_index`.
        frame: As in :func:`from_index`.
        spacing: As in :func:`from_index`.

    Returns:
        Positions in index units, x first.

    Raises:
        ValueError: Naming the argument, its value and the rule.

    Example:
        >>> to_index(torch.tensor([-1.0, 1.0]), (48, 64), frame="normalized")  # the outer edges
        tensor([-0.5000, 47.5000])
    """
    _check_positions("position", position, shape)
    axes = zip(position.to(_working(position)).unbind(-1), *_affine(shape, frame, spacing), strict=True)
    # Axis by axis with Python's numbers: a tensor of them would be copied to the device in every step.
    return torch.stack([(x * divisor - offset) / scale for x, scale, offset, divisor in axes], -1)


class SoftArgmax(nn.Module):
    """See :func:`pcsa.grid.soft_argmax`.

    Args:
        temperature: Divides the logits.
        frame: Frame of the result.
        spacing: Units per cell in the frames ``"pixels"`` and ``"physical"``.
        periodic: Names of the axes that close to a ring.
    """

    def __init__(
        self,
        temperature: float = 1.0,
        *,
        frame: Frame | None = None,
        spacing: float | Sequence[float] | None = None,
        periodic: Iterable[str] = (),
    ) -> None:
        super().__init__()
        check_temperature(temperature)
        self.temperature = temperature
        self.frame, self.spacing, self.periodic = _checked_frame(frame, spacing, periodic)

    def forward(self, logits: Tensor, *, validate: bool = True) -> Tensor:
        """Positions ``[B, K, D]``."""
        return soft_argmax(
            logits,
            temperature=self.temperature,
            frame=self.frame,
            spacing=self.spacing,
            periodic=self.periodic,
            validate=validate,
        )

    def extra_repr(self) -> str:
        return f"temperature={self.temperature}{_frame_repr(self.frame, self.spacing, self.periodic)}"


class SamplingArgmax(nn.Module):
    """Samples while training, the expectation while testing; see :func:`pcsa.grid.sampling_argmax`.

    Args:
        basis: Shape of a cell's density.
        num_samples: Samples of every keypoint while training.
        temperature: A number, or a schedule that the training loop steps (``module.temperature.step()``). Its
            progress is part of this module's ``state_dict``. The expectation is taken at temperature 1.
        noise_axes: See :func:`pcsa.grid.sampling_argmax`.
        basis_noise: See :func:`pcsa.grid.sampling_argmax`.
        form: See :func:`pcsa.grid.sampling_argmax`.
        frame: Frame of the result.
        spacing: Units per cell in the frames ``"pixels"`` and ``"physical"``.
        periodic: Names of the axes that close to a ring.

    Example:
        >>> module = SamplingArgmax(num_samples=30, frame="pixels", spacing=4)
        >>> logits = torch.zeros(2, 17, 64, 48)
        >>> module(logits).shape, module.eval()(logits).shape
        (torch.Size([2, 17, 30, 2]), torch.Size([2, 17, 2]))
    """

    def __init__(
        self,
        basis: Basis = "triangular",
        num_samples: int = 1,
        temperature: float | TemperatureSchedule = 1.0,
        *,
        noise_axes: NoiseAxes | None = None,
        basis_noise: BasisNoise = "relaxed",
        form: Form = "paper",
        frame: Frame | None = None,
        spacing: float | Sequence[float] | None = None,
        periodic: Iterable[str] = (),
    ) -> None:
        super().__init__()
        _check_sampling(basis, num_samples, noise_axes, basis_noise, form)
        self.basis: Basis = basis
        self.num_samples = num_samples
        self.temperature = (
            temperature if isinstance(temperature, TemperatureSchedule) else TemperatureSchedule(start=temperature)
        )
        self.noise_axes: NoiseAxes | None = noise_axes
        self.basis_noise: BasisNoise = basis_noise
        self.form: Form = form
        self.frame, self.spacing, self.periodic = _checked_frame(frame, spacing, periodic)

    def forward(self, logits: Tensor, *, generator: torch.Generator | None = None, validate: bool = True) -> Tensor:
        """Samples ``[B, K, S, D]`` in train mode, positions ``[B, K, D]`` in eval mode."""
        if not self.training:
            return soft_argmax(
                logits, frame=self.frame, spacing=self.spacing, periodic=self.periodic, validate=validate
            )
        return sampling_argmax(
            logits,
            self.basis,
            num_samples=self.num_samples,
            temperature=self.temperature.tensor,
            noise_axes=self.noise_axes,
            basis_noise=self.basis_noise,
            form=self.form,
            generator=generator,
            frame=self.frame,
            spacing=self.spacing,
            periodic=self.periodic,
            validate=validate,
        )

    def get_extra_state(self) -> dict[str, Any]:
        return self.temperature.state_dict()

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.temperature.load_state_dict(state)

    def extra_repr(self) -> str:
        return (
            f"basis={self.basis!r}, num_samples={self.num_samples}, temperature={self.temperature}, "
            f"basis_noise={self.basis_noise!r}, form={self.form!r}"
            f"{_frame_repr(self.frame, self.spacing, self.periodic)}"
        )


def _checked_frame(
    frame: Frame | None, spacing: float | Sequence[float] | None, periodic: Iterable[str]
) -> tuple[Frame | None, float | Sequence[float] | None, tuple[str, ...]]:
    """What a module keeps of these, checked as far as that goes without the number of axes."""
    axes = len(spacing) if isinstance(spacing, Sequence) and not isinstance(spacing, str) else 3
    # Two cells along every axis do for every frame.
    _affine([2] * axes, frame, spacing)
    periodic = tuple(periodic)
    _check_periodic(periodic, (2,) * 3)
    return frame, spacing, periodic


def _frame_repr(frame: Frame | None, spacing: float | Sequence[float] | None, periodic: tuple[str, ...]) -> str:
    given = {"frame": frame, "spacing": spacing, "periodic": periodic or None}
    return "".join(f", {name}={value!r}" for name, value in given.items() if value is not None)


def _joint(
    logits: Tensor,
    shape: tuple[int, ...],
    around: list[bool],
    num_samples: int,
    temperature: float | Tensor,
    basis_noise: BasisNoise,
    generator: torch.Generator | None,
) -> Tensor:
    """Gaussian noise per cell: the point set of the cells, in index units, where every bandwidth is 1."""
    B, D = logits.shape[0], len(shape)
    columns = _embedded(shape, around, logits.dtype, logits.device)
    if not any(around):
        return point_sampling_argmax(
            flatten(logits),
            columns.expand(B, -1, -1),
            1.0,
            num_samples=num_samples,
            temperature=temperature,
            basis_noise=basis_noise,
            generator=generator,
            validate=False,
        )
    # The circle's coordinates get no noise; it comes in columns of its own, where all cells lie at 0.
    pos = torch.cat([columns, columns.new_zeros(columns.shape[0], D)], -1)
    variance = torch.cat([torch.zeros_like(columns), columns.new_ones(columns.shape[0], D)], -1)
    drawn = _draw_on_cells(logits, pos, variance, num_samples, temperature, generator, basis_noise == "mixture")
    mean = _unembedded(drawn[..., :-D], shape, around)
    return _onto_ring(mean + drawn[..., -D:], shape, around)


def _marginals(
    logits: Tensor, num_samples: int, temperature: float | Tensor, generator: torch.Generator | None
) -> list[Tensor]:
    """Marginals of the relaxed weights, ``[B, K, S, n]`` for each axis, x first."""
    B, K, *shape = logits.shape
    drawn, _ = draw_marginals(
        logits.reshape(B * K, -1), shape, draw_seed(generator), _on_the_host(temperature), num_samples
    )
    return list(drawn.view(B, K, num_samples, -1).split(shape[::-1], -1))


def _draw_on_cells(
    logits: Tensor,
    pos: Tensor,
    variance: Tensor,
    num_samples: int,
    temperature: float | Tensor,
    generator: torch.Generator | None,
    mixture: bool = False,
) -> Tensor:
    """What the kernel draws, ``[B, K, S, columns]``, at positions that all maps share.

    All maps of the batch are keypoints of one cloud, so that ``pos`` is there once.
    """
    B, K = logits.shape[:2]
    N = pos.shape[0]
    samples, _, _ = draw(
        logits.reshape(B * K, N).t().contiguous(),
        pos,
        variance,
        torch.tensor([0, N], device=logits.device),
        draw_seed(generator),
        _on_the_host(temperature),
        num_samples,
        mixture,
        N,
    )
    return samples.view(B, K, num_samples, -1)


def _noises(marginals: list[Tensor], basis: Basis, seed: Tensor) -> list[Tensor]:
    """A number from the basis for every index of every axis."""
    sizes = [m.shape[-1] for m in marginals]
    like = torch.cat([m.detach() for m in marginals], -1)
    return list(draw_basis_noise(like, seed, basis).split(sizes, -1))


def _per_axis(
    marginals: list[Tensor], around: list[bool], basis: Basis, basis_noise: BasisNoise, seed: Tensor
) -> Tensor:
    """Eq. 12 with noise per axis, from marginals to index units."""
    term_by_term = basis_noise == "relaxed" and basis != "gaussian"
    if term_by_term:
        noises = [(m * e).sum(-1) for m, e in zip(marginals, _noises(marginals, basis, seed), strict=True)]
    else:
        one = torch.stack([m.detach()[..., 0] for m in marginals], -1)
        noises = list(draw_basis_noise(one, seed, basis).unbind(-1))
        if basis_noise == "relaxed":
            noises = [e * m.square().sum(-1).sqrt() for m, e in zip(marginals, noises, strict=True)]
    shape = [m.shape[-1] for m in reversed(marginals)]
    return _onto_ring(_means(marginals, around) + torch.stack(noises, -1), shape, around)


def _means(marginals: list[Tensor], around: list[bool]) -> Tensor:
    """Mean of every axis's marginal ``[..., n]`` in index units, ``[..., D]``, x first."""
    out = []
    for m, ring in zip(marginals, around, strict=True):
        shape = m.shape[-1:]
        # Not a matrix product, whose backward pass would be in half precision inside an autocast region.
        columns = _embedded(shape, [ring], m.dtype, m.device).unbind(-1)
        out.append(_unembedded(torch.stack([(m * column).sum(-1) for column in columns], -1), shape, [ring]))
    return torch.cat(out, -1)


def _released(marginal: Tensor, noise: Tensor, basis: Basis, num_axes: int) -> Tensor:
    """One axis of the authors' form: marginal and noise ``[..., n]`` to index ``[...]``."""
    n = marginal.shape[-1]
    where = torch.arange(n, dtype=marginal.dtype, device=marginal.device) + noise
    if basis == "triangular":
        padded = torch.nn.functional.pad(marginal, (1, 1))
        left = where.floor().clamp(-1, n - 1)
        low = padded.gather(-1, left.long() + 1)
        marginal = low + (padded.gather(-1, left.long() + 2) - low) * (where - left)
    elif basis == "gaussian" and num_axes == 2:
        marginal = marginal * (-2 * noise.square()).exp()
    if basis == "triangular" or (basis == "gaussian" and num_axes == 2):
        marginal = marginal / marginal.sum(-1, keepdim=True).clamp_min(torch.finfo(marginal.dtype).tiny)
    index = (marginal * where).sum(-1)
    if num_axes == 2:
        index = index.detach()
        sign = torch.where(where < index.unsqueeze(-1), -2.0, 2.0)
        # Adds nothing, and has the gradient wanted.
        index = index + (sign * (marginal - marginal.detach())).sum(-1)
    return index


def _embedded(shape: Sequence[int], around: list[bool], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Cells in coordinates whose expectation means something: an index, or cosine and sine on a ring."""
    columns: list[Tensor] = []
    for index, n, ring in zip(cells(shape, dtype=dtype, device=device).unbind(-1), shape[::-1], around, strict=True):
        if ring:
            angle = index * (2 * math.pi / n)
            columns += [angle.cos(), angle.sin()]
        else:
            columns.append(index)
    return torch.stack(columns, -1)


def _unembedded(mean: Tensor, shape: Sequence[int], around: list[bool]) -> Tensor:
    """Index units from expectations of the columns of :func:`_embedded`."""
    columns, out = iter(mean.unbind(-1)), []
    for n, ring in zip(shape[::-1], around, strict=True):
        if not ring:
            out.append(next(columns))
            continue
        cos, sin = next(columns), next(columns)
        # Rounding alone would give a flat map some direction, and a gradient of 1 / rounding.
        known = cos.square() + sin.square() > (8 * torch.finfo(mean.dtype).eps) ** 2
        angle = torch.atan2(torch.where(known, sin, 0.0), torch.where(known, cos, 1.0))
        out.append(_from_minus_half(angle * (n / (2 * math.pi)), n))
    return torch.stack(out, -1)


def _onto_ring(index: Tensor, shape: Sequence[int], around: list[bool]) -> Tensor:
    """Brings what left a periodic axis back at its other end."""
    if not any(around):
        return index
    axes = zip(index.unbind(-1), shape[::-1], around, strict=True)
    return torch.stack([_from_minus_half(x, n) if ring else x for x, n, ring in axes], -1)


def _from_minus_half(index: Tensor, n: int) -> Tensor:
    return torch.remainder(index + 0.5, n) - 0.5


def _wrapped(difference: Tensor, n: int) -> Tensor:
    """The shorter way round."""
    return torch.remainder(difference + n / 2, n) - n / 2


def _apply(index: Tensor, affine: _Affine) -> Tensor:
    if affine == _Affine.unit(index.shape[-1]):
        return index
    axes = zip(index.to(_working(index)).unbind(-1), *affine, strict=True)
    return torch.stack([(scale * x + offset) / divisor for x, scale, offset, divisor in axes], -1)


def _affine(shape: Sequence[int], frame: Frame | None, spacing: float | Sequence[float] | None) -> _Affine:
    if not 1 <= len(shape) <= 3:
        raise ValueError(f"`shape` (={tuple(shape)}) must have one, two or three axes")
    for n in shape:
        check_count("shape", n)
    if frame is None:
        frame = "index" if spacing is None else "physical"
    _check_choice("frame", frame, Frame)
    sizes = list(shape)[::-1]
    if (spacing is not None) != (frame in ("pixels", "physical")):
        raise ValueError(
            f"`spacing` (={spacing}) must be given for `frame` 'pixels' or 'physical', and for no other; "
            f"`frame` is {frame!r}"
        )
    if spacing is not None:
        steps = _spacings(spacing, len(sizes))
        return _Affine(steps, [(s - 1) / 2 if frame == "pixels" else 0.0 for s in steps], [1.0] * len(sizes))
    twos = [2.0] * len(sizes)
    if frame == "normalized":
        return _Affine(twos, [1.0 - n for n in sizes], [float(n) for n in sizes])
    if frame == "normalized_corners":
        if min(sizes) < 2:
            raise ValueError(
                f"`frame` (='normalized_corners') must have `shape` (={tuple(shape)}) of at least 2 cells along every "
                "axis: -1 and 1 are the centers of the outer ones"
            )
        return _Affine(twos, [1.0 - n for n in sizes], [n - 1.0 for n in sizes])
    if frame == "released":
        return _Affine(twos, [-float(n) for n in sizes], [2.0 * n for n in sizes])
    return _Affine.unit(len(sizes))


def _spacings(spacing: float | Sequence[float], num_axes: int) -> list[float]:
    values = list(spacing) if isinstance(spacing, Sequence) and not isinstance(spacing, str) else [spacing] * num_axes
    if len(values) != num_axes:
        raise ValueError(f"`spacing` (={spacing!r}) must be a number, or one for each of {num_axes} axes, x first")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
            raise ValueError(f"`spacing` (={spacing!r}) must be positive and finite along every axis")
    return [float(value) for value in values]


def _check_logits(logits: Tensor, validate: bool) -> tuple[int, ...]:
    """The sizes of the spatial axes."""
    if not isinstance(logits, Tensor):
        raise ValueError(f"`logits` ({type(logits).__name__}) must be a tensor")
    if not 3 <= logits.dim() <= 5:
        raise ValueError(
            f"`logits` {list(logits.shape)} must be [B, K, x], [B, K, y, x] or [B, K, z, y, x]: one, two or three "
            "spatial axes"
        )
    if not logits.is_floating_point():
        raise ValueError(f"`logits` ({logits.dtype}) must be floating point")
    if 0 in logits.shape:
        raise ValueError(f"`logits` {list(logits.shape)} must have no axis of size 0")
    if validate and not torch.compiler.is_compiling():
        raise_first([(logits.isfinite().all(), "`logits` must be finite: NaN or infinite values found")])
    return tuple(logits.shape[2:])


def _check_sampling(
    basis: Basis, num_samples: int, noise_axes: NoiseAxes | None, basis_noise: BasisNoise, form: Form
) -> None:
    """What can be said before there are maps."""
    check_count("num_samples", num_samples)
    for name, value, known in (
        ("basis", basis, Basis),
        ("basis_noise", basis_noise, BasisNoise),
        ("form", form, Form),
        ("noise_axes", noise_axes, NoiseAxes),
    ):
        if name != "noise_axes" or value is not None:
            _check_choice(name, value, known)
    if noise_axes == "joint" and (basis, form) != ("gaussian", "paper"):
        raise ValueError(
            f"`noise_axes` (='joint') must be 'marginal' for `basis` (={basis!r}) and `form` (={form!r}): noise per "
            "cell is for 'gaussian' and 'paper'"
        )


def _check_positions(name: str, value: Tensor, shape: Sequence[int]) -> None:
    if not isinstance(value, Tensor) or not value.is_floating_point():
        raise ValueError(f"`{name}` ({getattr(value, 'dtype', type(value).__name__)}) must be a floating point tensor")
    if value.dim() == 0 or value.shape[-1] != len(shape):
        raise ValueError(f"`{name}` {list(value.shape)} must end in the {len(shape)} axes of `shape` (={tuple(shape)})")


def _check_choice(name: str, value: object, known: object) -> None:
    choices = get_args(known)
    if value not in choices:
        raise ValueError(f"`{name}` (={value!r}) must be one of {', '.join(map(repr, choices))}")


def _check_periodic(periodic: Iterable[str], shape: tuple[int, ...]) -> list[bool]:
    names = list(periodic)
    for name in names:
        if name not in tuple(_AXES[: len(shape)]):
            raise ValueError(f"`periodic` (={periodic!r}) must name axes out of {', '.join(_AXES[: len(shape)])}")
    return [axis in names for axis in _AXES[: len(shape)]]


def _on_the_host(temperature: float | Tensor) -> Tensor:
    # Copied: a schedule may step before the backward pass reads it.
    return torch.as_tensor(temperature, dtype=torch.float64).clone()


def _names(around: list[bool]) -> list[str]:
    return [axis for axis, ring in zip(_AXES, around, strict=False) if ring]


def _working(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)
