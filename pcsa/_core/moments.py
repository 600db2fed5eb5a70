"""Samples whose bases have a covariance of their own, or whose temperature is learned: the sums that they need.

Given relaxed weights w, the noise of a sample is exactly N(0, sum_i w_i^2 C_i). So the operator makes, for each sample,
sum_i w_i y_i and sum_i w_i^2 C_i, D + D (D + 1) / 2 numbers; a factor of the second is found, and times noise, outside
of it, where autograd sees it. Both passes run over the tiles of `pcsa._core.kernel`, and the backward pass draws the
weights again from the seed: the memory needed does not grow with the number of samples.
"""

from functools import partial

import torch
from torch import Tensor

from pcsa._core.kernel import (
    _LIBRARY,
    Perturbed,
    _cut,
    _Noise,
    _perturbed,
    _spread,
    _sums,
    _tiles,
    _twice,
    _uncut,
    draw,
    draw_seed,
)
from pcsa._core.marginals import basis_noise
from pcsa._core.points import Points, bandwidth_of, full_precision
from pcsa._core.tiles import in_order, one_thread
from pcsa._core.transforms import keep_nothing, map_one_by_one, transformable
from pcsa._core.triangular import cholesky, covariance_columns, lower_times


def covariance_samples(
    points: Points, num_samples: int, temperature: float | Tensor, mixture: bool, generator: torch.Generator | None
) -> Tensor:
    """Relaxed samples ``[B, K, S, D]`` of points with any bandwidths, in whose ``temperature`` they are differentiable.

    With w the weights the noise has the covariance sum_i w_i^2 C_i, under ``mixture`` sum_i w_i C_i.
    """
    logits, pos = points.logits.contiguous(), points.pos.contiguous()
    (K, D), size, bandwidth = (logits.shape[1], pos.shape[1]), points.dense_size or 0, bandwidth_of(points)
    oriented = bandwidth.dim() == 3
    covariance = covariance_columns(bandwidth) if oriented else bandwidth.square()
    noise = basis_noise(logits.new_empty(points.batch_size, K, num_samples, D), draw_seed(generator), "gaussian")
    seed = draw_seed(generator, logits.device)
    # Copied: a schedule may step before the backward pass reads it.
    tau = torch.as_tensor(temperature, dtype=torch.float64).clone()
    if mixture:
        # Both sums are linear in the weights, as positions are.
        columns, still = torch.cat([pos, covariance], 1), torch.zeros_like(pos[:, :1])
        sums = (logits, columns, still, points.ptr, seed, tau, num_samples)
        drawn = moments(*sums, size)[0] if is_learned(temperature) else draw(*sums, False, size)[0]
        place, spread = drawn[..., :D], drawn[..., D:]
    else:
        place, spread, _ = moments(logits, pos, covariance, points.ptr, seed, tau, num_samples, size)
    if oriented:
        return place + lower_times(cholesky(spread), noise)
    # A slope of the root at 0 would be infinite.
    return place + spread.clamp_min(torch.finfo(spread.dtype).tiny).sqrt() * noise


def is_learned(temperature: float | Tensor) -> bool:
    """Whether a gradient to the temperature is asked for."""
    return isinstance(temperature, Tensor) and temperature.requires_grad


