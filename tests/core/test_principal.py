"""Frames of principal axes: against an eigensolver, turned clouds, and clouds without a frame."""

import pytest
import torch

from pcsa._core.principal import axis_rotations, diagonalized, principal_frames
from pcsa.datasets.rotations import random_turn

SIZES = torch.tensor([3.0, 2.0, 1.0], dtype=torch.double)


def ragged(*counts, seed=0, dtype=torch.double):
    pos = SIZES * torch.randn(sum(counts), 3, generator=torch.Generator().manual_seed(seed), dtype=torch.double)
    ptr = torch.tensor([0, *counts]).cumsum(0)
    return pos.to(dtype), torch.arange(len(counts)).repeat_interleave(torch.tensor(counts)), ptr


def test_rotations_diagonalize_as_an_eigensolver_does():
    root = torch.randn(50, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.double)
    matrix = root @ root.mT
    axes, left = diagonalized(matrix, ((0, 1), (0, 2), (1, 2)) * 6)
    torch.testing.assert_close(left.sort().values, torch.linalg.eigvalsh(matrix), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(axes @ torch.diag_embed(left) @ axes.mT, matrix, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(torch.linalg.det(axes), torch.ones(50, dtype=torch.double))


@pytest.mark.parametrize("up", [None, 0, 1, 2])
def test_frames_are_different_rotations_that_lay_a_cloud_along_the_axes(up):
    pos, batch, ptr = ragged(60, 40)
    frames = principal_frames(pos, batch, ptr, up)
    assert frames.shape == (2, 24 if up is None else 4, 3, 3)
    torch.testing.assert_close(torch.linalg.det(frames), torch.ones(frames.shape[:2], dtype=torch.double))
    assert len(torch.unique(frames[0].flatten(1), dim=0)) == frames.shape[1]
    for cloud, of_cloud in zip(pos.split([60, 40]), frames, strict=True):
        for frame in of_cloud:
            second = torch.cov((cloud @ frame).mT)
            a, b = (0, 1) if up is None else ((up + 1) % 3, (up + 2) % 3)
            assert abs(second[a, b]) < 1e-9
            if up is None:
                assert abs(second[0, 2]) < 1e-9 > abs(second[1, 2])
            else:
                torch.testing.assert_close((cloud @ frame)[:, up], cloud[:, up])


def test_rotations_that_bring_axes_to_axes_are_a_group():
    for up, count in ((None, 24), (0, 4), (1, 4), (2, 4)):
        found = axis_rotations(up)
        assert found[0] == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
        matrices = torch.tensor(found)
        products = {tuple((a @ b).flatten().tolist()) for a in matrices for b in matrices}
        assert products == {tuple(m.flatten().tolist()) for m in matrices}
        assert len(products) == count


@pytest.mark.parametrize("up", [None, 1])
def test_a_turned_cloud_has_the_same_clouds_in_its_frames(up):
    pos, batch, ptr = ragged(30, 1, 50)
    for seed in range(5):
        turn = random_turn(torch.Generator().manual_seed(seed), up)
        other = pos @ turn.mT
        first, second = (principal_frames(x, batch, ptr, up) for x in (pos, other))
        for i, rows in ((0, slice(0, 30)), (2, slice(31, 81))):
            for frame in first[i]:
                views = other[rows] @ second[i]
                assert (views - pos[rows] @ frame).abs().amax((1, 2)).min() < 1e-9


def test_clouds_are_alike_together_and_alone_and_far_off_and_small():
    pos, batch, ptr = ragged(30, 50)
    frames = principal_frames(pos, batch, ptr)
    alone = principal_frames(pos[30:], batch[30:] - 1, torch.tensor([0, 50]))
    torch.testing.assert_close(frames[1:], alone)
    for other in (pos + 1000, 1e-12 * pos, 1e12 * pos):  # which eigenvector comes first, nothing here changes
        torch.testing.assert_close(principal_frames(other, batch, ptr), frames, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("pos", [torch.zeros(1, 3), torch.ones(5, 3), torch.tensor([[0.0, 0, 0], [0, 0, 1]])])
@pytest.mark.parametrize("up", [None, 2])
def test_points_and_lines_have_frames_too(pos, up):
    frames = principal_frames(pos, torch.zeros(len(pos), dtype=torch.long), torch.tensor([0, len(pos)]), up)
    torch.testing.assert_close(frames[0] @ frames[0].mT, torch.eye(3).expand(len(frames[0]), 3, 3))
