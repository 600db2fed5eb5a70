import math

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch_geometric.data import Batch, Data

from pcsa.datasets.keypointnet import KeypointData
from pcsa.datasets.transforms import (
    Augment,
    Normalize,
    denormalize,
    drop_points,
    item_generator,
    mirror_partners,
    random_mirror,
    resample_points,
    rotate_up,
)

# A table: legs 0..3 at the corners of a 4 x 2 rectangle, 4 the middle of the top, 5 missing.
CORNERS = [[-2.0, 0.0, -1.0], [2.0, 0.0, -1.0], [2.0, 0.0, 1.0], [-2.0, 0.0, 1.0]]
AROUND_X = [[0, 1], [3, 2]]  # exchanged by the plane x = c
AROUND_Z = [[0, 3], [1, 2]]  # exchanged by the plane z = c


def table(reflection: list[list[int]], shift: float = 0.0) -> Data:
    torch.manual_seed(0)
    points = torch.tensor([*CORNERS, [0.0, 1.0, 0.0]])
    filling = torch.rand(20, 3) * torch.tensor([4.0, 1.0, 2.0]) - torch.tensor([2.0, 0.0, 1.0])
    pos = torch.cat([points, filling]) + shift
    keypoints = torch.cat([pos[:5], torch.zeros(1, 3)])
    pairs = [*reflection, *[[-1, -1]] * (6 - len(reflection))]
    return KeypointData(
        pos=pos,
        color=torch.randint(0, 256, pos.shape, dtype=torch.uint8),
        keypoints=keypoints[None],
        visible=torch.tensor([[True] * 5 + [False]]),
        keypoint_index=torch.tensor([[0, 1, 2, 3, 4, -1]]),
        reflection=torch.tensor(pairs)[None],
        rotation=torch.tensor([[[0, 2], [1, 3], [-1, -1]]]),
        is_circle=torch.zeros(1, 3, dtype=torch.bool),
        model_id="table",
    )


def same(a: Data, b: Data) -> bool:
    pairs = [(value, b[key]) for key, value in a.to_dict().items()]
    return all(torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y for x, y in pairs)


@pytest.mark.parametrize("mode", ["unit_sphere", "unit_box", "min_max"])
def test_normalize_can_be_undone(mode: str) -> None:
    data = table(AROUND_X, shift=5.0)
    before = data.clone()
    out = Normalize(mode)(data)
    assert same(data, before)
    torch.testing.assert_close(denormalize(out.pos, out.offset, out.scale), data.pos)
    restored = denormalize(out.keypoints, out.offset, out.scale)
    torch.testing.assert_close(restored[data.visible], data.keypoints[data.visible])
    assert (out.keypoints[0, 5] == 0).all()
    torch.testing.assert_close(out.pos[:5], out.keypoints[0, :5])
    twice = Normalize("unit_box")(out)
    torch.testing.assert_close(denormalize(twice.pos, twice.offset, twice.scale), data.pos)


def test_normalize_by_hand() -> None:
    data = Data(pos=torch.tensor([[1.0, 0.0, 0.0], [5.0, 2.0, 0.0], [0.0, 1.0, 0.0]]))
    out = Normalize("unit_box")(data)  # box 5 x 2 x 0 around (2.5, 1, 0)
    assert out.offset.tolist() == [[2.5, 1.0, 0.0]]
    assert out.scale.tolist() == [[2.5]]
    out = Normalize("min_max")(data)  # 0 -> -1, 5 -> 1 on every axis
    torch.testing.assert_close(out.pos[1], torch.tensor([1.0, -0.2, -1.0]))
    out = Normalize("unit_sphere")(data)  # centroid (2, 1, 0), farthest (5, 2, 0) at sqrt(10)
    assert out.offset.tolist() == [[2.0, 1.0, 0.0]]
    assert out.scale.item() == pytest.approx(math.sqrt(10))


@pytest.mark.parametrize("mode", ["unit_sphere", "unit_box", "min_max"])
def test_normalize_without_extent(mode: str) -> None:
    out = Normalize(mode)(Data(pos=torch.full((3, 3), 2.0)))
    assert out.scale.item() == 1.0
    assert (out.pos == 0).all()
    with pytest.raises(ValueError, match="no points"):
        Normalize(mode)(Data(pos=torch.zeros(0, 3)))


def test_normalize_unknown_mode() -> None:
    with pytest.raises(ValueError, match="`mode`"):
        Normalize("sphere")


