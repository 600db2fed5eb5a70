"""The operator on very unequal clouds, and on one that is large: what it holds at once does not grow with S."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pcsa import sampling_argmax
from pcsa._core import kernel


class Largest(TorchDispatchMode):
    """Bytes of the largest tensor that an operation makes."""

    bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        made = [x.untyped_storage().nbytes() for x in tree_leaves(out) if isinstance(x, torch.Tensor)]
        self.bytes = max(self.bytes, *made, 0)
        return out


@pytest.fixture
def one_thread():
    """Operations in this thread, where they are seen."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("sizes", [(40_000,), (1, 10, 1000, 30_000)])
def test_nothing_that_is_held_grows_with_the_samples(sizes):
    N, K, D = sum(sizes), 2, 3
    generator = torch.Generator().manual_seed(0)
    logits, pos = (torch.randn(N, columns, generator=generator) for columns in (K, D))
    ptr = torch.tensor([0, *sizes]).cumsum(0)
    inputs = (logits, pos, torch.full((N, 1), 0.01), ptr, torch.tensor(3), torch.tensor(0.5, dtype=torch.float64))
    largest = []
    for S in (8, 64):
        with Largest() as held:
            drawn = kernel._draw(*inputs, S, False, 0)
            grad = torch.ones_like(drawn[0])
            kernel._draw_backward(grad, *drawn, *inputs, False, 0, True, True, True)
        largest.append(held.bytes)
    assert largest[0] == largest[1]
    # A tile, or the points in blocks: of each 4 bytes for the logits and as many columns as positions have, and one.
    assert largest[1] <= max(4 * kernel._TILE_CPU, 4 * 2 * N * (D + 1))


def test_small_clouds_beside_a_large_one_are_drawn_as_alone():
    sizes = (1, 5, 100, 20_000)
    generator = torch.Generator().manual_seed(1)
    pos = torch.randn(sum(sizes), 2, generator=generator)
    ptr = torch.tensor([0, *sizes]).cumsum(0)
    # One point has nearly all of the weight: every sample lies there, whatever is drawn.
    chosen = [int(begin) + size // 2 for begin, size in zip(ptr, sizes, strict=False)]
    logits = torch.zeros(len(pos), 1)
    logits[chosen] = 60.0
    logits.requires_grad_()
    samples = sampling_argmax(logits, pos, 1e-6, ptr=ptr, num_samples=20, temperature=0.5, generator=generator)
    torch.testing.assert_close(samples, pos[chosen][:, None, None].expand_as(samples), rtol=0, atol=1e-4)
    (grad,) = torch.autograd.grad(samples.sum(), logits)
    assert grad.isfinite().all()
