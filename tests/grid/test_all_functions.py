import math

import pytest
import torch

from pcsa import grid


@pytest.fixture
def everything(seeded):
    def run(logits, **options):
        """All results on one map: name and tensor."""
        for basis in ("uniform", "triangular", "gaussian"):
            for form in ("paper", "released"):
                yield f"{basis} {form}", grid.sampling_argmax(logits, basis, form=form, generator=seeded(), **options)
        for periodic in ("", "xy"):
            for axes in ("joint", "marginal"):
                way = {"noise_axes": axes, "periodic": periodic, "generator": seeded(), **options}
                yield f"gaussian {axes} {periodic}", grid.sampling_argmax(logits, "gaussian", **way)
            yield f"soft {periodic}", grid.soft_argmax(logits, periodic=periodic, **options)
            yield f"kernel {periodic}", grid.kernel_soft_argmax(logits, 1.0, periodic=periodic, **options)

    return run


def test_types(everything, maps, close):
    logits = maps((3, 4), dtype=torch.float32)
    for (name, single), (_, double) in zip(everything(logits), everything(logits.double()), strict=True):
        assert (single.dtype, double.dtype) == (torch.float32, torch.float64), name
    half = logits.bfloat16()
    for (name, of_half), (_, single) in zip(everything(half), everything(half.float()), strict=True):
        assert of_half.dtype == torch.float32, name
        close(of_half, single)


def test_strides_change_nothing(everything, maps):
    logits = maps((3, 4))
    apart = logits.to(memory_format=torch.channels_last)
    assert not apart.is_contiguous()
    for (name, plain), (_, strided) in zip(everything(logits), everything(apart), strict=True):
        torch.testing.assert_close(strided, plain, msg=name)
    leaves = [x.clone().requires_grad_() for x in (logits, apart)]
    assert leaves[1].stride() == apart.stride()
    grads = [torch.autograd.grad(sum(x.square().sum() for _, x in everything(leaf)), leaf)[0] for leaf in leaves]
    torch.testing.assert_close(*grads)


def test_autocast_changes_nothing(everything, maps):
    logits = maps((3, 4), dtype=torch.float32)
    grads = []
    for region in (False, True):
        leaf = logits.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=region):
            sum(x.square().sum() for _, x in everything(leaf)).backward()
        grads.append(leaf.grad)
    assert torch.equal(*grads)