def test_denormalize_batches() -> None:
    clouds = [table(AROUND_X, shift) for shift in (0.0, 3.0)]
    clouds[1] = drop_points(clouds[1], item_generator(0, 0, 0), 0.5)
    batch = Batch.from_data_list([Normalize("unit_sphere")(cloud) for cloud in clouds])
    pos = denormalize(batch.pos, batch.offset, batch.scale, batch.batch)
    torch.testing.assert_close(pos, torch.cat([cloud.pos for cloud in clouds]))
    samples = batch.keypoints[:, :, None].expand(-1, -1, 4, -1)  # [B, K, S, 3]
    restored = denormalize(samples, batch.offset, batch.scale)
    for cloud, row in zip(clouds, restored, strict=True):
        for s in range(4):
            torch.testing.assert_close(row[:5, s], cloud.keypoints[0, :5])
    with pytest.raises(ValueError, match="`batch`"):
        denormalize(batch.pos, batch.offset, batch.scale)


def test_item_generator() -> None:
    draws = {
        torch.rand(2, generator=item_generator(*key)).tolist()[0]
        for key in [(s, e, i) for s in range(4) for e in range(4) for i in range(4)]
    }
    assert len(draws) == 64  # sums of the three would give ten
    first, again = (torch.rand(5, generator=item_generator(1, 2, 3)) for _ in range(2))
    assert torch.equal(first, again)
    with pytest.raises(ValueError, match="`epoch`"):
        item_generator(0, -1, 0)


def test_rotate_by_hand() -> None:
    out = rotate_up(table([]), math.pi / 2)  # z -> x, x -> -z
    torch.testing.assert_close(out.pos[0], torch.tensor([-1.0, 0.0, 2.0]))
    torch.testing.assert_close(out.keypoints[0, 0], torch.tensor([-1.0, 0.0, 2.0]))
    assert (out.keypoints[0, 5] == 0).all()


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), drop=st.floats(0, 0.99), resample=st.integers(0, 60))
def test_augmented_keypoints_stay_on_their_points(seed: int, drop: float, resample: int) -> None:
    data = table(AROUND_X + AROUND_Z)
    before = data.clone()
    augment = Augment(mirror=0.7, rotate=180, scale=0.2, axis_scale=0.2, shift=0.3, drop=drop, resample=resample)
    out = augment(data, item_generator(seed, 0, 0))
    assert same(data, before)
    assert same(out, augment(data, item_generator(seed, 0, 0)))
    assert 1 <= out.num_nodes <= (resample or 25)
    assert len(out.color) == out.num_nodes
    assert torch.equal(out.visible, data.visible)
    assert (out.keypoints[0, 5] == 0).all()
    index = out.keypoint_index[0]
    assert index[5] == -1
    if drop == 0 and resample == 0:
        assert (index[:5] >= 0).all()
    kept = index >= 0
    torch.testing.assert_close(out.pos[index[kept]], out.keypoints[0, kept], rtol=0, atol=0)
    if out.num_nodes == 25:
        # Same colors as many times: no cloud but the same points, and each keypoint keeps its point's color.
        assert resample or torch.equal(out.color, data.color)


def test_off_by_default() -> None:
    data = table(AROUND_X)
    assert same(Augment()(data, item_generator(0, 0, 0)), data)


def test_amounts() -> None:
    data = table([])
    extent = data.pos.amax(0) - data.pos.amin(0)
    ratios, shifts = [], []
    for i in range(200):
        out = Augment(scale=0.2)(data, item_generator(0, 0, i))
        ratio = (out.pos.amax(0) - out.pos.amin(0)) / extent
        torch.testing.assert_close(ratio, ratio[0].expand(3))  # isotropic
        ratios.append(ratio[0].item())
        out = Augment(shift=0.5)(data, item_generator(0, 0, i))
        torch.testing.assert_close(out.pos - data.pos, (out.pos - data.pos)[:1].expand(25, 3))
        shifts.append((out.pos - data.pos)[0])
    assert 0.8 <= min(ratios) < 0.82 < 1.18 < max(ratios) <= 1.2
    steps = torch.stack(shifts)
    assert steps.abs().max() <= 0.5 + 1e-6
    assert (steps.abs().amax(0) > 0.48).all()
    out = Augment(axis_scale=0.3)(data, item_generator(0, 0, 0))
    ratio = (out.pos.amax(0) - out.pos.amin(0)) / extent
    assert len(set(ratio.tolist())) == 3


