"""Gradients of samples of the mixture: straight-through, ReinMax, implicit reparameterization."""

from typing import Literal

import torch
from torch import Tensor

from pcsa._core.choice import choose, choose_perturbed, path
from pcsa._core.kernel import draw, draw_seed
from pcsa._core.marginals import basis_noise
from pcsa._core.moments import covariance_samples, is_learned
from pcsa._core.points import Points, bandwidth_of, cloud_log_softmax, cloud_mean
from pcsa._core.samples import sample
from pcsa._core.triangular import lower_columns, lower_times

Estimator = Literal["relaxed", "straight_through", "reinmax", "implicit"]


def samples_of(
    points: Points,
    num_samples: int,
    estimator: Estimator,
    temperature: float | Tensor,
    mixture: bool,
    generator: torch.Generator | None,
) -> Tensor:
    """Samples ``[B, K, S, D]`` in the frame of ``points``; ``mixture`` is of the noise of the relaxed ones."""
    oriented = bandwidth_of(points).dim() == 3
    if estimator == "implicit" and oriented:
        raise ValueError(
            "`bandwidth` of matrices must not be given with `estimator` 'implicit': its distribution functions are "
            "along the axes, and those of a turned basis depend on each other"
        )
    if estimator != "relaxed":
        if is_learned(temperature):
            raise ValueError(
                f"`temperature` that needs a gradient must be of `estimator` 'relaxed': samples of {estimator!r} do "
                "not depend on it"
            )
        return mixture_samples(points, num_samples, estimator, temperature, generator)
    if oriented or is_learned(temperature):
        return covariance_samples(points, num_samples, temperature, mixture, generator)
    return sample(
        points.logits.contiguous(),
        points.pos.contiguous(),
        bandwidth_of(points).square(),
        points.ptr,
        draw_seed(generator, points.logits.device),
        temperature,
        num_samples,
        mixture,
        points.dense_size or 0,
    )


def mixture_samples(
    points: Points,
    num_samples: int,
    estimator: Estimator,
    temperature: float | Tensor,
    generator: torch.Generator | None,
) -> Tensor:
    """Samples ``[B, K, S, D]`` of the mixture of the points' bases: z = y_c + sigma_c e, with c the chosen point.

    The gradients to positions and bandwidths are those of the chosen point, which are exact in the mean. What the
    estimator adds is a zero whose gradient goes to the logits.
    """
    logits, pos, deviation = points.logits.contiguous(), points.pos, bandwidth_of(points)
    B, K, D = points.batch_size, logits.shape[1], pos.shape[1]
    oriented = deviation.dim() == 3
    spread = lower_columns(deviation) if oriented else deviation
    columns = torch.cat([pos, spread], 1).detach().contiguous()
    noise = basis_noise(logits.new_empty(B, K, num_samples, D), draw_seed(generator), "gaussian")
    seed = draw_seed(generator)

    def at(column: Tensor) -> Tensor:
        # The places of points, or their means, with the noise of each sample.
        moved = lower_times(column[..., D:], noise) if oriented else noise * column[..., D:]
        return column[..., :D] + moved

    def drawn(chosen: Tensor) -> Tensor:
        row = chosen.flatten()
        own = [x.index_select(0, row).view(B, K, num_samples, -1) for x in (pos, spread)]
        return at(torch.cat(own, -1)) if oriented else own[0] + noise * own[1]

    if estimator == "straight_through":
        # Copied: a schedule may step before the backward pass reads it.
        tau, size = torch.as_tensor(temperature, dtype=torch.float64).clone(), points.dense_size or 0
        chosen = choose_perturbed(logits.detach(), points.ptr, seed, tau, num_samples, columns.shape[1], size)
        still = torch.zeros_like(columns[:, :1])
        relaxed, _, _, _ = draw(logits, columns, still, points.ptr, seed, tau, num_samples, False, size)
        soft = at(relaxed)
        return drawn(chosen) + (soft - soft.detach())

    log_prob = cloud_log_softmax(logits, points)
    prob = log_prob.exp()
    uniform = basis_noise(logits.new_empty(B, K, num_samples, dtype=torch.float64), seed, "uniform") + 0.5
    chosen = choose(prob, points, uniform)
    samples = drawn(chosen)
    if estimator == "implicit":
        still = samples.detach()
        return samples + path(
            logits, pos.detach(), deviation.detach(), still, chosen, points.ptr, points.dense_size or 0
        )
    # The gradient of the paper's Algorithm 2, 2 J((h + p) / 2) - J(p) / 2 with J(p) = diag(p) - p p', is the mean of
    # the straight-through gradient and of the score function's with the linearized loss as its reward.
    soft = at(cloud_mean(prob, columns, points).unsqueeze(2))
    keypoint = torch.arange(K, device=logits.device).view(1, K, 1)
    own = log_prob.flatten().index_select(0, (chosen * K + keypoint).flatten()).view(B, K, num_samples, 1)
    along = (own - own.detach()) * (samples - soft).detach()
    return samples + (soft - soft.detach() + along) / 2