@pytest.mark.parametrize("temperature", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("name", ["flat", "one-hot", "huge", "tiny differences"])
def test_extreme_maps_give_finite_numbers(everything, seeded, name, temperature):
    logits = torch.zeros(1, 2, 4, 5)
    if name == "one-hot":
        logits[..., 1, 3] = 1e4
    if name == "huge":
        logits = 1e30 * torch.randn(logits.shape, generator=seeded())
    if name == "tiny differences":
        logits = 1e8 + torch.randn(logits.shape, generator=seeded())
    logits.requires_grad_()
    for way, out in everything(logits, temperature=temperature):
        (grad,) = torch.autograd.grad(out.square().sum(), logits)
        assert out.isfinite().all(), way
        assert grad.isfinite().all(), way


def test_a_one_hot_map_is_where_its_peak_is():
    logits = torch.full((1, 1, 2, 3, 4), -1e4)
    logits[0, 0, 1, 2, 3] = 0.0
    # Arrays are indexed z, y, x; positions are x, y, z.
    peak = torch.tensor([3.0, 2.0, 1.0])
    assert torch.equal(grid.soft_argmax(logits)[0, 0], peak)
    assert torch.equal(grid.kernel_soft_argmax(logits, 1.0)[0, 0], peak)
    for basis in ("uniform", "triangular"):
        away = grid.sampling_argmax(logits, basis, num_samples=500)[0, 0] - peak
        assert away.abs().min() > 0
        assert away.abs().max() <= (0.5 if basis == "uniform" else 1.0)


GOOD = torch.zeros(1, 1, 2, 3)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda f: f([[1.0]]), r"`logits` \(list\) must be a tensor"),
        (lambda f: f(torch.zeros(2, 3)), r"`logits` \[2, 3\] must be \[B, K, x\]"),
        (lambda f: f(torch.zeros(1, 1, 1, 1, 1, 1)), r"`logits` .* one, two or three spatial axes"),
        (lambda f: f(GOOD.long()), r"`logits` \(torch.int64\) must be floating point"),
        (lambda f: f(torch.zeros(1, 1, 0, 3)), r"`logits` \[1, 1, 0, 3\] must have no axis of size 0"),
        (lambda f: f(torch.zeros(0, 1, 2, 3)), r"`logits` \[0, 1, 2, 3\] must have no axis of size 0"),
        (lambda f: f(GOOD / 0), "`logits` must be finite"),
        (lambda f: f(GOOD + math.inf), "`logits` must be finite"),
        (lambda f: f(GOOD, temperature=0.0), r"`temperature` \(=0.0\) must be positive"),
        (lambda f: f(GOOD, frame="voxels"), r"`frame` \(='voxels'\) must be one of 'index', 'normalized'"),
        (lambda f: f(GOOD, spacing=0.0), r"`spacing` \(=0.0\) must be positive and finite"),
        (lambda f: f(GOOD, spacing=(1.0, -2.0)), r"`spacing` \(=-2.0\) must be positive"),
        (lambda f: f(GOOD, spacing=math.nan), r"`spacing` \(=nan\) must be positive"),
        (lambda f: f(GOOD, spacing=(1.0, 1.0, 1.0)), r"`spacing` .* one for each of 2 axes, x first"),
        (lambda f: f(GOOD, frame="pixels"), r"`spacing` \(=None\) must be given for `frame` 'pixels'"),
        (lambda f: f(GOOD, frame="normalized", spacing=2.0), r"`spacing` \(=2.0\) .* `frame` is 'normalized'"),
        (lambda f: f(GOOD[..., :1], frame="normalized_corners"), r"`shape` \(=\(2, 1\)\) of at least 2 cells"),
        (lambda f: f(GOOD, periodic="z"), r"`periodic` \(='z'\) must name axes out of x, y$"),
        (lambda f: f(GOOD, periodic=["xy"]), r"`periodic` \(='xy'\) must name axes"),
    ],
)
@pytest.mark.parametrize("function", ["soft_argmax", "sampling_argmax", "kernel_soft_argmax"])
def test_bad_input(function, call, match):
    def run(*args, **options):
        if function == "kernel_soft_argmax":
            args = (*args, 1.0)
        return getattr(grid, function)(*args, **options)

    with pytest.raises(ValueError, match=match):
        call(run)


def test_bad_input_of_the_rest():
    for call, match in (
        (lambda: grid.sampling_argmax(GOOD[0], form="released"), r"`logits` \[1, 2, 3\] must have two or three"),
        (lambda: grid.kernel_soft_argmax(GOOD, 0.0), r"`sigma` \(=0.0\) must be positive"),
        (lambda: grid.kernel_soft_argmax(GOOD, 1.0, on="logits"), r"`on` \(='logits'\) must be one of"),
        (lambda: grid.cells(()), r"`shape` \(=\(\)\) must have one, two or three axes"),
        (lambda: grid.cells((2, 0)), r"`shape` \(=0\) must be at least 1"),
        (lambda: grid.flatten(torch.zeros(2, 3)), r"`logits` \[2, 3\] must be"),
        (lambda: grid.from_index(torch.zeros(2), (2, 3, 4)), r"`index` \[2\] must end in the 3 axes of `shape`"),
        (lambda: grid.to_index(torch.zeros(2).long(), (2, 3)), r"`position` \(torch.int64\) must be floating"),
    ):
        with pytest.raises(ValueError, match=match):
            call()


def test_values_are_not_read_where_that_was_not_asked_for():
    broken = GOOD + math.nan
    assert grid.soft_argmax(broken, validate=False).isnan().all()
    assert grid.sampling_argmax(broken, validate=False).isnan().all()
