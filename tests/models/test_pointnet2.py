import itertools

import pytest
import torch
from hypothesis import given, settings, strategies as st
from torch import Tensor, nn

import pcsa
from pcsa.models import Level, LevelGeometry, PointNet2, build_geometry
from pcsa.neighbors import knn

# Small enough for loops, and 17 < 24 points: the middle cloud has fewer than the first level keeps.
SINGLE = (Level(24, (0.5,), (8,), ((8, 16),)), Level(6, (1.0,), (5,), ((16, 24),)))
MULTI = (
    Level(24, (0.4, 0.7), (4, 8), ((8, 16), (12,))),
    Level(None, (0.9, 0.5), (6, 9), ((16, 20), (8, 16))),  # every point; the larger ball has fewer slots
    Level(5, (1.5,), (5,), ((32,),)),
)
SIZES = (40, 17, 33)


def _clouds(sizes=SIZES, seed=0, dtype=torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    pos = torch.rand(sum(sizes), 3, generator=generator, dtype=torch.float64) * 2 - 1
    return pos.to(dtype), torch.tensor([0, *sizes]).cumsum(0)


def _net(levels=SINGLE, in_channels=0, out_channels=7, *, dtype=torch.float64, **options) -> PointNet2:
    """A network in eval mode, no parameter or statistic of which is 0 or 1 by default."""
    torch.manual_seed(0)
    net = PointNet2(in_channels, levels, out_channels, **options).to(dtype)
    for module in net.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.GroupNorm)):
            nn.init.uniform_(module.weight, 0.5, 1.5)
        if getattr(module, "bias", None) is not None:
            nn.init.uniform_(module.bias, -0.5, 0.5)
        if isinstance(module, nn.BatchNorm1d):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 1.5)
    return net.eval()


# --- a reference in loops --------------------------------------------------------------------------------------


def _norm(norm, x: Tensor) -> Tensor:
    if isinstance(norm, nn.BatchNorm1d):
        return (x - norm.running_mean) / (norm.running_var + norm.eps).sqrt() * norm.weight + norm.bias
    if isinstance(norm, nn.GroupNorm):
        groups = x.view(len(x), norm.num_groups, -1)
        groups = (groups - groups.mean(-1, keepdim=True)) / (
            groups.var(-1, unbiased=False, keepdim=True) + norm.eps
        ).sqrt()
        return groups.view_as(x) * norm.weight + norm.bias
    return x


def _rest(mlp, x: Tensor) -> Tensor:
    """Linear, norm, ReLU, and so on."""
    for linear, norm in zip(mlp[0::3], mlp[1::3], strict=True):
        x = x @ linear.weight.T + (0 if linear.bias is None else linear.bias)
        x = _norm(norm.norm, x).clamp(min=0)
    return x


def _first(parts: list[nn.Linear | None], rows: list[Tensor | None], norm, rest) -> Tensor:
    """The usual layer on concatenated rows, with the weights of the layers that the network keeps apart."""
    parts = [part for part in parts if part is not None]
    weight = torch.cat([part.weight for part in parts], 1)
    x = torch.cat([row for row in rows if row is not None], 1) @ weight.T
    for part in parts:
        x = x if part.bias is None else x + part.bias
    return _rest(rest, _norm(norm.norm, x).clamp(min=0))


def _naive_farthest(pos: Tensor, count: int) -> list[int]:
    pos, chosen = pos.detach(), [0]
    while len(chosen) < min(count, len(pos)):
        nearest = [min(float((p - pos[j]).norm()) for j in chosen) for p in pos]
        chosen.append(max(range(len(pos)), key=nearest.__getitem__))
    return chosen


