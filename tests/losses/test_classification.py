import numpy as np
import pytest
import torch

import pcsa.losses as losses

K, D = 3, 2


def test_nearest_point_breaks_ties_by_the_first_row():
    pos = torch.tensor([[5.0], [1.0], [-1.0], [1.0], [0.5], [-1.0], [1.0]])
    batch = torch.tensor([0, 0, 0, 0, 1, 1, 1])
    logits = torch.arange(7.0).unsqueeze(1).requires_grad_()
    loss = losses.nearest_point_cross_entropy(logits, pos, torch.tensor([[[0.0]], [[0.0]]]), batch, reduction="sum")
    gradient = torch.autograd.grad(loss, logits)[0].squeeze(1)
    # Rows 1, 2 and 3 are at distance 1: the first counts, and its copy.
    assert (gradient < 0).nonzero().flatten().tolist() == [1, 3, 4]


def test_the_probabilities_of_copies_add_up():
    # Three copies, 0.2 each, and one point of 0.4; -0.0 is 0.0, and the copy in the other cloud is another's.
    pos = torch.tensor([[0.0], [-0.0], [3.0], [0.0], [0.0], [1.0]])
    logits = torch.tensor([0.2, 0.2, 0.4, 0.2, 0.5, 0.5]).log()[:, None]
    ptr, target = torch.tensor([0, 4, 6]), torch.tensor([[[0.1]], [[0.1]]])
    for right in ({"target": target}, {"index": torch.tensor([[3], [4]])}):
        loss = losses.nearest_point_cross_entropy(logits, pos, ptr=ptr, reduction="none", **right)
        torch.testing.assert_close(loss.exp(), torch.tensor([[1 / 0.6], [2.0]]))
    # The limit of the likelihood: up to a constant, that of one point.
    nll = losses.mixture_nll(logits, pos, 0.1, torch.zeros(2, 1, 1), ptr=ptr, reduction="none")
    torch.testing.assert_close(nll[0] - nll[1], loss[0] - loss[1])


def test_index_counts_rows_of_pos_and_in_dense_input_rows_of_its_cloud(Case):
    case = Case(12, sizes=(4, 4))
    rows = case.index + torch.tensor([[0], [4]])
    ragged = losses.nearest_point_cross_entropy(case.logits, case.pos, batch=case.batch, index=rows)
    dense = losses.nearest_point_cross_entropy(case.logits.view(2, 4, K), case.pos.view(2, 4, D), index=case.index)
    torch.testing.assert_close(ragged, dense)
    expected = torch.nn.functional.cross_entropy(case.logits.view(2, 4, K), case.index)
    torch.testing.assert_close(ragged, expected)
    missing = torch.ones(2, 4, dtype=torch.bool)
    missing[0, case.index[0, 0]] = False
    with pytest.raises(ValueError, match=r"`index`.*existing"):
        losses.nearest_point_cross_entropy(
            case.logits.view(2, 4, K), case.pos.view(2, 4, D), index=case.index, mask=missing
        )


def test_presence_loss():
    score = torch.tensor([[0.5, -1.0], [3.0, 0.0]], requires_grad=True)
    label = torch.tensor([[True, False], [False, True]])
    prob = 1 / (1 + np.exp(-score.detach().numpy()))
    expected = -np.log(np.where(label.numpy(), prob, 1 - prob))
    np.testing.assert_allclose(losses.presence_loss(score, label, reduction="none").detach(), expected, rtol=1e-5)
    assert losses.presence_loss(score, label).item() == pytest.approx(expected.mean(), rel=1e-5)
    assert losses.presence_loss(score, label, reduction="sum").item() == pytest.approx(expected.sum(), rel=1e-5)
    gradient = torch.autograd.grad(losses.presence_loss(score, label, reduction="sum"), score)[0]
    np.testing.assert_allclose(gradient, prob - label.numpy(), rtol=1e-5)
    assert losses.presence_loss(torch.zeros(0, 2), torch.zeros(0, 2, dtype=torch.bool)).item() == 0
