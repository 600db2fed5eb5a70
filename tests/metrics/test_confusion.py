import math

import pytest
import torch

from pcsa.metrics import confused_keypoints

PAIRS = torch.tensor([[[0, 1], [2, 3], [-1, -1]], [[0, 1], [1, 4], [5, 2]]])


def shapes():
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(2, 6, 3, generator=generator, dtype=torch.double)
    predicted = target + 0.8 * torch.randn(2, 6, 3, generator=generator, dtype=torch.double)
    visible = torch.tensor([[True, True, True, False, True, True], [True, True, True, True, True, True]])
    target[0, 3] = math.nan
    return predicted, target, visible


def test_each_prediction_is_held_against_every_annotated_place():
    predicted, target, visible = shapes()
    found = confused_keypoints(predicted, target, visible, PAIRS)
    for b in range(2):
        for k in range(6):
            if not visible[b, k]:
                assert found.nearest[b, k] == -1
                assert not found.exchanged[b, k]
                assert not found.paired[b, k]
                continue
            away = {j: float((predicted[b, k] - target[b, j]).norm()) for j in range(6) if visible[b, j]}
            assert found.nearest[b, k] == min(away, key=away.get)
            pairs = [p for p in PAIRS[b].tolist() if k in p and -1 not in p]
            partners = [j for p in pairs for j in p if j != k and visible[b, j]]
            assert found.paired[b, k] == bool(partners)
            assert found.exchanged[b, k] == any(away[j] < away[k] for j in partners)
    assert found.exchanged.any()
    assert not found.exchanged[found.paired].all()


def test_who_looks_the_wrong_way_exchanges_all_pairs_and_only_those():
    target = torch.tensor([[[-1.0, 0, 0], [1, 0, 0], [-2, 3, 0], [2, 3, 0], [0, 4, 0]]])
    pairs = torch.tensor([[[0, 1], [3, 2]]])
    found = confused_keypoints(target[:, [1, 0, 3, 2, 4]], target, torch.ones(1, 5, dtype=torch.bool), pairs)
    assert found.nearest.tolist() == [[1, 0, 3, 2, 4]]
    assert found.exchanged.tolist() == found.paired.tolist() == [[True, True, True, True, False]]


def test_keypoints_at_one_place_are_their_own():
    target = torch.zeros(1, 3, 2)
    found = confused_keypoints(
        torch.ones(1, 3, 2), target, torch.ones(1, 3, dtype=torch.bool), torch.tensor([[[0, 1]]])
    )
    assert found.nearest.tolist() == [[0, 1, 2]]
    assert not found.exchanged.any()


def test_without_pairs_nobody_has_a_partner():
    found = confused_keypoints(*shapes())
    assert not found.paired.any()
    assert not found.exchanged.any()


def test_bad_input_is_refused():
    predicted, target, visible = shapes()
    with pytest.raises(ValueError, match=r"`pairs` \[1, 3, 2\] must be \[2, P, 2\]"):
        confused_keypoints(predicted, target, visible, PAIRS[:1])
    with pytest.raises(ValueError, match=r"`pairs` must be whole numbers, not torch\.float32"):
        confused_keypoints(predicted, target, visible, PAIRS.float())
    with pytest.raises(ValueError, match=r"`pairs` must be columns below K \(=6\), or -1"):
        confused_keypoints(predicted, target, visible, PAIRS + 2)
    with pytest.raises(ValueError, match="`target` must be finite where `visible`"):
        confused_keypoints(predicted, target, torch.ones(2, 6, dtype=torch.bool), PAIRS)
