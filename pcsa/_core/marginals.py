"""Marginals of the relaxed weights of a grid, one distribution per axis, and the noise of the bases.

The weights are those of `pcsa._core.kernel`: the same perturbed logits from the same source of noise. Here whole grids
are summed along their axes, where the kernel for point sets takes sums over points alone. A pass runs over tiles of
[maps, samples, cells], and the backward pass draws the noise of every tile again.

Where Triton's kernels run, the same sums are made by `pcsa._core.triton.grids`, from noise of its own.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from pcsa._core import kernel
from pcsa._core.kernel import _LIBRARY, _LOG2_E, Perturbed, _Noise, _perturbed, _twice
from pcsa._core.points import full_precision
from pcsa._core.tiles import in_order, one_thread
from pcsa._core.transforms import keep_nothing, map_one_by_one, transformable
from pcsa._core.triton import grids as fused


def _scaled(logits: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """(logits - their map's maximum) / temperature, base 2, and that maximum.

    A common offset must not swallow the noise.
    """
    highest = logits.amax(1)
    return (logits - highest[:, None]).mul_(_LOG2_E / temperature), highest


def _tiles(logits: Tensor, num_samples: int) -> list[tuple[slice, slice]]:
    """Ranges of maps and of samples: the order in which noise is drawn."""
    R, N = logits.shape
    tile = kernel._TILE_CPU if logits.device.type == "cpu" else kernel._TILE_DEVICE
    many_samples = min(num_samples, max(1, tile // N))
    many_maps = max(1, tile // (N * many_samples))
    return [
        (slice(r, r + many_maps), slice(s, min(s + many_samples, num_samples)))
        for r in range(0, R, many_maps)
        for s in range(0, num_samples, many_samples)
    ]


def axis_sums(weight: Tensor) -> list[Tensor]:
    """From [R, S, *shape] sums over all axes but one, [R, S, n] for every axis, the last one first."""
    axes = range(2, weight.dim())
    # Over no axis torch sums everything.
    return [weight.sum([other for other in axes if other != d]) if len(axes) > 1 else weight for d in reversed(axes)]


def _draw(
    logits: Tensor, shape: list[int], seed: Tensor, temperature: Tensor, num_samples: int
) -> tuple[Tensor, Tensor, Tensor]:
    """From logits [R, N] marginals [R, S, sum of the axes' lengths], x first, and log2-normalizers [R, S].

    Normalizers are relative to the maps' largest logits [R], which come last.
    """
    if fused.takes(logits, shape):
        return fused.draw(logits, shape, seed, temperature, num_samples)
    with one_thread(logits.device) as threads:
        tau = float(temperature)
        scaled, highest = _scaled(logits, tau)
        noise = _Noise(seed, logits.device)
        R = logits.shape[0]
        marginals = logits.new_empty(R, num_samples, sum(shape))
        log_norm = logits.new_empty(R, num_samples)

        def summed(perturbed: Perturbed) -> tuple[Tensor, Tensor]:
            weight = perturbed()[0]
            top = weight.amax(-1, keepdim=True)
            weight.sub_(top).exp2_()
            norm = weight.sum(-1, keepdim=True)
            sums = torch.cat(axis_sums(weight.unflatten(-1, shape)), -1)
            return (norm.log2() + top).squeeze(-1), sums.div_(norm)

        tiles = _tiles(logits, num_samples)
        tasks = (partial(summed, _perturbed(scaled[None, r], s.stop - s.start, tau, noise)) for r, s in tiles)
        for found, (r, s) in zip(in_order(tasks, threads), tiles, strict=True):
            log_norm[r, s], marginals[r, s] = found
        return marginals, log_norm, highest


def _draw_backward(
    grad: Tensor,
    marginals: Tensor,
    log_norm: Tensor,
    highest: Tensor,
    logits: Tensor,
    shape: list[int],
    seed: Tensor,
    temperature: Tensor,
) -> Tensor:
    """Gradient to logits [R, N].

    With p the weights of one sample and g the gradients of its marginals: G_i = dL/dp_i is the sum over axes of g at
    cell i's index, and dL/dl_i = sum_s p_i (G_i - sum_j p_j G_j) / temperature.
    """
    if fused.takes(logits, shape):
        return fused.draw_backward(grad, marginals, log_norm, highest, logits, shape, seed, temperature)
    with one_thread(logits.device) as threads:
        tau = float(temperature)
        scaled, _ = _scaled(logits, tau)
        noise = _Noise(seed, logits.device)
        # An equal part of sum_j p_j G_j is taken from every axis.
        rest = grad - (grad * marginals).sum(-1, keepdim=True) / len(shape)
        grad_logits = torch.zeros_like(logits)

        def gradient(of_maps: slice, of_samples: slice, perturbed: Perturbed) -> Tensor:
            weight = perturbed()[0]
            weight.sub_(log_norm[of_maps, of_samples, None]).exp2_()
            parts = rest[of_maps, of_samples].split(shape[::-1], -1)
            pulled = weight.new_zeros(())
            # The slowest axis first: only the last sum is of the size of the grid.
            for axis, part in enumerate(reversed(parts)):
                pulled = pulled + part.view(*part.shape[:2], *[n if d == axis else 1 for d, n in enumerate(shape)])
            return (weight.unflatten(-1, shape).mul_(pulled)).sum(1).flatten(1)

        tiles = _tiles(logits, grad.shape[1])
        tasks = (partial(gradient, r, s, _perturbed(scaled[None, r], s.stop - s.start, tau, noise)) for r, s in tiles)
        for part, (of_maps, _) in zip(in_order(tasks, threads), tiles, strict=True):
            grad_logits[of_maps] += part
        return grad_logits.div_(tau)


def _draw_fake(logits, shape, seed, temperature, num_samples):  # type: ignore[no-untyped-def]
    R = logits.shape[0]
    return logits.new_empty(R, num_samples, sum(shape)), logits.new_empty(R, num_samples), logits.new_empty(R)


def _draw_backward_fake(grad, marginals, log_norm, highest, logits, shape, seed, temperature):  # type: ignore[no-untyped-def]
    return torch.empty_like(logits)


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    logits, ctx.shape, seed, temperature, _ = inputs
    marginals, log_norm, highest = output
    ctx.mark_non_differentiable(log_norm, highest)
    ctx.save_for_backward(marginals, log_norm, highest, logits, seed, temperature)


def _backward(ctx, grad, _log_norm, _highest):  # type: ignore[no-untyped-def]
    *drawn, logits, seed, temperature = ctx.saved_tensors
    # backward() may be called inside the caller's autocast region.
    with full_precision(grad):
        return draw_marginals_backward(grad, *drawn, logits, ctx.shape, seed, temperature), *[None] * 4


def _basis_noise(like: Tensor, seed: Tensor, basis: str) -> Tensor:
    """Numbers of the shape of ``like`` from a basis of width 1 (Eq. 7-9), from one seed."""
    noise = _Noise(seed, like.device)
    if basis == "gaussian":
        return noise.normal(tuple(like.shape), like.dtype)
    u = noise.uniform(tuple(like.shape), like.dtype)
    if basis == "uniform":
        return u - 0.5
    # The inverse of the triangle's distribution function.
    return torch.where(u < 0.5, (2 * u).sqrt() - 1, 1 - (2 - 2 * u).sqrt())


def _basis_noise_fake(like, seed, basis):  # type: ignore[no-untyped-def]
    return like.new_empty(like.shape)


_LIBRARY.define(
    "draw_marginals(Tensor logits, SymInt[] shape, Tensor seed, Tensor temperature, SymInt num_samples) "
    "-> (Tensor, Tensor, Tensor)"
)
_LIBRARY.define(
    "draw_marginals_backward(Tensor grad, Tensor marginals, Tensor log_norm, Tensor highest, Tensor logits, "
    "SymInt[] shape, Tensor seed, Tensor temperature) -> Tensor"
)
_LIBRARY.define("basis_noise(Tensor like, Tensor seed, str basis) -> Tensor")
_LIBRARY.impl("draw_marginals", _draw, "CompositeExplicitAutograd")
_LIBRARY.impl("draw_marginals_backward", _draw_backward, "CompositeExplicitAutograd")
_LIBRARY.impl("basis_noise", _basis_noise, "CompositeExplicitAutograd")
torch.library.register_fake("pcsa::draw_marginals", _draw_fake, lib=_LIBRARY)
torch.library.register_fake("pcsa::draw_marginals_backward", _draw_backward_fake, lib=_LIBRARY)
torch.library.register_fake("pcsa::basis_noise", _basis_noise_fake, lib=_LIBRARY)
torch.library.register_autograd("pcsa::draw_marginals", _backward, setup_context=_setup_context, lib=_LIBRARY)
torch.library.register_autograd("pcsa::draw_marginals_backward", _twice, lib=_LIBRARY)
for _name in ("draw_marginals", "draw_marginals_backward", "basis_noise"):
    map_one_by_one(_name, _LIBRARY)
_ON_GRIDS = "sampling_argmax on a grid"
draw_marginals = transformable(_ON_GRIDS, torch.ops.pcsa.draw_marginals.default, _setup_context, _backward)
draw_marginals_backward = transformable(_ON_GRIDS, torch.ops.pcsa.draw_marginals_backward.default, keep_nothing, _twice)
basis_noise = torch.ops.pcsa.basis_noise.default