def test_tilt_turns_about_any_axis_by_any_angle_up_to_the_largest() -> None:
    data = table([])
    angles, axes = [], []
    for i in range(300):
        out = Augment(tilt=20)(data, item_generator(0, 0, i))
        turn = torch.linalg.lstsq(data.pos, out.pos).solution.mT
        torch.testing.assert_close(turn @ turn.mT, torch.eye(3), atol=1e-5, rtol=0)
        assert turn.det() > 0
        torch.testing.assert_close(out.keypoints[0, :5], data.keypoints[0, :5] @ turn.mT, atol=1e-5, rtol=0)
        angles.append(math.degrees(math.acos(min(1.0, (turn.trace().item() - 1) / 2))))
        axes.append(torch.stack([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]]))
    assert 19 < max(angles) <= 20.1
    assert min(angles) < 1
    # No axis is preferred.
    unit = torch.nn.functional.normalize(torch.stack(axes)[torch.tensor(angles) > 1], dim=1)
    assert ((unit**2).mean(0) - 1 / 3).abs().max() < 0.07


def test_the_largest_tilt_is_any_rotation() -> None:
    data = table([])
    turns = torch.stack(
        [
            torch.linalg.lstsq(data.pos, Augment(tilt=180)(data, item_generator(0, 0, i)).pos).solution.mT
            for i in range(1000)
        ]
    )
    # Of all rotations alike: every entry has mean 0 and mean square 1/3.
    assert turns.mean(0).abs().max() < 0.1
    assert ((turns**2).mean(0) - 1 / 3).abs().max() < 0.06


def test_a_body_in_a_pose_is_mirrored_with_all_of_its_pairs() -> None:
    data = table(AROUND_X)
    data.keypoints[0, 1] += torch.tensor([0.4, 0.9, 0.5])  # one arm is raised
    assert same(Augment(mirror=1.0)(data, item_generator(0, 0, 0)), data)
    out = Augment(mirror=1.0, mirror_poses=True)(data, item_generator(0, 0, 0))
    # Left and right lie across x. The arm that is raised is the other one's now.
    factor = torch.tensor([-1.0, 1.0, 1.0])
    torch.testing.assert_close(out.pos, data.pos * factor)
    torch.testing.assert_close(out.keypoints[0, :5], (data.keypoints[0] * factor)[[1, 0, 3, 2, 4]])
    assert out.keypoint_index[0].tolist() == [1, 0, 3, 2, 4, -1]
    # Of a table each corner has two partners, and nothing says which is left.
    with pytest.raises(ValueError, match=r"`mirror_poses` \(=True\) must be .* keypoint 0 of table has several"):
        Augment(mirror=1.0, mirror_poses=True)(table(AROUND_X + AROUND_Z), item_generator(0, 0, 0))
    assert same(Augment(mirror=1.0, mirror_poses=True)(table([]), item_generator(0, 0, 0)), table([]))


@pytest.mark.parametrize(("up", "axis"), [(1, 0), (0, 1), (2, 0), (-1, 0)])
def test_the_other_side_is_a_mirror_image_of_which_keypoints_keep_their_ids(up: int, axis: int) -> None:
    data = table(AROUND_X, shift=3.0)
    data.up = up
    out = Augment(other_side=1.0)(data, item_generator(0, 0, 0))
    factor = torch.ones(3)
    factor[axis] = -1
    torch.testing.assert_close(out.pos, data.pos * factor)
    torch.testing.assert_close(out.keypoints[0, :5], data.keypoints[0, :5] * factor)
    assert torch.equal(out.keypoint_index, data.keypoint_index)
    assert torch.equal(out.reflection, data.reflection)
    half = [Augment(other_side=0.5)(data, item_generator(0, 0, i)).pos is data.pos for i in range(200)]
    assert 0.4 < sum(half) / 200 < 0.6


def test_jitter_moves_points_and_not_keypoints() -> None:
    data = table([])
    out = Augment(jitter=0.1)(data, item_generator(0, 0, 0))
    moved = out.pos - data.pos
    assert 0.08 < moved.std() < 0.12
    assert moved.abs().max() <= 0.3
    assert torch.equal(out.keypoints, data.keypoints)


