"""Clouds of one size: whose each point is, and where clouds begin, kept for the next batch of a CUDA device."""

import functools

import torch
from torch import Tensor, nn

# Points of a batch: of more, what would be kept takes much memory, and making it anew no longer matters.
_MOST_POINTS = 1 << 17


def equal_clouds(num_clouds: int, size: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Cloud of each point, ``[B * size]``, and where clouds begin, ``[B + 1]``, on the device of ``like``.

    Not to be written to.
    """
    if (
        like.is_cuda
        and num_clouds * size <= _MOST_POINTS
        and plain(like)
        and not torch.cuda.is_current_stream_capturing()
    ):
        # On another stream, it might be read before it is written.
        return _kept(num_clouds, size, like.device, torch._C._cuda_getCurrentRawStream(like.get_device()))
    return _made(num_clouds, size, like.device)


def plain(*tensors: Tensor) -> bool:
    """Whether tensors are nothing but tensors: nothing compiles, traces, transforms or watches what is done to them."""
    return (
        not torch.compiler.is_compiling()
        and all(type(x) is Tensor or type(x) is nn.Parameter for x in tensors)
        and not torch._C._are_functorch_transforms_active()
        and not torch._C._len_torch_dispatch_stack()
    )


def _made(num_clouds: int, size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    ptr = torch.arange(num_clouds + 1, device=device) * size
    batch = torch.arange(num_clouds, device=device).repeat_interleave(size, output_size=num_clouds * size)
    return batch, ptr


@functools.lru_cache(16)
def _kept(num_clouds: int, size: int, device: torch.device, stream: int) -> tuple[Tensor, Tensor]:
    # What is made within inference mode could not be kept for a backward pass.
    with torch.inference_mode(False):
        return _made(num_clouds, size, device)