def _naive(net: PointNet2, x: Tensor | None, pos: Tensor) -> Tensor:
    """One cloud, point by point, everything concatenated as in the paper."""
    parts = ([] if x is None else [x]) + ([pos] if net.use_pos else [])
    f = torch.cat(parts, 1) if parts else None
    stack = []
    for level, scales in zip(net.levels, net.abstractions, strict=True):
        index = list(range(len(pos))) if level.num_samples is None else _naive_farthest(pos, level.num_samples)
        out = []
        for i in index:
            distance = (pos - pos[i]).detach().norm(dim=1).tolist()
            order = sorted(range(len(pos)), key=distance.__getitem__)
            per_scale = []
            for scale, radius, k in zip(scales, level.radii, level.num_neighbors, strict=True):
                ball = [j for j in order if distance[j] <= radius][:k]
                rows = [None if f is None else f[ball], (pos[ball] - pos[i]) / radius]
                h = _first([scale.of_features, scale.of_offset], rows, scale.norm, scale.rest)
                per_scale.append(h.max(0).values)
            out.append(torch.cat(per_scale))
        stack.append((f, pos))
        f, pos = torch.stack(out), pos[index]
    if net.context is not None:
        f = f + _rest(net.context, f.max(0, keepdim=True).values)
    for propagation, (fine, fine_pos) in zip(net.propagations, reversed(stack), strict=True):
        rows = []
        for p in fine_pos:
            distance = (pos - p).norm(dim=1).detach()
            nearest = sorted(range(len(pos)), key=distance.tolist().__getitem__)[:3]
            if distance[nearest[0]] == 0:
                rows.append(f[nearest[0]])
            else:
                weight = 1 / distance[nearest] ** 2
                rows.append((weight[:, None] * f[nearest]).sum(0) / weight.sum())
        f = _first(
            [propagation.of_coarse, propagation.of_fine],
            [torch.stack(rows), fine],
            propagation.norm,
            propagation.rest,
        )
        pos = fine_pos
    return f


@pytest.mark.parametrize("norm", ["batch", "group", "none"])
@pytest.mark.parametrize(
    ("levels", "in_channels", "options"),
    [
        (SINGLE, 0, {}),
        (SINGLE, 9, {}),  # 9 features and 3 coordinates are more than the 7 returned
        (SINGLE, 0, {"use_pos": False}),
        (MULTI, 2, {"use_pos": False}),
        (MULTI, 0, {"global_context": False}),
        (MULTI[:1], 3, {}),
    ],
    ids=["single", "x", "neither", "multi-x", "multi", "one-level"],
)
def test_same_as_loops(levels, in_channels, options, norm):
    pos, ptr = _clouds()
    x = torch.randn(len(pos), in_channels, dtype=pos.dtype) if in_channels else None
    net = _net(levels, in_channels, norm=norm, **options)
    inputs = [pos.requires_grad_()] + ([] if x is None else [x.requires_grad_()])
    inputs += list(net.parameters())

    out = net(x, pos, ptr=ptr)
    clouds = range(len(ptr) - 1)
    bounds = [slice(int(ptr[b]), int(ptr[b + 1])) for b in clouds]
    expected = torch.cat([_naive(net, None if x is None else x[b], pos[b]) for b in bounds])
    assert out.shape == (len(pos), 7)
    torch.testing.assert_close(out, expected, rtol=1e-9, atol=1e-9)

    cotangent = torch.randn(out.shape, dtype=out.dtype)
    got = torch.autograd.grad((out * cotangent).sum(), inputs)
    want = torch.autograd.grad((expected * cotangent).sum(), inputs)
    assert sum(float(g.abs().sum()) for g in got) > 0
    for a, b in zip(got, want, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8)


def test_point_at_the_radius_is_inside():
    # The square of a float32 spacing may round to above the square of the radius, so squares can't be compared.
    for spacing in (0.05, 0.1, 0.3, 0.7):
        level = Level(None, (spacing, 2 * spacing), (2, 2), ((4,), (4,)))
        pos = torch.tensor([[0.0, 0.0, 0.0], [spacing, 0.0, 0.0]])
        assert build_geometry(pos, torch.tensor([0, 2]), [level])[0].inside.all()


# --- ragged batches --------------------------------------------------------------------------------------------