def _moments(
    logits: Tensor,
    pos: Tensor,
    second: Tensor,
    ptr: Tensor,
    seed: Tensor,
    temperature: Tensor,
    num_samples: int,
    cloud_size: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """Sums of w y [B, K, S, D] and of w^2 C [B, K, S, C], and log2-normalizers [B, K, S] for the backward pass."""
    with one_thread(logits.device) as threads:
        tau = float(temperature)
        blocks = _cut(logits, pos, second, ptr, tau, cloud_size)
        K = blocks.logits.shape[1]
        B, D, columns = blocks.num_clouds, pos.shape[1], second.shape[1]
        noise = _Noise(seed, logits.device)
        first = torch.cat([blocks.pos, torch.ones_like(blocks.pos[..., :1])], -1)
        first, seconds = (x.transpose(1, 2).contiguous() for x in (first, blocks.variance))
        place, spread = (logits.new_empty(B, K, num_samples, size) for size in (D, columns))
        log_norm = logits.new_empty(B, K, num_samples)

        for of_samples, cloud_top, total in _sums(blocks, first, seconds, num_samples, tau, noise, threads):
            norm = total[..., D : D + 1]
            log_norm[:, :, of_samples] = norm.squeeze(-1).log2() + cloud_top
            place[:, :, of_samples] = total[..., :D] / norm
            spread[:, :, of_samples] = total[..., D + 1 :] / norm.square()
        return place, spread, log_norm


def _moments_fake(logits, pos, second, ptr, seed, temperature, num_samples, cloud_size):  # type: ignore[no-untyped-def]
    shape = (ptr.shape[0] - 1, logits.shape[1], num_samples)
    return tuple(logits.new_empty(*shape, *size) for size in ((pos.shape[1],), (second.shape[1],), ()))


def _moments_backward(
    grad_place: Tensor,
    grad_spread: Tensor,
    place: Tensor,
    spread: Tensor,
    log_norm: Tensor,
    logits: Tensor,
    pos: Tensor,
    second: Tensor,
    ptr: Tensor,
    seed: Tensor,
    temperature: Tensor,
    cloud_size: int,
    need_temperature: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients to logits [N, K], pos [N, D], second [N, C] and, where it is needed, the temperature [].

    With w the weights of a sample, g and A the gradients of its sums: G_i = dL/dw_i = <g, y_i> + 2 w_i <A, C_i>,
    dL/dl_i = sum_s w_i (G_i - sum_j w_j G_j) / temperature, where the inner sum is <g, place> + 2 <A, spread>. As w is
    the softmax of what is over the temperature, dL/dtemperature = -sum_s sum_i w_i (G_i - …) log w_i / temperature.
    """
    with one_thread(logits.device) as threads:
        tau = float(temperature)
        blocks = _cut(logits, pos, second, ptr, tau, cloud_size)
        _, K, P = blocks.logits.shape
        D, num_samples = pos.shape[1], place.shape[2]
        noise = _Noise(seed, logits.device)
        inner = (grad_place * place).sum(-1, keepdim=True) + 2 * (grad_spread * spread).sum(-1, keepdim=True)
        rows, pull = (_spread(blocks, x) for x in (torch.cat([grad_place, -inner], -1), grad_spread))
        shift = _spread(blocks, log_norm)
        columns = torch.cat([blocks.pos, torch.ones_like(blocks.pos[..., :1])], -1)
        columns, seconds = (x.transpose(1, 2).contiguous() for x in (columns, blocks.variance))
        grads = [torch.zeros_like(x) for x in (blocks.logits, blocks.pos, blocks.variance)]
        to_temperature = logits.new_zeros((), dtype=torch.float64)

        def gradients(of_samples: slice, m: slice, perturbed: Perturbed) -> list[Tensor]:
            weight = perturbed()
            weight.sub_(shift[m, :, of_samples, None]).exp2_()
            size, S = weight.shape[0], of_samples.stop - of_samples.start
            flat = weight.view(size, K * S, P)
            row = rows[m, :, of_samples].reshape(size, K * S, -1)
            c = pull[m, :, of_samples].reshape(size, K * S, -1)
            to_pos = flat.transpose(1, 2) @ row[..., :D]
            whole = (row @ columns[m]).view_as(weight).mul_(weight)
            to_logits = whole.sum(2)
            to_tau = weight.new_zeros((), dtype=torch.float64)
            if need_temperature:
                # At a weight of 0 the product is 0, as it is in the limit.
                logarithm = weight.clamp_min(torch.finfo(weight.dtype).tiny).log()
                whole += 2 * (c @ seconds[m]).view_as(weight) * weight.square()
                to_tau = (whole * logarithm).sum(dtype=torch.float64)
            square = flat.square_()
            # sum over samples of A w^2, then times the covariances: [K, C, S] @ [K, S, P]
            pulled = c.view(size, K, S, -1).transpose(2, 3) @ square.view_as(weight)
            to_logits += 2 * (pulled * seconds[m, None]).sum(2)
            return [to_logits, to_pos, square.transpose(1, 2) @ c, to_tau]

        tiles = _tiles(blocks, num_samples)
        tasks = (partial(gradients, s, m, _perturbed(blocks.logits[m], s.stop - s.start, tau, noise)) for s, m in tiles)
        for parts, (_, m) in zip(in_order(tasks, threads), tiles, strict=True):
            for total, part in zip(grads, parts[:3], strict=True):
                total[m] += part
            to_temperature -= parts[3] / tau
        N = logits.shape[0]
        to_logits = _uncut(grads[0].div_(tau).transpose(1, 2), blocks, N)
        to_temperature = to_temperature.to(temperature)
        return to_logits, _uncut(grads[1], blocks, N), _uncut(grads[2], blocks, N), to_temperature


def _moments_backward_fake(  # type: ignore[no-untyped-def]
    grad_place,
    grad_spread,
    place,
    spread,
    log_norm,
    logits,
    pos,
    second,
    ptr,
    seed,
    temperature,
    cloud_size,
    need_temperature,
):
    return tuple(torch.empty_like(x) for x in (logits, pos, second, temperature))


def _setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
    logits, pos, second, ptr, seed, temperature, _, ctx.cloud_size = inputs
    ctx.mark_non_differentiable(output[2])
    ctx.save_for_backward(*output, logits, pos, second, ptr, seed, temperature)


def _backward(ctx, grad_place, grad_spread, _log_norm):  # type: ignore[no-untyped-def]
    # backward() may be called inside the caller's autocast region.
    with full_precision(grad_place):
        needed = ctx.needs_input_grad[5]
        *grads, to_temperature = moments_backward(grad_place, grad_spread, *ctx.saved_tensors, ctx.cloud_size, needed)
        return *grads, None, None, to_temperature if needed else None, None, None


_LIBRARY.define(
    "moments(Tensor logits, Tensor pos, Tensor second, Tensor ptr, Tensor seed, Tensor temperature, int num_samples, "
    "int cloud_size) -> (Tensor, Tensor, Tensor)"
)
_LIBRARY.define(
    "moments_backward(Tensor grad_place, Tensor grad_spread, Tensor place, Tensor spread, Tensor log_norm, "
    "Tensor logits, Tensor pos, Tensor second, Tensor ptr, Tensor seed, Tensor temperature, int cloud_size, "
    "bool need_temperature) -> (Tensor, Tensor, Tensor, Tensor)"
)
_LIBRARY.impl("moments", _moments, "CompositeExplicitAutograd")
_LIBRARY.impl("moments_backward", _moments_backward, "CompositeExplicitAutograd")
torch.library.register_fake("pcsa::moments", _moments_fake, lib=_LIBRARY)
torch.library.register_fake("pcsa::moments_backward", _moments_backward_fake, lib=_LIBRARY)
torch.library.register_autograd("pcsa::moments", _backward, setup_context=_setup_context, lib=_LIBRARY)
torch.library.register_autograd("pcsa::moments_backward", _twice, lib=_LIBRARY)
for _name in ("moments", "moments_backward"):
    map_one_by_one(_name, _LIBRARY)
moments = transformable("sampling_argmax", torch.ops.pcsa.moments.default, _setup_context, _backward)
moments_backward = transformable("sampling_argmax", torch.ops.pcsa.moments_backward.default, keep_nothing, _twice)
