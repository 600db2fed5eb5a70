"""Positions less the middle of a far cloud, by one kernel: the same bits as plain torch's."""

import math

import pytest
import torch

from pcsa._core import points as core
from pcsa._core.points import canonical, equal_clouds, far_origin
from pcsa._core.triton import origins
from pcsa._core.triton.launch import interpreted

pytest.importorskip("triton", reason="Triton is not installed", exc_type=ImportError)

SIZES = (5, 1, 1300, 0, 40)


@pytest.fixture
def clouds(device):
    generator = torch.Generator().manual_seed(0)
    ptr = torch.tensor([0, *SIZES]).cumsum(0)
    batch = torch.arange(len(SIZES)).repeat_interleave(torch.tensor(SIZES))
    pos = torch.randn(sum(SIZES), 3, generator=generator)
    return pos.to(device), ptr.to(device), batch.to(device)


# Of infinity less infinity, NumPy warns.
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning", "ignore:overflow:RuntimeWarning")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("offset", [0.0, 12.5, 1e6, -3e38, math.nan, math.inf])
def test_as_plain_torch_does(clouds, offset, dtype):
    pos, ptr, batch = clouds
    pos = (pos + torch.tensor([offset, -offset, 0.0], device=pos.device)).to(dtype)
    pos[2, 2] = 1e4
    expected = far_origin(pos, batch, len(SIZES), None, None)
    origin, moved = origins.moved(pos, ptr, core._FAR)
    torch.testing.assert_close(origin, expected, rtol=0, atol=0)
    torch.testing.assert_close(moved, pos - expected[batch], rtol=0, atol=0, equal_nan=True)


def test_one_broken_point_leaves_its_cloud_where_it_is(clouds):
    pos, ptr, _ = clouds
    pos = pos + 1e5
    pos[700, 1] = math.nan
    origin, _ = origins.moved(pos, ptr, core._FAR)
    assert origin[2, 1] == 0
    assert origin[2, 0] != 0
    assert origin[0, 1] != 0


@pytest.mark.parametrize("learned", [False, True])
def test_it_is_asked(clouds, learned, monkeypatch):
    pos, ptr, _ = clouds
    pos = (pos + 1e4).requires_grad_(learned)
    logits = torch.zeros(len(pos), 2, device=pos.device)
    asked = canonical(logits, pos, ptr=ptr, near=True, validate=False)
    monkeypatch.setattr(origins, "takes", lambda pos: False)
    by_torch = canonical(logits, pos, ptr=ptr, near=True, validate=False)
    assert torch.equal(asked.pos, by_torch.pos)
    assert torch.equal(asked.origin, by_torch.origin)
    assert asked.pos.requires_grad == learned
    if learned:
        (slope,) = torch.autograd.grad(asked.pos.sum(), pos)
        assert torch.equal(slope, torch.ones_like(pos))


card = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available() or interpreted(), reason="no CUDA device")]


@pytest.mark.parametrize("cuda", [pytest.param("cuda", marks=card)])
def test_equal_clouds_are_kept_and_another_number_is_not_served(cuda):
    like = torch.zeros(1, device=cuda)
    for count, size in ((8, 20), (4, 40), (8, 20), (8, 21)):
        batch, ptr = equal_clouds(count, size, like)
        assert ptr.tolist() == list(range(0, count * size + 1, size))
        assert batch.tolist() == [i // size for i in range(count * size)]
    assert equal_clouds(8, 20, like)[0] is equal_clouds(8, 20, like)[0]
    with torch.inference_mode():
        made = equal_clouds(3, 7, like)[0]
    assert not made.is_inference()
    with torch.cuda.stream(torch.cuda.Stream()):
        assert equal_clouds(8, 20, like)[0] is not equal_clouds(8, 21, like)[0]


def test_equal_clouds_elsewhere_are_made_anew():
    batch, ptr = equal_clouds(2, 3, torch.zeros(1))
    assert batch.tolist() == [0, 0, 0, 1, 1, 1]
    assert ptr.tolist() == [0, 3, 6]
    assert equal_clouds(2, 3, torch.zeros(1))[0] is not batch
