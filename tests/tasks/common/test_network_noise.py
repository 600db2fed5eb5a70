import pytest
import torch
from torch.nn import functional as F

from pcsa.tasks.common.network_noise import network_noise

CPU = torch.device("cpu")


def _dropped(seed):
    generator = torch.Generator().manual_seed(seed)
    with network_noise(generator, CPU):
        out = F.dropout(torch.ones(100))
    return out, torch.rand(1, generator=generator)


def test_draws_follow_the_generator_and_leave_torchs_own():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first, after = _dropped(1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(5)
    again, after_again = _dropped(1)
    assert torch.equal(first, again)
    assert torch.equal(after, after_again)
    assert not torch.equal(first, _dropped(2)[0])


def test_torchs_own_generator_goes_on_after_an_error():
    before = torch.get_rng_state()
    with pytest.raises(ValueError, match="dropout probability"), network_noise(torch.Generator(), CPU):
        F.dropout(torch.rand(1), 2.0)
    assert torch.equal(torch.get_rng_state(), before)
