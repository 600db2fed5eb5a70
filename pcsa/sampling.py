"""Sampling-argmax and soft-argmax on point sets."""

from typing import Any, Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from pcsa._core.checks import check_count, check_one_of, check_temperature
from pcsa._core.estimators import Estimator as Estimator, mixture_samples
from pcsa._core.kernel import draw_seed
from pcsa._core.moments import covariance_samples
from pcsa._core.points import bandwidth_of, canonical, cloud_mean, cloud_softmax, full_precision, tempered
from pcsa._core.samples import sample
from pcsa.schedules import ScheduledTemperature, TemperatureSchedule

BasisNoise = Literal["relaxed", "mixture"]
# Looked up here: the compiler of torch before 2.7 does not follow `get_args`.
_BASIS_NOISES, _ESTIMATORS = get_args(BasisNoise), get_args(Estimator)


def soft_argmax(
    logits: Float[Tensor, "*N K"],
    pos: Float[Tensor, "*N D"],
    batch: Int[Tensor, " N"] | None = None,
    *,
    ptr: Int[Tensor, " B_plus_1"] | None = None,
    temperature: float | Tensor = 1.0,
    mask: Bool[Tensor, "B N"] | None = None,
    batch_size: int | None = None,
    validate: bool = True,
) -> Float[Tensor, "B K D"]:
    r"""Expectation of each keypoint's position over the points of its cloud.

    .. math:: \hat y_k = \sum_i \pi_{ik} y_i, \qquad \pi_k = \mathrm{softmax}(\ell_k / \tau)

    This is the read-out of a trained map in `"Localization with Sampling-Argmax"
    <https://arxiv.org/abs/2110.08825>`_, Eq. 1, and the prediction of soft-argmax training (Eq. 2).

    Differentiable in ``logits`` and ``pos``. Computed in float32 under autocast and from half precision; float64
    stays float64. Far from the origin, positions are summed less the middle of their cloud: they and their gradients
    keep what float32 of ``pos`` itself holds.

    Args:
        logits: Raw scores, before softmax: ragged ``[N, K]`` or dense ``[B, N, K]``.
        pos: Positions in any unit and frame: ``[N, D]`` or ``[B, N, D]``, D at least 1.
        batch: Cloud of each point, sorted, for ragged input; without ``batch`` and ``ptr`` there is one cloud.
        ptr: Where each cloud begins, then N; instead of ``batch``.
        temperature: Divides the logits. Default 1.
        mask: True at the points of dense input that exist.
        batch_size: Number of clouds. Given with ``batch``, no value is read from the device to find it, and empty
            clouds at the end are seen.
        validate: Check values (finite, sorted, no empty cloud) too; costs one synchronization on an accelerator.
            Without it, a score of −inf is a point without probability; a map of −inf alone and a cloud without points
            have no position and give NaN, there and in the gradients of their cloud; all others are right.

    Returns:
        Positions ``[B, K, D]`` in the units and frame of ``pos``.

    Raises:
        ValueError: Naming the argument, its value and the rule.

    Example:
        >>> pos = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
        >>> soft_argmax(torch.tensor([[0.0], [0.0], [-1000.0]]), pos)
        tensor([[[0.5000, 0.0000]]])
    """
    check_temperature(temperature)
    points = canonical(
        logits, pos, None, batch, ptr=ptr, mask=mask, batch_size=batch_size, validate=validate, near=True
    )
    with full_precision(logits):
        prob = cloud_softmax(tempered(points, temperature), points)
        return points.outside(cloud_mean(prob, points.pos, points))