# Batch norm in train mode sees the whole batch: that is its purpose.
@pytest.mark.parametrize(
    ("norm", "training"),
    [("batch", False), ("group", False), ("none", False), ("group", True), ("none", True)],
)
@pytest.mark.parametrize("levels", [SINGLE, MULTI], ids=["single", "multi"])
def test_batch_is_each_cloud_alone(levels, norm, training):
    pos, ptr = _clouds((40, 1, 17, 2, 5))
    x = torch.randn(len(pos), 2, dtype=pos.dtype)
    net = _net(levels, 2, norm=norm).train(training)
    together = net(x, pos, ptr=ptr)
    for start, end in itertools.pairwise(ptr.tolist()):
        alone = net(x[start:end], pos[start:end])
        torch.testing.assert_close(together[start:end], alone, rtol=1e-10, atol=1e-10)


def test_batch_and_ptr_say_the_same():
    pos, ptr = _clouds()
    net = _net()
    batch = torch.arange(3).repeat_interleave(ptr.diff())
    assert torch.equal(net(None, pos, batch), net(None, pos, ptr=ptr))
    assert torch.equal(net(None, pos, batch.int()), net(None, pos, ptr=ptr.int()))
    first = slice(0, int(ptr[1]))
    assert torch.equal(net(None, pos[first], batch[first]), net(None, pos[first]))


DEGENERATE = {
    "one point": torch.zeros(1, 3),
    "two points": torch.tensor([[0.0, 0.0, 0.0], [0.1, 0.0, 0.0]]),
    "all equal": torch.full((30, 3), 0.25),
    "duplicates": _clouds((10,), dtype=torch.float32)[0].repeat(4, 1),
    "far apart": torch.eye(3) * 100,
    "collinear": torch.linspace(-1, 1, 50)[:, None] * torch.tensor([1.0, 2.0, 3.0]),
}


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("norm", ["batch", "group", "none"])
@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_clouds_are_finite(name, norm, training):
    pos = DEGENERATE[name].clone()
    for clouds in ([pos], [pos, _clouds((40,), dtype=torch.float32)[0]], [pos, pos]):
        ptr = torch.tensor([0] + [len(cloud) for cloud in clouds]).cumsum(0)
        net = _net(MULTI, 1, norm=norm, dtype=torch.float32).train(training)
        joint = torch.cat(clouds).requires_grad_()
        x = torch.randn(len(joint), 1, requires_grad=True)
        out = net(x, joint, ptr=ptr)
        assert out.isfinite().all()
        out.square().sum().backward()
        for tensor in (x, joint, *net.parameters()):
            assert tensor.grad is not None
            assert tensor.grad.isfinite().all()
        assert all(buffer.isfinite().all() for buffer in net.buffers())


def test_one_row_leaves_the_running_statistics():
    # One cloud gives the global context one row, which has no variance to learn from.
    net = _net(norm="batch", dtype=torch.float32).train()
    before = {name: value.clone() for name, value in net.named_buffers()}
    net(None, _clouds((40,), dtype=torch.float32)[0])
    changed = {name for name, value in net.named_buffers() if not torch.equal(value, before[name])}
    assert changed
    assert not any(name.startswith("context") for name in changed)
    net(None, *_clouds((40, 40), dtype=torch.float32)[:1], ptr=torch.tensor([0, 40, 80]))
    assert any(not torch.equal(v, before[n]) for n, v in net.named_buffers() if n.startswith("context"))


# --- properties ------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10_000), st.sampled_from(["batch", "group", "none"]), st.booleans())
def test_permutation_equivariance(seed, norm, multi):
    # Sampling starts at each cloud's first row and random reals have no ties, so the rows after the first
    # may come in any order.
    pos, ptr = _clouds(seed=seed)
    x = torch.randn(len(pos), 2, dtype=pos.dtype)
    generator = torch.Generator().manual_seed(seed)
    order = torch.cat(
        [
            torch.cat([torch.zeros(1, dtype=torch.long), 1 + torch.randperm(n - 1, generator=generator)]) + start
            for n, start in zip(SIZES, ptr.tolist(), strict=False)
        ]
    )
    net = _net(MULTI if multi else SINGLE, 2, norm=norm)
    out = net(x, pos, ptr=ptr)
    torch.testing.assert_close(net(x[order], pos[order], ptr=ptr), out[order], rtol=1e-10, atol=1e-10)
    assert not torch.allclose(out, out[order])


