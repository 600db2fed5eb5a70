"""Turns of clouds: rotations, uniform, that take the keypoints along."""

import math

import pytest
import torch
from torch_geometric.data import Data

from pcsa.datasets.rotations import random_turn, turn_about
from pcsa.datasets.turning import frames_of, in_a_frame, turned


def cloud(n=50):
    generator = torch.Generator().manual_seed(3)
    pos = torch.tensor([3.0, 2.0, 1.0]) * torch.randn(n, 3, generator=generator)
    visible = torch.tensor([[True, False, True]])
    keypoints = torch.where(visible[..., None], pos[None, :3], 0.0)
    marks = pos[None, :3, None].expand(1, 3, 2, 3).clone()
    return Data(pos=pos, keypoints=keypoints, visible=visible, marks=marks, marked=visible[..., None].expand(1, 3, 2))


@pytest.mark.parametrize("up", [None, 0, 1, 2])
def test_turns_are_rotations_uniform_over_directions(up):
    generator = torch.Generator().manual_seed(0)
    turns = torch.stack([random_turn(generator, up) for _ in range(2000)])
    identity = torch.eye(3, dtype=torch.double)
    torch.testing.assert_close(turns @ turns.mT, identity.expand(2000, 3, 3))
    torch.testing.assert_close(torch.linalg.det(turns), torch.ones(2000, dtype=torch.double))
    mean = turns.mean(0)
    expected = torch.zeros(3, 3, dtype=torch.double)
    if up is not None:
        expected[up, up] = 1
        torch.testing.assert_close(turns[:, up], identity[up].expand(2000, 3))
    # Entries have variances of 1/3 or 1/2: five standard errors.
    assert (mean - expected).abs().max() < 5 * math.sqrt(0.5 / 2000)
    if up is None:
        # The trace of a uniform rotation is 1 + 2 cos t, t with the density (1 - cos t) / pi: its square has mean 1.
        trace = turns.diagonal(dim1=1, dim2=2).sum(1)
        assert abs(trace.square().mean() - 1) < 5 * math.sqrt(2 / 2000)


def test_a_turn_about_an_axis():
    quarter = turn_about(torch.tensor([0.0, 2.0, 0.0]), math.pi / 2)
    torch.testing.assert_close(torch.tensor([[0.0, 5, 1]]).double() @ quarter.mT, torch.tensor([[1.0, 5, 0]]).double())


def test_keypoints_and_marks_turn_along_and_missing_ones_stay_zeros():
    data, turn = cloud(), random_turn(torch.Generator().manual_seed(0))
    out = turned(data, turn)
    torch.testing.assert_close(out.pos, data.pos @ turn.float().mT)
    torch.testing.assert_close(out.keypoints[0, [0, 2]], out.pos[[0, 2]])
    torch.testing.assert_close(out.marks[0, 2, 1], out.pos[2])
    assert not out.keypoints[0, 1].any()
    assert not out.marks[0, 1].any()


@pytest.mark.parametrize("up", [None, 1])
def test_a_cloud_comes_in_the_frame_nearest_to_how_it_stands_or_in_a_wrong_one_without_keypoints(up):
    data = cloud()
    frames = frames_of(data.pos, up)
    angle = torch.rad2deg(torch.arccos(((frames.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2).clamp(-1, 1)))
    nearest, right, wrong = int(angle.argmin()), 0, set()
    for seed in range(300):
        out = in_a_frame(data, torch.Generator().manual_seed(seed), up)
        distance = ((data.pos @ frames) - out.pos).abs().amax((1, 2))
        assert distance.min() < 1e-5
        place = int(distance.argmin())
        if place == nearest:
            right += 1
            assert torch.equal(out.visible, data.visible)
            torch.testing.assert_close(out.keypoints[0, 0], out.pos[0])
        else:
            wrong.add(place)
            assert not out.visible.any()
            assert not out.keypoints.any()
            assert not out.marked.any()
    # Half of 300: five standard deviations are 43.
    assert abs(right - 150) < 43
    assert wrong <= {i for i in range(len(frames)) if angle[i] > 60 - 1e-3} - {nearest}
    # Of 23 one may be missed by chance.
    assert len(wrong) >= (18 if up is None else 3)


def test_half_of_the_wrong_frames_are_drawn_by_how_much_the_cloud_looks_like_itself_in_them():
    # A slab that is the same end for end, but for a mark in a corner; no two of its axes are alike.
    generator = torch.Generator().manual_seed(0)
    quarter = (torch.rand(200, 3, generator=generator) + 0.02) * torch.tensor([2.0, 1.0, 0.2])
    signs = torch.tensor([[1.0, 1, 1], [-1, -1, 1], [1.5, -1, 1], [-1.5, 1, 1]])
    pos = (quarter.unsqueeze(1) * signs).reshape(-1, 3)
    ends = torch.diag(torch.tensor([-1.0, -1.0, 1.0]))
    # The two halves are exchanged by a half turn: it leaves the set of points as it is.
    torch.testing.assert_close(pos @ ends, pos.view(-1, 4, 3)[:, [1, 0, 3, 2]].reshape(-1, 3))
    data = Data(pos=pos, keypoints=pos[None, :3], visible=torch.ones(1, 3, dtype=torch.bool))
    wrong = []
    for seed in range(600):
        out = in_a_frame(data, generator.manual_seed(seed))
        if not out.visible.any():
            wrong.append(out.pos)
    # Principal axes are not those of the slab: what is turned is how it lies in the frame nearest to them.
    frames = frames_of(pos)
    nearest = frames[int(frames.diagonal(dim1=1, dim2=2).sum(1).argmax())]
    half = pos @ nearest @ ends
    turned_by_half = sum(bool((p - half).abs().max() < 1e-4) for p in wrong)
    # Half, since no other frame is as near, and its share of the other half, 1/23: five standard deviations.
    expected = 0.5 + 0.5 / 23
    assert abs(expected - turned_by_half / len(wrong)) < 5 * math.sqrt(0.25 / len(wrong))