def sampling_argmax(
    logits: Float[Tensor, "*N K"],
    pos: Float[Tensor, "*N D"],
    bandwidth: float | Float[Tensor, ""] | Float[Tensor, "*N"] | Float[Tensor, "*N D"] | Float[Tensor, "*N D D"],
    batch: Int[Tensor, " N"] | None = None,
    *,
    ptr: Int[Tensor, " B_plus_1"] | None = None,
    num_samples: int = 1,
    temperature: float | Tensor = 1.0,
    basis_noise: BasisNoise = "relaxed",
    estimator: Estimator = "relaxed",
    generator: torch.Generator | None = None,
    mask: Bool[Tensor, "B N"] | None = None,
    batch_size: int | None = None,
    validate: bool = True,
) -> Float[Tensor, "B K S D"]:
    r"""Differentiable samples from each keypoint's probability map.

    A point is chosen by Gumbel-softmax, and moved by the Gaussian basis of the chosen point
    (`"Localization with Sampling-Argmax" <https://arxiv.org/abs/2110.08825>`_, Eq. 11-12):

    .. math::
        \hat\pi = \mathrm{softmax}((\log\pi + g)/\tau), \qquad
        \hat Y = \sum_i \hat\pi_i (y_i + \sigma_i \varepsilon_i)

    Given :math:`\hat\pi`, the noise :math:`\sum_i \hat\pi_i \sigma_i \varepsilon_i` is exactly Gaussian with variance
    :math:`\sum_i \hat\pi_i^2 \sigma_i^2`, so one vector is drawn per sample instead of one per point: the same
    distribution, with gradients that are unbiased and never of more variance (Rao-Blackwell). In the same way the noise
    of bases with covariances :math:`C_i` is :math:`\mathcal N(0, \sum_i \hat\pi_i^2 C_i)`.

    A relaxed sample is contracted: the further the temperature is from 0, the closer it is to the expectation.

    The other estimators draw from the mixture itself, :math:`\hat Y = y_c + \sigma_c \varepsilon` with the point c
    chosen by :math:`\pi`. A choice has no gradient; with g that of a sample,
    :math:`G_i = \langle g, y_i + \sigma_i \varepsilon \rangle`, :math:`\bar G = \sum_j \pi_j G_j` and h the one-hot
    choice, that of the logits is for

    * ``"straight_through"``: :math:`\hat\pi_i (G_i - \sum_j \hat\pi_j G_j) / \tau`, that of the relaxed weights of the
      same noise (`"Categorical Reparameterization with Gumbel-Softmax" <https://arxiv.org/abs/1611.01144>`_). Biased.
    * ``"reinmax"``: :math:`(\pi_i (G_i - \bar G) + (h_i - \pi_i)(G_c - \bar G)) / 2`, of second order (`"Bridging
      Discrete and Backpropagation" <https://arxiv.org/abs/2304.08612>`_). Exact in the mean for losses of degree 2 in
      the sample, biased for others. The fastest.
    * ``"implicit"``: the sample moves so that the mixture's conditional distribution function of each axis, given the
      axes before it, stays what it was (`"Implicit Reparameterization Gradients"
      <https://arxiv.org/abs/1805.08498>`_). Exact in the mean for every smooth loss, and for those with kinks. Where
      groups of points lie many bandwidths apart, hardly a sample lies between them and moves the faster there: its
      variance grows without limit with that gap, and a mean over few samples misses what the rare ones say. Its
      backward pass evaluates N·D distribution functions and densities twice per sample: about ten times relaxed's time.

    The gradients to ``pos`` and ``bandwidth`` are those of the chosen point, exact in the mean.

    Differentiable (once) in ``logits``, ``pos`` and ``bandwidth``. The memory needed does not grow with
    ``num_samples``: noise is drawn again in the backward pass, without touching the caller's generator.
    Computed in float32 under autocast and from half precision; float64 stays float64. Far from the origin, as
    :func:`soft_argmax`.

    Args:
        logits: Raw scores, before softmax: ragged ``[N, K]`` or dense ``[B, N, K]``.
        pos: Positions in any unit and frame: ``[N, D]`` or ``[B, N, D]``, D at least 1.
        bandwidth: Standard deviation of each point's basis in the units of ``pos``: one number (or 0-d tensor)
            for all, ``[N]`` per point or ``[N, D]`` per point and axis (dense: ``[B, N]``, ``[B, N, D]``), see
            :func:`pcsa.knn_bandwidth`; or ``[N, D, D]`` (``[B, N, D, D]``), a lower-triangular matrix :math:`A_i` per
            point with a positive diagonal, whose basis then has the covariance :math:`A_i A_i^\top`, see
            :func:`pcsa.surface_bandwidth`. Not for the implicit estimator, whose distribution functions are along axes.
            At most 1e18, in float64 1e153.
        batch: Cloud of each point, sorted, for ragged input; without ``batch`` and ``ptr`` there is one cloud.
        ptr: Where each cloud begins, then N; instead of ``batch``.
        num_samples: Samples S of every keypoint. Default 1.
        temperature: Divides the perturbed logits. Smaller is closer to one-hot. Default 1. Of the straight-through
            estimator, it is that of the gradient alone. As a 0-d tensor on the CPU
            it may change without a compiled caller being compiled anew.
        basis_noise: ``"relaxed"`` is Eq. 12; ``"mixture"`` draws the basis noise with variance
            :math:`\sum_i \hat\pi_i \sigma_i^2`, that of the mixture, which Eq. 12 only reaches as the temperature
            falls to 0. Read by the relaxed estimator only.
        estimator: ``"relaxed"``, ``"straight_through"``, ``"reinmax"`` or ``"implicit"``, see above. The last two have
            no temperature.
        generator: Source of the seed; default torch's own. For eager mode. A seed gives the same samples in every
            run on one kind of device, and others on another.
        mask: True at the points of dense input that exist.
        batch_size: Number of clouds. Given with ``batch``, no value is read from the device to find it, and empty
            clouds at the end are seen.
        validate: Check values (finite, sorted, positive, no empty cloud) too; costs one synchronization on an
            accelerator. Without it, as for :func:`soft_argmax`.

    Returns:
        Samples ``[B, K, S, D]`` in the units and frame of ``pos``.

    Raises:
        ValueError: Naming the argument, its value and the rule.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> pos = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
        >>> logits = torch.tensor([[0.0], [0.0], [-100.0]])
        >>> samples = sampling_argmax(logits, pos, 0.01, num_samples=10_000, temperature=0.1)
        >>> samples.mean(2).round(decimals=1).abs()
        tensor([[[0.5000, 0.0000]]])
    """
    check_temperature(temperature)
    check_count("num_samples", num_samples)
    check_one_of("basis_noise", basis_noise, _BASIS_NOISES)
    check_one_of("estimator", estimator, _ESTIMATORS)
    points = canonical(
        logits, pos, bandwidth, batch, ptr=ptr, mask=mask, batch_size=batch_size, validate=validate, near=True
    )
    with full_precision(logits):
        oriented = bandwidth_of(points).dim() == 3
        if estimator == "implicit" and oriented:
            raise ValueError(
                "`bandwidth` of matrices must not be given with `estimator` 'implicit': its distribution functions are "
                "along the axes, and those of a turned basis depend on each other"
            )
        if estimator == "relaxed" and oriented:
            drawn = covariance_samples(points, num_samples, temperature, basis_noise == "mixture", generator)
            return points.outside(drawn)
        if estimator != "relaxed":
            return points.outside(mixture_samples(points, num_samples, estimator, temperature, generator))
        variance = bandwidth_of(points).square()
        samples = sample(
            points.logits.contiguous(),
            points.pos.contiguous(),
            variance,
            points.ptr,
            draw_seed(generator, logits.device),
            temperature,
            num_samples,
            basis_noise == "mixture",
            points.dense_size or 0,
        )
        return points.outside(samples)