@settings(deadline=None, max_examples=15)
@given(st.lists(st.floats(-3, 3), min_size=3, max_size=3).filter(lambda v: max(map(abs, v)) > 0.1))
def test_translation(shift):
    pos, ptr = _clouds()
    shift = torch.tensor(shift, dtype=pos.dtype)
    blind, seeing = _net(use_pos=False), _net(use_pos=True)
    torch.testing.assert_close(blind(None, pos + shift, ptr=ptr), blind(None, pos, ptr=ptr), rtol=1e-9, atol=1e-9)
    assert not torch.allclose(seeing(None, pos + shift, ptr=ptr), seeing(None, pos, ptr=ptr))


def test_same_input_same_bits():
    pos, ptr = _clouds((200, 300), dtype=torch.float32)
    net = _net(MULTI, dtype=torch.float32)
    first = net(None, pos, ptr=ptr)
    torch.rand(3)  # the global generator plays no part
    assert torch.equal(net(None, pos, ptr=ptr), first)


def test_far_from_the_origin_float64_keeps_its_neighbors():
    # 2^20 away, float32 has steps of 1/8, many points would coincide.
    pos, ptr = _clouds()
    moved = (pos + 2**20) - 2**20  # what addition leaves of the digits
    net = _net(use_pos=False)
    torch.testing.assert_close(net(None, moved + 2**20, ptr=ptr), net(None, moved, ptr=ptr), rtol=1e-6, atol=1e-6)


# --- geometry --------------------------------------------------------------------------------------------------


def test_geometry_reused():
    pos, ptr = _clouds()
    x = torch.randn(len(pos), 2, dtype=pos.dtype)
    geometry = build_geometry(pos, ptr, MULTI)
    assert [type(level) for level in geometry] == [LevelGeometry] * len(MULTI)
    # The first level keeps 24, 17 and 24 points, the second all of those, the third 5 of each.
    assert [level.ptr.tolist() for level in geometry] == [[0, 24, 41, 65], [0, 24, 41, 65], [0, 5, 10, 15]]
    net = _net(MULTI, 2)
    expected = net(x, pos, ptr=ptr)
    for _ in range(2):
        assert torch.equal(net(x, pos, ptr=ptr, geometry=geometry), expected)


def test_geometry_survives_rigid_motion():
    # Neighbors and weights are functions of distances alone: built once, used on moved and on turned clouds.
    pos, ptr = _clouds()
    geometry = build_geometry(pos, ptr, SINGLE)
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=pos.dtype)).Q
    moved = pos @ turn.T + torch.tensor([0.3, -0.2, 0.5], dtype=pos.dtype)
    again = build_geometry(moved, ptr, SINGLE)
    for a, b in zip(geometry, again, strict=True):
        for name, x, y in zip(LevelGeometry._fields, a, b, strict=True):
            torch.testing.assert_close(x, y, rtol=1e-9, atol=1e-9, msg=name)

    net = _net(use_pos=False)
    out = net(None, moved, ptr=ptr, geometry=geometry)
    torch.testing.assert_close(out, net(None, moved, ptr=ptr), rtol=1e-9, atol=1e-9)
    shifted = net(None, pos + 0.5, ptr=ptr, geometry=geometry)
    torch.testing.assert_close(shifted, net(None, pos, ptr=ptr), rtol=1e-9, atol=1e-9)


def test_geometry_has_no_gradient():
    pos, ptr = _clouds()
    for level in build_geometry(pos.requires_grad_(), ptr, SINGLE):
        assert not any(tensor.requires_grad for tensor in level)


# --- blocks at full resolution ---------------------------------------------------------------------------------


