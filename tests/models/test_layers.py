import pytest
import torch

from pcsa.models import DropPath, KeypointDetector, PointNet2
from pcsa.models.layers import largest

SIZES = (3, 1, 4, 2)
BATCH = torch.arange(4).repeat_interleave(torch.tensor(SIZES))


def test_drop_path_takes_a_branch_from_whole_clouds():
    torch.manual_seed(0)
    branch = torch.randn(10, 5, dtype=torch.float64)
    drop = DropPath(0.25)
    kept = torch.zeros(4)
    for _ in range(2000):
        out = drop(branch, BATCH, 4)
        for b in range(4):
            own = BATCH.eq(b)
            rows, whole = out[own], branch[own] / 0.75
            there = bool(rows.any())
            torch.testing.assert_close(rows, whole if there else torch.zeros_like(whole))
            kept[b] += there
    # Standard deviation of the share of 2000 draws: sqrt(0.75 0.25 / 2000) = 0.0097.
    assert (kept / 2000 - 0.75).abs().max() < 5 * 0.0097


def test_drop_path_draws_nothing_where_nothing_is_dropped():
    branch = torch.randn(10, 5)
    before = torch.get_rng_state()
    assert DropPath(0.0)(branch, BATCH, 4) is branch
    assert DropPath(0.9).eval()(branch, BATCH, 4) is branch
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("probability", [-0.1, 1.0, float("nan")])
def test_drop_path_errors(probability):
    with pytest.raises(ValueError, match=r"`drop_path` \(=.*\) must be at least 0 and below 1"):
        DropPath(probability)


def test_dropout_of_the_head():
    torch.manual_seed(0)
    pos = torch.rand(60, 3)
    plain = KeypointDetector(PointNet2(norm="group"), 5)
    dropping = KeypointDetector(PointNet2(norm="group"), 5, dropout=0.5)
    # Weights keep their names: one loads where the other was saved.
    dropping.load_state_dict(plain.state_dict())
    expected = plain(None, pos)["logits"]
    assert torch.equal(dropping.eval()(None, pos)["logits"], expected)
    dropping.train()
    features = plain.backbone(None, pos)
    hidden = plain.score[:2](features)
    torch.manual_seed(1)
    out = dropping(None, pos)["logits"]
    torch.manual_seed(1)
    kept = torch.nn.functional.dropout(hidden, 0.5)
    torch.testing.assert_close(out, plain.score[2](kept))
    assert not torch.allclose(out, expected)
    with pytest.raises(ValueError, match=r"`dropout` \(=1\) must be at least 0 and below 1"):
        KeypointDetector(PointNet2(), 5, dropout=1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(
    ("rows", "channels", "size"), [(7, 33, 16), (300, 8, 5), (1, 3, 4), (5, 1, 2), (6, 4, 1), (0, 4, 3)]
)
def test_largest_of_rows(rows, channels, size, dtype):
    generator = torch.Generator().manual_seed(rows)
    # Few values, so that many are equal: of these, the first has the gradient.
    x = torch.randint(-3, 4, (rows * size, channels), generator=generator).to(dtype).requires_grad_()
    out = largest(x, size)
    expected = x.view(rows, size, channels).max(1)
    assert torch.equal(out, expected.values)
    assert out.is_contiguous()
    pull = torch.randn(out.shape, generator=generator).to(dtype)
    ours, naive = (torch.autograd.grad(y, x, pull)[0] for y in (out, expected.values))
    assert torch.equal(ours, naive)


def test_largest_keeps_what_is_no_number():
    x = torch.tensor([[1.0, 2.0], [float("nan"), 3.0], [-float("inf"), 0.0], [-float("inf"), 5.0]])
    out = largest(x, 2)
    assert out[0, 0].isnan()
    assert out[:, 1].tolist() == [3.0, 5.0]
    assert out[1, 0] == -float("inf")