def test_drop_and_resample() -> None:
    data = table([])
    counts = {drop_points(data, item_generator(0, 0, i), 0.5).num_nodes for i in range(200)}
    assert min(counts) in (13, 14)  # 25 - 12, or hardly ever hit
    assert max(counts) == 25
    one = Data(pos=torch.zeros(1, 3), keypoints=torch.zeros(1, 2, 3), visible=torch.ones(1, 2, dtype=torch.bool))
    one.keypoint_index = torch.tensor([[0, 0]])
    assert drop_points(one, item_generator(0, 0, 0), 0.9).num_nodes == 1
    more = resample_points(one, item_generator(0, 0, 0), 5)
    assert more.pos.shape == (5, 3)
    assert more.keypoints.shape == (1, 2, 3)
    assert more.keypoint_index.tolist() == [[0, 0]]
    fewer = resample_points(data, item_generator(0, 0, 0), 10)
    assert len({tuple(p) for p in fewer.pos.tolist()}) == 10  # without repetition
    more = resample_points(data, item_generator(0, 0, 0), 40)
    assert len({tuple(p) for p in more.pos.tolist()}) == 25  # every point at least once


def test_mirror_partners() -> None:
    data = table(AROUND_X + AROUND_Z)
    args = data.keypoints[0], data.visible[0]
    # Each plane takes its own pairs out of the list, and the middle keypoint lies on both planes.
    assert mirror_partners(*args, data.reflection[0], 0, 0.0, 0.1).tolist() == [1, 0, 3, 2, 4, 5]
    assert mirror_partners(*args, data.reflection[0], 2, 0.0, 0.1).tolist() == [3, 2, 1, 0, 4, 5]
    # One pair is not enough: keypoints 2 and 3 are off the plane.
    assert mirror_partners(*args, torch.tensor([[0, 1]]), 0, 0.0, 0.1) is None
    # A plane elsewhere mirrors none of the pairs, and the other plane not these.
    assert mirror_partners(*args, torch.tensor(AROUND_X), 0, 0.5, 0.1) is None
    assert mirror_partners(*args, torch.tensor(AROUND_X), 2, 0.0, 0.1) is None
    # Pairs that are diagonal, as a rotation would have them, are no mirror images.
    assert mirror_partners(*args, torch.tensor([[0, 2], [1, 3]]), 0, 0.0, 0.1) is None
    # Off by 0.3 along z: within a tolerance of 0.4, not of 0.2.
    moved = data.keypoints[0].clone()
    moved[1, 2] += 0.3
    assert mirror_partners(moved, data.visible[0], data.reflection[0], 0, 0.0, 0.2) is None
    assert mirror_partners(moved, data.visible[0], data.reflection[0], 0, 0.0, 0.4) is not None
    # A missing keypoint needs no partner.
    alone = torch.tensor([True, True, False, False, True, False])
    assert mirror_partners(args[0], alone, torch.tensor([[0, 1]]), 0, 0.0, 0.1).tolist() == [1, 0, 2, 3, 4, 5]
    # No pairs, and everything on the plane.
    middle = torch.tensor([False] * 4 + [True, False])
    none = torch.zeros(0, 2, dtype=torch.long)
    assert mirror_partners(args[0], middle, none, 0, 0.0, 0.1).tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(("pairs", "axis"), [(AROUND_X, 0), (AROUND_Z, 2)])
def test_mirror_swaps_ids(pairs: list[list[int]], axis: int) -> None:
    data = table(pairs, shift=3.0)  # the plane is at 3, not at the origin
    out = random_mirror(data, item_generator(0, 0, 0), probability=1.0)
    expected = data.pos.clone()
    expected[:, axis] = 6.0 - expected[:, axis]
    torch.testing.assert_close(out.pos, expected)
    # The shape is symmetric: the id that was at a corner is found at the same corner, on another point.
    torch.testing.assert_close(out.keypoints, data.keypoints)
    assert out.keypoint_index[0].tolist() == ([1, 0, 3, 2, 4, -1] if axis == 0 else [3, 2, 1, 0, 4, -1])
    torch.testing.assert_close(out.pos[out.keypoint_index[0, :5]], out.keypoints[0, :5])
    assert {frozenset(p) for p in out.reflection[0].tolist()} == {frozenset(p) for p in data.reflection[0].tolist()}
    assert {frozenset(g) for g in out.rotation[0].tolist()} == {frozenset(g) for g in data.rotation[0].tolist()}