def test_blocks_follow_the_last_propagation():
    pos, ptr = _clouds((40, 1, 17))
    plain = _net(out_channels=8, norm="group")
    net = _net(out_channels=8, norm="group", local_blocks=2, local_neighbors=5, attention_blocks=1)
    # The same but for the blocks, which come last: weights keep their names.
    missing, unexpected = net.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected
    assert {name.split(".")[0] for name in missing} == {"local_blocks", "attention_blocks"}
    batch = torch.arange(3).repeat_interleave(ptr.diff())
    x, around = plain(None, pos, ptr=ptr), knn(pos, ptr, 5).index
    for block in net.local_blocks:
        assert block.radius == 0.5  # of the first level
        x = block(x, pos, around, batch, 3)
    x = net.attention_blocks[0](x, batch, ptr)
    out = net(None, pos, ptr=ptr)
    torch.testing.assert_close(out, x, rtol=1e-10, atol=1e-10)
    geometry = build_geometry(pos, ptr, SINGLE, 5)
    assert torch.equal(net(None, pos, ptr=ptr, geometry=geometry), out)
    for start, end in itertools.pairwise(ptr.tolist()):
        torch.testing.assert_close(net(None, pos[start:end]), out[start:end], rtol=1e-9, atol=1e-9)


def test_default_draws_what_it_drew_without_blocks():
    states = []
    for options in ({}, {"local_blocks": 0, "attention_blocks": 0, "drop_path": 0.0}):
        torch.manual_seed(0)
        PointNet2(**options)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


def test_drop_path_follows_the_seed():
    pos, ptr = _clouds()
    net = _net(out_channels=8, norm="group", local_blocks=1, attention_blocks=1, drop_path=0.5)
    expected = net(None, pos, ptr=ptr)
    outs = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        outs.append(net.train()(None, pos, ptr=ptr))
    assert torch.equal(outs[0], outs[1])
    assert not torch.allclose(outs[0], outs[2])
    assert torch.equal(net.eval()(None, pos, ptr=ptr), expected)


# --- half precision --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["batch", "group", "none"])
def test_bf16_autocast(norm):
    pos, ptr = _clouds((200, 50), dtype=torch.float32)
    pos = pos + 100  # the offsets of neighbors would not survive in bf16: its step at 100 is 0.5
    net = _net(MULTI, norm=norm, dtype=torch.float32, use_pos=False)
    expected = net(None, pos, ptr=ptr)
    with torch.autocast("cpu", torch.bfloat16):
        out = net(None, pos, ptr=ptr)
    assert out.isfinite().all()
    # bf16 keeps 8 binary digits: 0.4 % for each rounding, a few layers deep.
    assert (out.float() - expected).norm() < 0.03 * expected.norm()


@pytest.mark.parametrize("norm", ["batch", "group", "none"])
def test_bf16_throughout(norm):
    pos, ptr = _clouds((50, 1), dtype=torch.bfloat16)
    out = _net(MULTI, norm=norm, dtype=torch.bfloat16)(None, pos, ptr=ptr)
    assert out.dtype == torch.bfloat16
    assert out.isfinite().all()


# --- errors ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ((8, (0.1,), (4, 4), ((8,),)), "`num_neighbors` .* must have an entry per scale"),
        ((8, (), (), ()), "must have an entry per scale"),
        ((0, (0.1,), (4,), ((8,),)), r"`num_samples` \(=0\) must be at least 1"),
        ((8, (0.0,), (4,), ((8,),)), r"`radii` \(=0.0\) must be positive"),
        ((8, (0.1,), (0,), ((8,),)), r"`num_neighbors` \(=0\) must be at least 1"),
        ((8, (0.1,), (4,), ((),)), r"`channels` \(=\(\(\),\)\) must have a width"),
    ],
)
def test_level_errors(arguments, match):
    with pytest.raises(ValueError, match=match):
        Level(*arguments)


