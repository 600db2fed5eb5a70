"""Where each keypoint may be, as a distribution with the conventions of torch.distributions."""

from collections.abc import Sequence
from typing import Any, ClassVar, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.distributions import Distribution, constraints

from pcsa._core.balls import check_centers, mass_within
from pcsa._core.checks import check_count, check_generator, check_one_of, check_temperature
from pcsa._core.data import Cloud
from pcsa._core.estimators import Estimator, samples_of
from pcsa._core.points import canonical, cloud_log_softmax, cloud_mean, full_precision, tempered
from pcsa.localization import NEED_RADIUS, Localization, ReadOut, covariance_of, entropy_of, radii_of, read_map
from pcsa.losses.arguments import Keypoints, Norm, keypoints_of
from pcsa.losses.geometry import bounded_width
from pcsa.losses.mixture import expected_error, log_density
from pcsa.sampling import BasisNoise

# Looked up here: the compiler of torch before 2.7 does not follow `get_args`.
_ESTIMATORS, _BASIS_NOISES, _READ_OUTS, _NORMS = map(get_args, (Estimator, BasisNoise, ReadOut, Norm))


class KeypointDistribution(Distribution):
    r"""Mixture of Gaussian bases around the points of a cloud, for every keypoint of every cloud.

    .. math:: p(y) = \sum_i \pi_i\, \mathcal N(y; y_i, \sigma_i^2 I), \qquad \pi = \mathrm{softmax}(\ell / \tau)

    (`"Localization with Sampling-Argmax" <https://arxiv.org/abs/2110.08825>`_, Eq. 5 and 9.) It is what
    :func:`pcsa.localize` reads, :func:`pcsa.losses.mixture_nll` scores and :func:`pcsa.sampling_argmax` samples at
    temperatures near 0. ``batch_shape`` is ``[B, K]``, ``event_shape`` ``[D]``. The arguments are checked, and the map
    is normalized, once for all that is asked.

    ``mean``, ``covariance``, ``variance``, ``entropy``, ``log_prob``, ``expected_error`` and ``rsample`` are
    differentiable in ``logits``, ``pos``, ``bandwidth`` and ``temperature``; ``mode``, ``read``, ``confidence`` and
    ``sample`` are not. There is no ``cdf``: the event has several axes.

    Args:
        logits: Raw scores of a network, ``[N, K]`` or dense ``[B, N, K]``, as for :func:`pcsa.sampling_argmax`.
        pos: Positions ``[N, D]`` or ``[B, N, D]``, in the units of all that is returned; or a PyTorch Geometric
            ``Data`` or ``Batch`` that has them, with its ``ptr`` or ``batch``.
        bandwidth: Standard deviation of each point's basis, or a factor of its covariance.
        batch: Cloud of each point, sorted, for ragged input; without ``batch`` and ``ptr`` there is one cloud.
        ptr: Where each cloud begins, then N; instead of ``batch``.
        temperature: Divides the logits. Default 1.
        mask: True at the points of dense input that exist.
        batch_size: Number of clouds; see :func:`pcsa.sampling_argmax`.
        validate: Check values too, here and in methods.

    Raises:
        ValueError: Naming the argument, its value and the rule.

    Example:
        >>> pos = torch.tensor([[0.0], [1.0], [10.0]])
        >>> d = KeypointDistribution(torch.tensor([[0.5], [0.4], [0.1]]).log(), pos, 1.0)
        >>> d, d.mean, d.confidence(0.6)
        (KeypointDistribution(batch_shape=[1, 1], event_shape=[1]), tensor([[[1.4000]]]), tensor([[0.9000]]))
        >>> d.sample((2,)).shape
        torch.Size([2, 1, 1, 1])
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}  # checked here, with the words of this package
    support = constraints.real_vector
    has_rsample = True

    def __init__(
        self,
        logits: Float[Tensor, "*N K"],
        pos: Float[Tensor, "*N D"] | Cloud,
        bandwidth: float | Float[Tensor, ""] | Float[Tensor, "*N"] | Float[Tensor, "*N D"] | Float[Tensor, "*N D D"],
        batch: Int[Tensor, " N"] | None = None,
        *,
        ptr: Int[Tensor, " B_plus_1"] | None = None,
        temperature: float | Tensor = 1.0,
        mask: Bool[Tensor, "B N"] | None = None,
        batch_size: int | None = None,
        validate: bool = True,
    ) -> None:
        check_temperature(temperature)
        if bandwidth is None:
            raise ValueError("`bandwidth` (=None) must be a number or a tensor")
        points = canonical(
            logits, pos, bandwidth, batch, ptr=ptr, mask=mask, batch_size=batch_size, validate=validate, near=True
        )
        with full_precision(logits):
            points = points._replace(logits=cloud_log_softmax(tempered(points, temperature), points))
        # Not computed when first asked for: that may be where gradients are off.
        self._points, self._prob = points, points.logits.exp()
        self._validate, self._dense = validate, logits.dim() == 3
        shape = torch.Size([points.batch_size, points.logits.shape[1]])
        super().__init__(shape, torch.Size([points.pos.shape[1]]), validate_args=False)

    @property
    def mean(self) -> Float[Tensor, "B K D"]:
        """Expectation, as :func:`pcsa.soft_argmax` has it."""
        return self._points.outside(self._near_mean())

    @property
    def covariance(self) -> Float[Tensor, "B K D D"]:
        """Covariance of points and bases, in squared units of ``pos``."""
        with full_precision(self._prob):
            return covariance_of(self._prob, self._near_mean(), self._points)

    @property
    def covariance_matrix(self) -> Float[Tensor, "B K D D"]:
        """``covariance``, as torch's multivariate normal calls it."""
        return self.covariance

    @property
    def variance(self) -> Float[Tensor, "B K D"]:
        """Variance along each axis."""
        return self.covariance.diagonal(dim1=-2, dim2=-1)

    @property
    def mode(self) -> Float[Tensor, "B K D"]:
        """The densest place, as :func:`pcsa.localize` finds it."""
        return self.read("mode").position

    def entropy(self) -> Float[Tensor, "B K"]:
        r"""Entropy of the choice of a point, :math:`-\sum_i \pi_i \log \pi_i`, in nats.

        The mixture's own has no closed form; ``-d.log_prob(d.sample((S,))).mean(0)`` estimates it.
        """
        return entropy_of(self._points.logits, self._prob, self._points)

    def log_prob(
        self, value: Float[Tensor, "*S B K D"], *, visible: Bool[Tensor, "B K"] | None = None
    ) -> Float[Tensor, "*S B K"]:
        """Logarithm of the density at places, in nats for the units of ``pos``.

        Args:
            value: Places of the keypoints, ``[B, K, D]`` or with axes of samples before. A sample takes a pass over all
                points.
            visible: Keypoints whose place is known; the others, whose ``value`` may be NaN, have 0, and no gradient.
        """
        shape = (*self.batch_shape, *self.event_shape)
        if value.dim() > 3 and tuple(value.shape[-3:]) == shape:
            each = [self.log_prob(place, visible=visible) for place in value.flatten(0, -4)]
            return torch.stack(each).view(value.shape[:-1])
        known = self._keypoints(visible)
        with full_precision(self._prob):
            return known.reduce(log_density(self._points, known.known(value, self._points)))

    def expected_error(
        self,
        target: Float[Tensor, "B K D"],
        norm: Norm = "l2",
        *,
        sigma: float | None = None,
        visible: Bool[Tensor, "B K"] | None = None,
    ) -> Float[Tensor, "B K"]:
        """Mean error of a draw from the distribution, in closed form: :func:`pcsa.losses.mixture_expected_error`.

        Args:
            target: Places that the error is measured from.
            norm: ``"l2"``, ``"l1"``, ``"squared"`` or ``"bounded"``.
            sigma: Width of ``"bounded"``, in the units of ``pos``.
            visible: Keypoints whose place is known; the others have 0, and no gradient.
        """
        check_one_of("norm", norm, _NORMS)
        width = bounded_width(sigma) if norm == "bounded" else 0.0
        known = self._keypoints(visible)
        with full_precision(self._prob):
            return known.reduce(expected_error(self._points, known.known(target, self._points), norm, width))

    def read(self, read_out: ReadOut = "expectation", radius: float | Tensor | None = None) -> Localization:
        """Read each keypoint's place, and how sure it is, as :func:`pcsa.localize` does."""
        check_one_of("read_out", read_out, _READ_OUTS)
        if radius is None and read_out in NEED_RADIUS:
            raise ValueError(f"`radius` (=None) must be given with `read_out` {read_out!r}")
        reach = None if radius is None else radii_of(radius, self._points, self._validate)
        with full_precision(self._prob):
            return read_map(self._points, read_out, reach, self._dense)

    def confidence(
        self, radius: float | Float[Tensor, " B"], center: Float[Tensor, "B K D"] | None = None
    ) -> Float[Tensor, "B K"]:
        """Probability of the points at less than ``radius`` from a place; see :func:`pcsa.ball_mass`.

        Args:
            radius: Radius in the units of ``pos``: a number, or one for each cloud.
            center: Places; default where the most probability is, as the read-out ``"ball"`` finds it: then it is the
                chance of the best guess to be nearer than ``radius``.
        """
        if center is None:
            return self.read("ball", radius).confidence
        check_centers(center, self._points, self._validate)
        reach = radii_of(radius, self._points, self._validate)
        with torch.no_grad(), full_precision(self._prob):
            place = self._points.within(center.to(self._prob.dtype))
            return mass_within(self._prob, place, reach, self._points)

    def rsample(
        self,
        sample_shape: int | Sequence[int] = (),
        estimator: Estimator = "reinmax",
        *,
        temperature: float | Tensor = 1.0,
        basis_noise: BasisNoise = "relaxed",
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, "*S B K D"]:
        """Samples that can be trained through; the estimators are those of :func:`pcsa.sampling_argmax`.

        Args:
            sample_shape: Number of samples, or a shape of them, which comes first. (The losses on samples have them
                third: ``samples.movedim(0, 2)``.)
            estimator: ``"reinmax"`` (the default), ``"implicit"`` and ``"straight_through"`` are samples of this very
                distribution; ``"relaxed"`` ones are contracted, as the temperature says.
            temperature: Divides the perturbed scores, beyond that of the distribution. Read by ``"relaxed"``, and by
                ``"straight_through"`` for its gradient.
            basis_noise: See :func:`pcsa.sampling_argmax`.
            generator: Source of the seed; default torch's own.
        """
        shape = self._sample_shape(sample_shape)
        check_temperature(temperature)
        check_one_of("estimator", estimator, _ESTIMATORS)
        check_one_of("basis_noise", basis_noise, _BASIS_NOISES)
        check_generator("generator", generator)
        points, mixture = self._points, basis_noise == "mixture"
        if shape.numel() == 0:
            return points.pos.new_empty((*shape, *self.batch_shape, *self.event_shape))
        with full_precision(points.pos):
            drawn = points.outside(samples_of(points, shape.numel(), estimator, temperature, mixture, generator))
        return drawn.movedim(2, 0).reshape(*shape, *self.batch_shape, *self.event_shape)

    @torch.no_grad()
    def sample(
        self, sample_shape: int | Sequence[int] = (), *, generator: torch.Generator | None = None
    ) -> Float[Tensor, "*S B K D"]:
        """Samples of exactly this distribution, without a gradient.

        Args:
            sample_shape: Number of samples, or a shape of them, which comes first.
            generator: Source of the seed; default torch's own.
        """
        return self.rsample(sample_shape, "reinmax", generator=generator)

    def _near_mean(self) -> Tensor:
        with full_precision(self._prob):
            return cloud_mean(self._prob, self._points.pos, self._points)

    def _keypoints(self, visible: Tensor | None) -> Keypoints:
        return keypoints_of(self.batch_shape, visible=visible, reduction="none", validate=self._validate)

    @staticmethod
    def _sample_shape(sample_shape: int | Sequence[int]) -> torch.Size:
        sizes = sample_shape if isinstance(sample_shape, Sequence) else (sample_shape,)
        for size in sizes:
            check_count("sample_shape", size, least=0)
        return torch.Size(sizes)

    def __repr__(self) -> str:
        shapes = f"batch_shape={list(self.batch_shape)}, event_shape={list(self.event_shape)}"
        return f"{type(self).__name__}({shapes})"
