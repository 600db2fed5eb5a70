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


@pytest.mark.slow
def test_a_step_launches_as_many_kernels_for_more_points():
    few, many = launches.step_parts(2, 1024, 5, 4), launches.step_parts(2, 2048, 5, 4)
    for name in ("network", "operator", "losses"):
        assert few[name].kernels == many[name].kernels > 10
    # Of the operator nearly every number belongs to a point; of the network only the finest level's.
    assert 1.8 < many["operator"].bytes / few["operator"].bytes <= 2.0
    assert few["network"].flops < many["network"].flops < 2 * few["network"].flops