def test_constructor_errors():
    with pytest.raises(ValueError, match=r"`in_channels` \(=-1\)"):
        PointNet2(-1)
    with pytest.raises(ValueError, match=r"`out_channels` \(=0\) must be at least 1"):
        PointNet2(out_channels=0)
    with pytest.raises(ValueError, match="`levels` must have at least one"):
        PointNet2(levels=())
    for name in ("local_blocks", "attention_blocks"):
        with pytest.raises(ValueError, match=rf"`{name}` \(=-1\) must be at least 0"):
            PointNet2(**{name: -1})
    with pytest.raises(ValueError, match=r"`local_neighbors` \(=0\) must be at least 1"):
        PointNet2(local_neighbors=0)
    with pytest.raises(ValueError, match=r"`drop_path` \(=0.1\) must be 0 without `local_blocks` or"):
        PointNet2(drop_path=0.1)
    with pytest.raises(ValueError, match=r"`norm` \(='layer'\) must be"):
        PointNet2(norm="layer")


def test_group_norm_of_any_width():
    # 50 channels are not divisible into 50 // 16 = 3 groups: gcd(50, 3) = 1.
    net = _net((Level(8, (1.0,), (4,), ((50, 48, 7),)),), 0, 100, norm="group")
    groups = {m.num_channels: m.num_groups for m in net.modules() if isinstance(m, nn.GroupNorm)}
    assert groups == {50: 1, 48: 3, 7: 1, 100: 2}
    assert net(None, _clouds()[0]).isfinite().all()


def test_input_errors():
    pos, ptr = _clouds()
    N = len(pos)
    net, with_x, local = _net(), _net(SINGLE, 2), _net(local_blocks=1, local_neighbors=4)
    geometry = build_geometry(pos, ptr, SINGLE)
    batch = torch.arange(3).repeat_interleave(ptr.diff())
    for match, call in {
        r"`pos` \[90, 2\] must be \[N, 3\]": lambda: net(None, pos[:, :2]),
        r"`x` \(\[90, 2\]\) must be .*None for 0": lambda: net(torch.zeros(N, 2), pos),
        r"`x` \(None\) must be \[N, 2\]": lambda: with_x(None, pos),
        r"`x` \(\[90, 3\]\) must be \[N, 2\]": lambda: with_x(torch.zeros(N, 3), pos),
        r"`x` \(\[91, 2\]\) must be .* N of `pos` \(=90\)": lambda: with_x(torch.zeros(N + 1, 2), pos),
        r"`x` \(\[90\]\) must be \[N, 2\]": lambda: with_x(torch.zeros(N), pos),
        "`batch` and `ptr`": lambda: net(None, pos, batch, ptr=ptr),
        "`batch` must be sorted": lambda: net(None, pos, batch.flip(0)),
        r"`batch` \(length 89\)": lambda: net(None, pos, batch[1:]),
        r"`ptr` must begin with 0 and end with .* \(=90\)": lambda: net(None, pos, ptr=ptr[:-1]),
        "empty cloud": lambda: net(None, pos, ptr=torch.tensor([0, 40, 40, 90])),
        r"`pos` \[0, 3\] must be .* at least one point": lambda: net(None, pos[:0]),
        "`pos` must be finite": lambda: net(None, pos.index_fill(0, torch.tensor([5]), torch.nan)),
        "`geometry` has 1 levels, must have 2": lambda: net(None, pos, ptr=ptr, geometry=geometry[:1]),
        r"`geometry` must be built with `local_neighbors` \(=4\)": lambda: local(None, pos, ptr=ptr, geometry=geometry),
        "`geometry` is of 90 points, `pos` has 57": lambda: net(None, pos[:57], geometry=geometry),
    }.items():
        with pytest.raises(ValueError, match=match):
            call()


def test_exports():
    from pcsa import models

    names = {"PointNet2", "Level", "LevelGeometry", "build_geometry", "SINGLE_SCALE", "MULTI_SCALE"}
    assert names | {"KeypointDetector"} <= set(vars(models))
    assert not hasattr(pcsa, "PointNet2")
