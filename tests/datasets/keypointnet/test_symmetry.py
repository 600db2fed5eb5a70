import math

import torch

from pcsa.datasets.keypointnet import CLASS_IDS, rotated_labelings

BED = CLASS_IDS["bed"]


def ring(n: int, center: tuple[float, float] = (1.0, -2.0), height: float = 0.5) -> torch.Tensor:
    angle = torch.arange(n) * (2 * math.pi / n)
    return torch.stack([center[0] + angle.cos(), torch.full((n,), height), center[1] + angle.sin()], 1)


def test_rotated_labelings_of_a_square() -> None:
    # Points 0..7 on a circle, keypoints on the even ones plus one in the middle; a fifth column is missing.
    pos = torch.cat([ring(8), torch.tensor([[1.0, 0.0, -2.0]])])
    keypoints = torch.cat([pos[[0, 2, 4, 6, 8]], torch.zeros(1, 3)])
    visible = torch.tensor([True] * 5 + [False])
    labelings, index = rotated_labelings(pos, keypoints, visible, [([0, 1, 2, 3], False)])
    # Every quarter turn takes 0 -> 2 -> 4 -> 6 -> 0 one way round, and the middle stays.
    turns = [tuple(row[:4].tolist()) for row in index]
    assert turns[0] == (0, 2, 4, 6)
    assert set(turns) == {(0, 2, 4, 6), (2, 4, 6, 0), (4, 6, 0, 2), (6, 0, 2, 4)}
    assert index[:, 4].tolist() == [8] * 4
    assert index[:, 5].tolist() == [-1] * 4
    assert (labelings[:, 5] == 0).all()
    assert torch.equal(labelings[:, :5], pos[index[:, :5]])


def test_number_of_rotations() -> None:
    pos = ring(72)
    keypoints, visible = pos[[0, 36]], torch.tensor([True, True])

    def count(groups: list, category: str | None = None) -> int:
        return len(rotated_labelings(pos, keypoints, visible, groups, category=category)[0])

    assert count([]) == 1
    assert count([([0, 1], False)]) == 2
    assert count([([0, 1], True)]) == 36
    assert count([([0, 1], True), ([0], False)]) == 2  # the size of the first group, as not all are circles
    assert count([([0, 1], True)], category="chair") == 1
    index = rotated_labelings(pos, keypoints, visible, [([0, 1], True)])[1]
    assert sorted(index[:, 0].tolist()) == list(range(0, 72, 2))
    assert ((index[:, 1] - index[:, 0]) % 72 == 36).all()


def test_rotated_labelings_keep_the_annotation_first() -> None:
    pos = ring(8)
    keypoints = pos[:2] + 0.01  # not cloud points, as after dropping some
    for groups in ([], [([0, 1], False)]):
        labelings, index = rotated_labelings(pos, keypoints, torch.tensor([True, True]), groups)
        assert torch.equal(labelings[0], keypoints)
        assert index[0].tolist() == [0, 1]
