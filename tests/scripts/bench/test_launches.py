"""What is counted without a device."""

import pytest
import torch

from pcsa.scripts.bench import launches


def test_counts_by_hand():
    a, b = torch.empty(2, 3, device="meta"), torch.empty(3, 4, device="meta")
    # A product of 6 + 12 numbers to 8 and a sum of them in place; a transpose and an empty tensor launch nothing.
    counted = launches.count(lambda: (a @ b).add_(1.0).t().new_empty(5))
    assert (counted.kernels, counted.bytes, counted.flops) == (2, 4 * (6 + 12 + 8) + 4 * 8, 2 * 2 * 3 * 4)
    # The gradient: two products more.
    a.requires_grad_(), b.requires_grad_()
    assert launches.count(lambda: (a @ b).backward(torch.empty(2, 4, device="meta"))).flops == 3 * 2 * 2 * 3 * 4
    with pytest.raises(RuntimeError, match="meta"):
        launches.count(lambda: float(a.sum()))  # would wait for the device


def test_clipping_and_optimizer_by_the_tensors_of_a_launch():
    # Norms and their clean-up, the norm of norms (2), the factor (4), the product; the steps' number; 36 parameters.
    assert launches._optimizer([torch.zeros(1)] * 36).kernels == 2 + 2 + 4 + 1 + 1 + 1
    assert launches._optimizer([torch.zeros(1)] * 37).kernels == 12
    assert launches._optimizer([torch.zeros(1)] * 111).kernels == 2 * 2 + 2 + 4 + 2 + 2 + 4


@pytest.mark.slow
def test_a_step_launches_as_many_kernels_for_more_points():
    few, many = launches.step_parts(2, 1024, 5, 4), launches.step_parts(2, 2048, 5, 4)
    for name in ("network", "operator", "losses"):
        assert few[name].kernels == many[name].kernels > 10
    # Of the operator nearly every number belongs to a point; of the network only the finest level's.
    assert 1.8 < many["operator"].bytes / few["operator"].bytes <= 2.0
    assert few["network"].flops < many["network"].flops < 2 * few["network"].flops
    for name in ("network", "searches", "operator", "losses", "cross-entropy"):
        name += " by Triton"
        assert 3 < few[name].kernels == many[name].kernels
    for name in ("network", "losses", "cross-entropy"):
        assert many[f"{name} by Triton"].kernels < many[name].kernels
    steps = launches.whole_steps(many)
    assert steps == launches.whole_steps(few)
    # To graphs go positions, bounds, keypoints and which are visible, and the gradient of the loss, a one; from them
    # come the parts of the loss. An objective outside gives the gradients of scores and presence.
    assert many["around graphs of all"].kernels == 4 + 2 + 1
    assert many["around graphs of the network"].kernels == 2 + 2
    assert steps["step of default preset, by Triton and CUDA graphs: launches"][0] <= 25
    assert [number <= launches._STEP for number, promised in steps.values() if promised] == [True] * 3
