import math

import numpy as np
import pytest
import torch
from torch import Tensor

from pcsa.metrics import keypoint_error, pck, symmetric_error

NAN = math.nan


def square() -> tuple[Tensor, Tensor, Tensor]:
    """A square's corners, and its labelings turned by 0, 90, 180 and 270 degrees, as positions and rows."""
    pos = torch.tensor([[1.0, 1], [-1, 1], [-1, -1], [1, -1]])
    index = torch.stack([(torch.arange(4) + r) % 4 for r in range(4)])
    return pos, pos[index], index


def test_a_square_turned_by_90_degrees_is_right_under_its_symmetry_only(bools):
    pos, candidates, index = square()
    visible = bools("1111")
    predicted = pos[[1, 2, 3, 0]]  # every corner called by its neighbor's name
    assert pck(keypoint_error(predicted[None], pos[None], visible), visible, [0.1]).item() == 0
    by_distance = symmetric_error(predicted, candidates, visible[0])
    logits = 5 * torch.nn.functional.one_hot(index[1], 4).T.float()  # column k peaks at row index[1, k]
    by_entropy = symmetric_error(predicted, candidates, visible[0], logits=logits, index=index)
    for error, choice in (by_distance, by_entropy):
        assert choice.item() == 1
        assert pck(error[None], visible, [0.1]).item() == 1


def test_cross_entropy_decides_when_given(bools):
    # The positions say labeling 1, the network's map says labeling 2: the benchmark's rule follows the map.
    _, candidates, index = square()
    logits = 5 * torch.nn.functional.one_hot(index[2], 4).T.float()
    error, choice = symmetric_error(candidates[1], candidates, bools("1111")[0], logits=logits, index=index)
    assert choice.item() == 2
    assert error.tolist() == [2, 2, 2, 2]  # neighboring corners of a square of side 2
    log_prob = logits.log_softmax(0)
    again = symmetric_error(candidates[1], candidates, bools("1111")[0], logits=log_prob, index=index)
    assert again.choice.item() == 2


def test_cross_entropy_is_that_of_the_benchmark():
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        logits = torch.randn(9, 4, generator=generator)
        index = torch.randint(0, 9, (5, 4), generator=generator)
        visible = torch.tensor([True, True, False, True])
        target = index.masked_fill(~visible, -1)  # as the loader marks what is missing
        loss = [torch.nn.functional.cross_entropy(logits.T, t, ignore_index=-1).item() for t in target]
        pos = torch.rand(9, 3, generator=generator)
        choice = symmetric_error(
            torch.rand(4, 3, generator=generator), pos[index], visible, logits=logits, index=target
        ).choice
        assert choice.item() == int(np.argmin(loss))


def test_symmetry_ignores_what_is_missing(bools):
    _, candidates, _ = square()
    candidates[:, 3] = NAN
    predicted = candidates[2].clone()
    error, choice = symmetric_error(predicted, candidates, bools("1110")[0])
    assert choice.item() == 2
    assert error.tolist() == [0, 0, 0, 0]


def test_symmetric_error_has_a_gradient(bools):
    _, candidates, _ = square()
    predicted = (candidates[1] + torch.tensor([0.3, 0.4])).requires_grad_()
    symmetric_error(predicted, candidates, bools("1111")[0]).error.sum().backward()
    torch.testing.assert_close(predicted.grad, torch.tensor([[0.6, 0.8]] * 4))


P, T, V = torch.zeros(2, 3, 3), torch.ones(2, 3, 3), torch.ones(2, 3, dtype=torch.bool)
D = torch.ones(2, 3)
BAD = P.index_fill(1, torch.tensor([1]), NAN)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: symmetric_error(P[0], T[:, :2], V[0]), "`candidates`"),
        (lambda: symmetric_error(P[0], T[:0], V[0]), "`candidates`"),
        (lambda: symmetric_error(P[0], T, V), "`visible`"),
        (lambda: symmetric_error(BAD[0], T, V[0]), "`predicted` must be finite"),
        (lambda: symmetric_error(P[0], T, V[0], logits=torch.zeros(5, 3)), "`logits` and `index`"),
        (lambda: symmetric_error(P[0], T, V[0], index=V.long()), "`logits` and `index`"),
        (lambda: symmetric_error(P[0], T, V[0], logits=torch.zeros(5, 2), index=V.long()), "`logits`"),
        (lambda: symmetric_error(P[0], T, V[0], logits=torch.zeros(5, 3), index=D), "`index`"),
        (
            lambda: symmetric_error(P[0], T, V[0], logits=torch.zeros(5, 3) / 0, index=V.long()),
            "`logits`.*finite",
        ),
        (
            lambda: symmetric_error(P[0], T, V[0], logits=torch.zeros(5, 3), index=V.long() * 5),
            "`index`.*0 to 4",
        ),
        (lambda: symmetric_error(P[0], T / 0, V[0]), "`candidates` must be finite"),
    ],
)
def test_bad_input(call, match):
    with pytest.raises(ValueError, match=match):
        call()
