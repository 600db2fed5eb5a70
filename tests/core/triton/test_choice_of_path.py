"""When the fused kernels draw, and how many of them are launched; needs no GPU."""

import logging

import pytest
import torch

from pcsa import sampling_argmax
from pcsa._core.triton import grids, launch, origins, points
from pcsa.scripts.bench.operator_kernels import recorded

META = torch.device("meta")


@pytest.mark.skipif(launch.interpreted(), reason="this is the process that it starts")
@pytest.mark.parametrize(
    ("tests", "least"),
    [("words or independent or second_derivative", 4), pytest.param("test", 30, marks=pytest.mark.slow)],
)
def test_kernels_under_the_interpreter(tests, least, interpret):
    assert interpret("tests/core/triton/test_kernels.py", "-k", tests) >= least


@pytest.mark.parametrize("mixture", [False, True])
@pytest.mark.parametrize(
    ("B", "N", "K", "S"), [(1, 1, 1, 1), (8, 2048, 10, 30), (1, 1_000_000, 20, 100), (100_000, 10, 3, 2)]
)
def test_at_most_four_kernels_a_direction(B, N, K, S, mixture):
    pytest.importorskip("triton")
    empty = lambda *shape: torch.empty(*shape, device=META)  # noqa: E731
    ptr = torch.empty(B + 1, dtype=torch.long, device=META)
    inputs = (empty(B * N, K), empty(B * N, 3), empty(B * N, 1), ptr, torch.tensor(0), torch.tensor(1.0))
    with recorded() as forward:
        drawn = points.draw(*inputs, S, mixture)
    with recorded() as backward:
        points.draw_backward(drawn[0], *drawn, *inputs, mixture, True, True, True)
    with recorded() as choice:
        points.choose(inputs[0], *inputs[3:], S)
    assert [len(forward), len(backward), len(choice)] == [2, 3 if N * B < 500_000 and K > 1 else 2, 2]
    # A launch takes fewer than 2^31 programs; what is written grows neither with N times S nor with K times N times S.
    assert all(0 < one.programs < 2**31 for one in forward + backward + choice)
    written = sum(x.numel() for one in forward + backward for x in one.tensors)
    assert written < 40 * (B * N * (K + 4) + 8 * B * K * S)


@pytest.mark.parametrize("shape", [[100], [64, 48], [16, 16, 16]], ids=str)
def test_at_most_four_kernels_a_direction_on_grids(shape):
    pytest.importorskip("triton")
    logits = torch.empty(5, torch.Size(shape).numel(), device=META)
    inputs = (shape, torch.tensor(0), torch.tensor(1.0))
    with recorded() as forward:
        drawn = grids.draw(logits, *inputs, 30)
    with recorded() as backward:
        grids.draw_backward(drawn[0], *drawn, logits, *inputs)
    assert [len(forward), len(backward)] == [2, 2]


def test_kernels_that_cannot_be_built_are_said_once_and_plain_torch_draws(monkeypatch, caplog):
    pos = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    logits = pos[:, :1].clone().requires_grad_()

    def both():
        samples = sampling_argmax(logits, pos, 0.1, num_samples=2, generator=torch.Generator().manual_seed(0))
        return samples, torch.autograd.grad(samples.sum(), logits)[0]

    plain = both()
    # As if the CPU were a GPU: there is no compiler for it.
    monkeypatch.setattr(launch, "FAILED", {})
    monkeypatch.setattr(launch, "usable", lambda device: True)
    monkeypatch.setattr(launch, "interpreted", lambda: False)
    monkeypatch.setattr(points, "draw", lambda *inputs: 1 / 0)
    monkeypatch.setattr(origins, "takes", lambda pos: False)
    monkeypatch.setattr(launch, "_BUILT", {})
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            for ours, wanted in zip(both(), plain, strict=True):
                assert torch.equal(ours, wanted)
    (said,) = caplog.messages
    assert "sampling_argmax of torch.float32 with D=3, 1 axes of the bandwidth and mixture=False" in said
    assert "ZeroDivisionError" in said