class SoftArgmax(nn.Module):
    """See :func:`pcsa.soft_argmax`."""

    def __init__(self, temperature: float = 1.0) -> None:
        super().__init__()
        check_temperature(temperature)
        self.temperature = temperature

    def forward(self, logits: Tensor, pos: Tensor, batch: Tensor | None = None, **options: Any) -> Tensor:
        """Positions ``[B, K, D]``; ``options`` are those of :func:`pcsa.soft_argmax`."""
        return soft_argmax(logits, pos, batch, temperature=self.temperature, **options)

    def extra_repr(self) -> str:
        return f"temperature={self.temperature}"


class SamplingArgmax(ScheduledTemperature):
    """Samples while training, the expectation while testing; see :func:`pcsa.sampling_argmax`.

    Args:
        num_samples: Samples of every keypoint while training.
        temperature: A number, or a schedule that the training loop steps (``module.temperature.step()``). Its
            progress is part of this module's ``state_dict``.
        basis_noise: See :func:`pcsa.sampling_argmax`.
        estimator: See :func:`pcsa.sampling_argmax`.
    """

    def __init__(
        self,
        num_samples: int = 1,
        temperature: float | TemperatureSchedule = 1.0,
        basis_noise: BasisNoise = "relaxed",
        estimator: Estimator = "relaxed",
    ) -> None:
        super().__init__()
        check_count("num_samples", num_samples)
        check_one_of("basis_noise", basis_noise, _BASIS_NOISES)
        self.num_samples = num_samples
        self.temperature = TemperatureSchedule.of(temperature)
        self.basis_noise: BasisNoise = basis_noise
        check_one_of("estimator", estimator, _ESTIMATORS)
        self.estimator: Estimator = estimator

    def forward(
        self,
        logits: Tensor,
        pos: Tensor,
        bandwidth: float | Tensor,
        batch: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
        **options: Any,
    ) -> Tensor:
        """Samples ``[B, K, S, D]`` in train mode, positions ``[B, K, D]`` in eval mode."""
        if not self.training:
            return soft_argmax(logits, pos, batch, **options)
        return sampling_argmax(
            logits,
            pos,
            bandwidth,
            batch,
            num_samples=self.num_samples,
            temperature=self.temperature.tensor,
            basis_noise=self.basis_noise,
            estimator=self.estimator,
            generator=generator,
            **options,
        )

    def extra_repr(self) -> str:
        return (
            f"num_samples={self.num_samples}, temperature={self.temperature}, basis_noise={self.basis_noise!r}, "
            f"estimator={self.estimator!r}"
        )