def test_shapes_that_cannot_be_mirrored_stay() -> None:
    for pairs in ([], [[0, 1]], [[0, 2], [1, 3]]):
        data = table(pairs)
        assert same(random_mirror(data, item_generator(0, 0, 0), probability=1.0), data)
    data = table(AROUND_X)
    del data["reflection"]
    assert same(random_mirror(data, item_generator(0, 0, 0), probability=1.0), data)


def test_mirror_probability_and_both_planes() -> None:
    data = table(AROUND_X + AROUND_Z)
    kinds = [
        tuple(random_mirror(data, item_generator(0, 0, i), probability=0.5).keypoint_index[0, :2].tolist())
        for i in range(400)
    ]
    # Half stay, a quarter each way; four standard deviations of a share are 0.1 and 0.087.
    assert abs(kinds.count((0, 1)) / 400 - 0.5) < 0.1
    assert abs(kinds.count((1, 0)) / 400 - 0.25) < 0.087
    assert abs(kinds.count((3, 2)) / 400 - 0.25) < 0.087


@pytest.mark.parametrize(
    "options",
    [
        {"mirror": 1.5},
        {"other_side": -0.1},
        {"tilt": 180.5},
        {"rotate": -1},
        {"rotate": 181},
        {"scale": 1.0},
        {"axis_scale": -0.1},
        {"shift": math.nan},
        {"jitter": -1.0},
        {"drop": 1.0},
        {"resample": -1},
    ],
)
def test_bad_amounts(options: dict) -> None:
    with pytest.raises(ValueError, match=f"`{next(iter(options))}`"):
        Augment(**options)


UTM = torch.tensor([500_000.0, 4_600_000.0, 300.0], dtype=torch.float64)


@pytest.mark.parametrize("mode", ["unit_sphere", "unit_box", "min_max"])
def test_a_far_cloud_is_normalized_like_a_near_one_and_comes_back_in_full(mode: str) -> None:
    points = torch.rand(50, 3, dtype=torch.float64) * torch.tensor([1.0, 0.5, 0.25])
    points -= (points.amin(0) + points.amax(0)) / 2
    near, far = (
        Normalize(mode)(Data(pos=pos, keypoints=pos[None, :4], visible=torch.ones(1, 4, dtype=torch.bool)))
        for pos in (points.float(), points + UTM)
    )
    # For a network in float32.
    assert far.pos.dtype == far.keypoints.dtype == torch.float32
    torch.testing.assert_close(far.pos, near.pos, rtol=0, atol=1e-6)
    torch.testing.assert_close(far.keypoints, near.keypoints, rtol=0, atol=1e-6)
    assert far.scale.dtype == far.offset.dtype == torch.float64
    back = denormalize(far.pos, far.offset, far.scale)
    assert back.dtype == torch.float64
    torch.testing.assert_close(back, points + UTM, rtol=0, atol=1e-6)
    torch.testing.assert_close(
        denormalize(far.keypoints, far.offset, far.scale)[0], points[:4] + UTM, rtol=0, atol=1e-6
    )
    # A second normalization composes, in the same precision.
    again = Normalize("unit_box")(far)
    torch.testing.assert_close(denormalize(again.pos, again.offset, again.scale), points + UTM, rtol=0, atol=1e-6)


def test_the_range_of_all_axes_is_that_of_the_dual_alignment_score_near_the_origin() -> None:
    pos = torch.tensor([[0.0, 1.0, 8.0], [1.0, 2.0, 9.0]])  # nine times its longest side
    out = Normalize("min_max")(Data(pos=pos))
    assert out.offset.tolist() == [[4.5, 4.5, 4.5]]
    assert out.scale.tolist() == [[4.5]]
    out = Normalize("min_max")(Data(pos=pos + torch.tensor([0.0, 0.0, 10.0])))
    assert out.pos.tolist() == [[-1, -1, -1], [1, 1, 1]]
    # A cloud without extent keeps its place in the range, as before.
    assert Normalize("min_max")(Data(pos=torch.tensor([[1.0, 2.0, 3.0]]))).pos.tolist() == [[-1, 0, 1]]


def test_float64_stays_for_a_network_in_float64() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        assert Normalize()(Data(pos=torch.rand(5, 3))).pos.dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_what_cannot_be_scaled_is_refused(value: float) -> None:
    pos = torch.rand(4, 3, dtype=torch.float64)
    pos[0, 0] = value
    with pytest.raises(ValueError, match=r"`data.pos` \(up to .*must be finite"):
        Normalize()(Data(pos=pos))
