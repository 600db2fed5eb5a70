"""Objectives between shapes against loops over pairs, and numbers checked by hand."""

import itertools
import math

import pytest
import torch
from torch.autograd import gradcheck

from pcsa.losses import keypoint_contrast, place_spread


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype).requires_grad_()


def literal_contrast(features, temperature):
    """[B, K], one pair of shapes and one keypoint at a time."""
    B, K, _ = features.shape
    rows = []
    for a, k in itertools.product(range(B), range(K)):
        total = 0 * features[a, k].sum()
        for b in range(B):
            if b != a:
                x, others = features[a, k], features[b]
                score = [(x @ y / (x.norm() * y.norm())) / temperature for y in others]
                total = total - (score[k].exp() / sum(s.exp() for s in score)).log()
        rows.append(total / max(B - 1, 1))
    return torch.stack(rows).view(B, K)


def literal_spread(places):
    B = len(places)
    rows = []
    for b, k in itertools.product(range(B), range(places.shape[1])):
        middle = sum(places[a, k] for a in range(B)) / B
        rows.append(sum((x - m) ** 2 for x, m in zip(places[b, k], middle, strict=True)))
    return torch.stack(rows).view(B, -1)


LOSSES = {
    "contrast": (
        lambda x, **options: keypoint_contrast(x, temperature=0.5, **options),
        lambda x: literal_contrast(x, 0.5),
    ),
    "spread": (place_spread, literal_spread),
}


@pytest.fixture(params=LOSSES)
def pair(request):
    return LOSSES[request.param]


@pytest.mark.parametrize("shape", [(4, 3, 5), (2, 1, 3), (1, 4, 2)])
def test_forward_and_backward_equal_the_loop(pair, shape, close):
    loss, literal = pair
    x = draw(*shape)
    actual, expected = loss(x, reduction="none"), literal(x)
    close(actual, expected)
    close(loss(x), expected.mean())
    close(loss(x, reduction="sum"), expected.sum())
    weight = draw(*expected.shape, seed=1).detach()
    wanted = torch.autograd.grad((weight * expected).sum(), x)[0]
    close(torch.autograd.grad((weight * actual).sum(), x)[0], wanted)


def test_gradcheck(pair):
    assert gradcheck(lambda x: pair[0](x, reduction="none"), draw(3, 2, 4))


def test_order_of_shapes_and_keypoints_does_not_matter(pair, close):
    x, shapes, keypoints = draw(4, 3, 5), torch.tensor([2, 0, 3, 1]), torch.tensor([1, 2, 0])
    close(pair[0](x[shapes][:, keypoints], reduction="none"), pair[0](x, reduction="none")[shapes][:, keypoints])


def test_compiles_in_one_graph(pair, close):
    x = draw(4, 3, 5)
    close(torch.compile(pair[0], backend="eager", fullgraph=True)(x), pair[0](x))


def test_half_precision_is_computed_in_float32(pair):
    x = draw(4, 3, 5, dtype=torch.float32).detach()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(pair[0](x), pair[0](x.clone()))
        assert pair[0](x).dtype == torch.float32
    assert pair[0](x.bfloat16()).dtype == torch.float32


def test_contrast_by_hand():
    K = 4
    alike = torch.ones(3, K, 5)  # nothing tells them apart
    assert keypoint_contrast(alike).item() == pytest.approx(math.log(K))
    own = torch.eye(K).expand(3, K, K)
    assert keypoint_contrast(own, temperature=0.5).item() == pytest.approx(math.log(1 + 3 * math.exp(-2)))
    swapped = torch.stack([torch.eye(K), torch.eye(K)[[1, 0, 2, 3]]])  # 0 and 1 are taken for each other
    assert keypoint_contrast(swapped, temperature=0.5, reduction="none")[0].tolist() == pytest.approx(
        [2 + math.log(1 + 3 * math.exp(-2))] * 2 + [math.log(1 + 3 * math.exp(-2))] * 2
    )
    # The length of a feature does not matter, and one of length zero gives no NaN.
    x = draw(3, K, 5).detach()
    assert keypoint_contrast(7 * x).item() == pytest.approx(keypoint_contrast(x).item())
    zero = torch.zeros(2, K, 5, requires_grad=True)
    keypoint_contrast(zero).backward()
    assert zero.grad.isfinite().all()


def test_spread_is_half_of_the_mean_squared_distance_of_pairs(close):
    places = draw(5, 3, 3).detach()
    pairs = torch.stack([(a - b).square().sum(1) for a, b in itertools.product(places, places)])
    close(place_spread(places), pairs.mean() / 2)
    close(place_spread(places + 3), place_spread(places))
    close(place_spread(3 * places), 9 * place_spread(places))
    assert place_spread(places[:1]).item() == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: keypoint_contrast(torch.zeros(3, 4)), r"`features` \[3, 4\] must be \[B, K, C\]"),
        (lambda: keypoint_contrast(torch.zeros(3, 4, 2), temperature=0.0), r"`temperature` \(=0.0\)"),
        (lambda: keypoint_contrast(torch.zeros(3, 4, 2), reduction="max"), r"`reduction` \(='max'\)"),
        (lambda: keypoint_contrast(torch.zeros(3, 4, 2, dtype=torch.long)), "`features`"),
        (lambda: place_spread(torch.zeros(3)), r"`places` \[3\]"),
        (lambda: place_spread(torch.zeros(3, 4, 2), reduction="max"), r"`reduction` \(='max'\)"),
    ],
)
def test_bad_input_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()
