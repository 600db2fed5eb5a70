"""Sampling-argmax on grids: bases of the cells, noise per cell or per axis."""

import math
from collections.abc import Iterable
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import one_hot

from pcsa._core.checks import check_count, check_generator, check_one_of, check_temperature
from pcsa._core.kernel import draw, draw_seed
from pcsa._core.marginals import basis_noise as draw_basis_noise, draw_marginals
from pcsa._core.moments import is_learned, moments
from pcsa._core.points import full_precision, working_dtype
from pcsa.grid.bases import Basis, noise_per_index
from pcsa.grid.frames import Frame, Spacing, affine_of
from pcsa.grid.maps import check_logits, flatten
from pcsa.grid.released import released_index
from pcsa.grid.rings import axis_means, embedded, onto_ring, rings_of, unembedded
from pcsa.sampling import BasisNoise, Form as Form, sampling_argmax as point_sampling_argmax

NoiseAxes = Literal["joint", "marginal"]


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
    spacing: Spacing | None = None,
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
      \varepsilon_i)`, the same numbers that :func:`pcsa.sampling_argmax` gives for the grid's cells;
    * per axis (``noise_axes="marginal"``; the only way for the other two): with :math:`m_a` the sum of
      :math:`\hat\pi` over all cells whose index on that axis is a, :math:`\hat Y = \sum_a m_a (a + \varepsilon_a)`.

    Given :math:`\hat\pi`, the noise along an axis has mean 0 and variance :math:`v \sum_i \hat\pi_i^2` or
    :math:`v \sum_a m_a^2`, with the variance v of the table. On more than one axis, the second is the larger. For the
    Gaussian both are normal, and one number is drawn in place of the sum; a weighted sum of uniform or triangular noise
    is neither uniform nor triangular, and is drawn term by term.

    On a ``periodic`` axis, the first part, :math:`\sum_i \hat\pi_i y_i`, becomes the circular mean of
    :func:`pcsa.grid.soft_argmax`; the noise is added along the axis, and what leaves it at one end comes in at the
    other.

    ``form="released"`` is what the authors' code for images and volumes does, for comparison with its numbers; it is
    not Eq. 11-12. Weights are :math:`\mathrm{softmax}(\ell + g / \tau)`, whose largest entry is distributed as
    :math:`\pi^\tau`. Noise is per axis for every basis. Triangular: marginals are interpolated at the
    jittered positions (zero beyond the ends) and normalized again. On two axes only: Gaussian marginals are multiplied
    by :math:`e^{-2\varepsilon^2}` and normalized again, and the gradient of :math:`\sum_a m_a x_a` to :math:`m_a` is 2
    where :math:`x_a` is not below the sum, else -2, in place of :math:`x_a`. That code works in
    ``frame="released"``.

    Differentiable (once) in ``logits``, and in a ``temperature`` that is a tensor. The memory needed grows with the
    samples' marginals (S times the sum of the axes' lengths), not with S times the number of cells. Computed in float32
    under autocast and from half precision; float64 stays float64.

    Args:
        logits: Raw scores, before softmax, on one, two or three axes (``form="released"``: two or three).
        basis: Shape of a cell's density.
        num_samples: Samples S of every keypoint. Default 1.
        temperature: Divides the perturbed logits (``form="released"``: the noise alone). Smaller is closer to one-hot.
            One that is learned is a 0-d tensor, as for :func:`pcsa.sampling_argmax`.
        noise_axes: ``"joint"`` or ``"marginal"``, see above. Default ``"joint"`` for the Gaussian of the paper,
            ``"marginal"`` for all else.
        basis_noise: ``"relaxed"`` is Eq. 12; ``"mixture"`` draws one number from the basis per sample and axis, which
            Eq. 12 only reaches as the temperature falls to 0.
        form: ``"paper"`` or ``"released"``.
        generator: Source of the seeds; default torch's own. For eager mode.
        frame: Frame of the result, see :mod:`pcsa.grid`. Default ``"index"``, or ``"physical"`` where ``spacing`` is
            given.
        spacing: Units per cell in the frames ``"pixels"`` and ``"physical"``: a number, or one per axis, x first.
        periodic: Names of the axes that close to a ring, such as ``"x"``.
        validate: Check that the logits are finite too; costs one synchronization on an accelerator.

    Returns:
        Samples ``[B, K, S, D]``, in the order x, y, z.

    Raises:
        ValueError: If an argument breaks a rule; the message names the argument, its value and the rule.

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
    shape = check_logits(logits, validate)
    check_temperature(temperature)
    check_sampling(basis, num_samples, noise_axes, basis_noise, form)
    check_generator("generator", generator)
    affine = affine_of(shape, frame, spacing)
    around = rings_of(periodic, shape)
    if form == "released":
        if len(shape) == 1:
            raise ValueError(
                f"`logits` {list(logits.shape)} must have two or three spatial axes for `form` (='released')"
            )
        if any(around) or basis_noise != "relaxed":
            raise ValueError("`form` (='released') must have neither `periodic` axes nor `basis_noise` (='mixture')")

    with full_precision(logits):
        logits = logits.to(working_dtype(logits))
        if basis == "gaussian" and form == "paper" and noise_axes != "marginal":
            index = _joint(logits, shape, around, num_samples, temperature, basis_noise, generator)
        elif form == "paper":
            marginals = draw_axes(logits, num_samples, temperature, generator)
            index = _per_axis(marginals, around, basis, basis_noise, draw_seed(generator))
        else:
            # softmax(l + g / t) is softmax((t l + g) / t).
            off = logits == -math.inf
            noisy = (logits.masked_fill(off, 0.0) * temperature).masked_fill(off, -math.inf)
            marginals = draw_axes(noisy, num_samples, temperature, generator)
            noises = noise_per_index(marginals, basis, draw_seed(generator))
            index = torch.stack(
                [released_index(m, e, basis, len(shape)) for m, e in zip(marginals, noises, strict=True)], -1
            )
        return affine.apply(index)


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
    columns = embedded(shape, around, logits.dtype, logits.device)
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
    if is_learned(temperature):
        raise ValueError(
            "`temperature` that needs a gradient must not be given with `periodic` axes and noise per cell: take "
            "`noise_axes` 'marginal'"
        )
    # The circle's coordinates get no noise; it comes in columns of its own, where all cells lie at 0.
    pos = torch.cat([columns, columns.new_zeros(columns.shape[0], D)], -1)
    variance = torch.cat([torch.zeros_like(columns), columns.new_ones(columns.shape[0], D)], -1)
    # All maps of the batch are keypoints of one cloud, so that the positions are there once.
    K, N = logits.shape[1], len(columns)
    drawn, _, _, _ = draw(
        logits.reshape(B * K, N).t().contiguous(),
        pos,
        variance,
        torch.tensor([0, N], device=logits.device),
        draw_seed(generator, logits.device),
        _on_the_host(temperature),
        num_samples,
        basis_noise == "mixture",
        N,
    )
    drawn = drawn.view(B, K, num_samples, -1)
    mean = unembedded(drawn[..., :-D], shape, around)
    return onto_ring(mean + drawn[..., -D:], shape, around)


def draw_axes(
    logits: Tensor, num_samples: int, temperature: float | Tensor, generator: torch.Generator | None
) -> list[Tensor]:
    """Marginals of the relaxed weights, ``[B, K, S, n]`` for each axis, x first."""
    B, K, *shape = logits.shape
    if is_learned(temperature):
        # Marginals are sums of the weights, as positions are; here the temperature has a gradient.
        cells = torch.stack(torch.meshgrid(*(torch.arange(n, device=logits.device) for n in shape), indexing="ij"))
        columns = [one_hot(index.flatten(), n).to(logits.dtype) for index, n in zip(cells, shape, strict=True)]
        maps = logits.reshape(B * K, -1).t().contiguous()
        still, ptr = torch.zeros_like(maps[:, :1]), torch.tensor([0, len(maps)], device=logits.device)
        seed, tau = draw_seed(generator, logits.device), _on_the_host(temperature)
        drawn = moments(maps, torch.cat(columns[::-1], 1), still, ptr, seed, tau, num_samples, len(maps))[0]
        return list(drawn.view(B, K, num_samples, -1).split(shape[::-1], -1))
    drawn, _, _ = draw_marginals(
        logits.reshape(B * K, -1), shape, draw_seed(generator, logits.device), _on_the_host(temperature), num_samples
    )
    return list(drawn.view(B, K, num_samples, -1).split(shape[::-1], -1))


def _per_axis(
    marginals: list[Tensor], around: list[bool], basis: Basis, basis_noise: BasisNoise, seed: Tensor
) -> Tensor:
    """Eq. 12 with noise per axis, from marginals to index units."""
    if basis_noise == "relaxed" and basis != "gaussian":
        noises = [(m * e).sum(-1) for m, e in zip(marginals, noise_per_index(marginals, basis, seed), strict=True)]
    else:
        one = torch.stack([m.detach()[..., 0] for m in marginals], -1)
        noises = list(draw_basis_noise(one, seed, basis).unbind(-1))
        if basis_noise == "relaxed":
            noises = [e * m.square().sum(-1).sqrt() for m, e in zip(marginals, noises, strict=True)]
    shape = [m.shape[-1] for m in reversed(marginals)]
    return onto_ring(axis_means(marginals, around) + torch.stack(noises, -1), shape, around)


def check_sampling(
    basis: Basis, num_samples: int, noise_axes: NoiseAxes | None, basis_noise: BasisNoise, form: Form
) -> None:
    """Check the options that need no maps."""
    check_count("num_samples", num_samples)
    check_one_of("basis", basis, get_args(Basis))
    check_one_of("basis_noise", basis_noise, get_args(BasisNoise))
    check_one_of("form", form, get_args(Form))
    if noise_axes is not None:
        check_one_of("noise_axes", noise_axes, get_args(NoiseAxes))
    if noise_axes == "joint" and (basis, form) != ("gaussian", "paper"):
        raise ValueError(
            f"`noise_axes` (='joint') must be 'marginal' for `basis` (={basis!r}) and `form` (={form!r}): noise per "
            "cell is for 'gaussian' and 'paper'"
        )


def _on_the_host(temperature: float | Tensor) -> Tensor:
    # Copied: a schedule may step before the backward pass reads it.
    return torch.as_tensor(temperature, dtype=torch.float64).clone()
