import itertools
import math

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from pcsa import TemperatureSchedule, knn_bandwidth, localize, sampling_argmax, soft_argmax
from pcsa._core.points import (
    canonical,
    cloud_log_softmax,
    cloud_max,
    cloud_mean,
    cloud_softmax,
    cloud_sum,
    first_maximum,
    resolve_batch,
)

CALLS = {
    "soft_argmax": soft_argmax,
    "sampling_argmax": lambda logits, pos, *args, **kwargs: sampling_argmax(logits, pos, 0.1, *args, **kwargs),
    "localize": lambda logits, pos, *args, **kwargs: localize(logits, pos, 0.1, *args, **kwargs),
}
BANDWIDTH_CALLS = {"sampling_argmax": sampling_argmax, "localize": localize}

every = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
with_bandwidth = pytest.mark.parametrize("call", BANDWIDTH_CALLS.values(), ids=BANDWIDTH_CALLS.keys())


def ragged(sizes, num_keypoints=2, dim=3, dtype=torch.float64):
    generator = torch.Generator().manual_seed(sum(sizes))
    logits = torch.randn(sum(sizes), num_keypoints, generator=generator, dtype=dtype)
    pos = torch.randn(sum(sizes), dim, generator=generator, dtype=dtype)
    ptr = torch.tensor([0, *sizes]).cumsum(0)
    return logits, pos, ptr


L, P, PTR = ragged([2, 3])
DENSE_L, DENSE_P = L[:4].view(2, 2, 2), P[:4].view(2, 2, 3)
BATCH = torch.tensor([0, 0, 1, 1, 1])


def put(x, value):
    out = x.clone()
    out.view(-1)[1] = value
    return out


BAD = {
    "logits nan": ((put(L, math.nan), P), {}, "`logits` must be finite"),
    "logits inf": ((put(L, math.inf), P), {}, "`logits` must be finite, or -inf .*: NaN or infinite values found"),
    "logits nan beside -inf": ((put(L.new_full(L.shape, -math.inf), math.nan), P), {}, "NaN or infinite values found"),
    "a map of -inf": (
        (L.masked_fill(torch.tensor([[True, False]] * 2 + [[False] * 2] * 3), -math.inf), P, BATCH),
        {},
        "`logits` must be finite at a point of each cloud for every keypoint: a map of -inf alone found",
    ),
    "-inf and a mask": (
        (put(DENSE_L, -math.inf), DENSE_P),
        {"mask": torch.tensor([[True, False], [True, True]])},
        "a map of -inf alone found",
    ),
    "a schedule": (
        (L, P),
        {"temperature": TemperatureSchedule()},
        r"\(TemperatureSchedule\) .* the schedule's `value`",
    ),
    "pos nan": ((L, put(P, math.nan)), {}, "`pos` must be finite"),
    "pos inf": ((L, put(P, math.inf)), {}, "`pos` must be finite"),
    "no points": ((L[:0], P[:0]), {}, r"`logits` \[0, 2\] must have at least one of its points"),
    "no points, batch": ((L[:0], P[:0], BATCH[:0]), {}, r"`logits` \[0, 2\] must have at least one"),
    "no keypoints": ((L[:, :0], P), {}, r"`logits` \[5, 0\] must have at least one of its keypoints"),
    "no axes": ((L, P[:, :0]), {}, r"`pos` \[5, 0\] must have at least one coordinate"),
    "no clouds": ((DENSE_L[:0], DENSE_P[:0]), {}, r"`logits` \[0, 2, 2\] must have at least one cloud"),
    "empty cloud, batch": ((L, P, BATCH * 2), {}, "`batch` must give every cloud a point"),
    "empty last cloud": ((L, P, BATCH), {"batch_size": 3}, "`batch` must give every cloud a point"),
    "empty cloud, ptr": ((L, P), {"ptr": torch.tensor([0, 2, 2, 5])}, "`ptr` must give every cloud a point"),
    "unsorted batch": ((L, P, BATCH.flip(0)), {}, "`batch` must be sorted"),
    "negative batch": ((L, P, BATCH - 1), {}, "`batch` must hold cloud numbers from 0"),
    "all negative batch": ((L, P, BATCH - 2), {}, "`batch` .* must hold cloud numbers from 0"),
    "batch beyond size": ((L, P, BATCH), {"batch_size": 1}, r"`batch` must hold .* `batch_size` - 1 \(=0\)"),
    "batch and ptr": ((L, P, BATCH), {"ptr": PTR}, "`batch` and `ptr`"),
    "short batch": ((L, P, BATCH[:4]), {}, r"`batch` \(length 4\) must have an entry for each of the 5"),
    "float batch": ((L, P, BATCH.double()), {}, "`batch` .*float64.* must be a vector of int64"),
    "matrix batch": ((L, P, BATCH[:, None]), {}, r"`batch` \[5, 1\]"),
    "ptr end": ((L, P), {"ptr": torch.tensor([0, 2, 4])}, r"`ptr` must begin with 0 and end .* \(=5\)"),
    "ptr begin": ((L, P), {"ptr": torch.tensor([1, 2, 5])}, "`ptr` must begin with 0"),
    "ptr falls": ((L, P), {"ptr": torch.tensor([0, 3, 2, 5])}, "`ptr` must not decrease"),
    "ptr short": ((L, P), {"ptr": torch.tensor([0])}, r"`ptr` \(length 1\)"),
    "ptr size": ((L, P), {"ptr": PTR, "batch_size": 3}, r"`batch_size` \(=3\) must be the 2 clouds of `ptr`"),
    "size alone": ((L, P), {"batch_size": 2}, r"`batch_size` \(=2\) needs `batch` or `ptr`"),
    "size zero": ((L, P, BATCH), {"batch_size": 0}, r"`batch_size` \(=0\) must be at least 1"),
    "N differs": ((L, P[:4]), {}, r"`pos` \[4, 3\] must be \[N, D\] with the N of `logits` \[5, 2\]"),
    "dense N differs": ((DENSE_L, DENSE_P[:, :1]), {}, r"`pos` \[2, 1, 3\] must be \[B, N, D\]"),
    "dense B differs": ((DENSE_L, DENSE_P[:1]), {}, r"`pos` \[1, 2, 3\] must be \[B, N, D\]"),
    "dense and ragged": ((DENSE_L, P), {}, r"`pos` \[5, 3\] must be \[B, N, D\]"),
    "ragged and dense": ((L, DENSE_P), {}, r"`pos` \[2, 2, 3\] must be \[N, D\]"),
    "vector logits": ((L[:, 0], P), {}, r"`logits` \[5\] must be ragged"),
    "integer logits": ((L.long(), P), {}, r"`logits` \(torch.int64\) must be floating point"),
    "integer pos": ((L, P.long()), {}, r"`pos` \(torch.int64\) must be floating point"),
    "dense batch": ((DENSE_L, DENSE_P, BATCH[:2]), {}, "`batch` and `ptr` are for ragged"),
    "dense ptr": ((DENSE_L, DENSE_P), {"ptr": PTR}, "`batch` and `ptr` are for ragged"),
    "dense size": ((DENSE_L, DENSE_P), {"batch_size": 3}, r"`batch_size` \(=3\) must be the 2 clouds"),
    "ragged mask": ((L, P), {"mask": torch.ones(5, dtype=torch.bool)}, "`mask` is for dense `logits`"),
    "mask shape": ((DENSE_L, DENSE_P), {"mask": torch.ones(2, 3, dtype=torch.bool)}, r"`mask` \[2, 3\]"),
    "mask type": ((DENSE_L, DENSE_P), {"mask": torch.ones(2, 2)}, r"`mask` .*float32.* must be bool"),
    "mask empties": (
        (DENSE_L, DENSE_P),
        {"mask": torch.tensor([[True, True], [False, False]])},
        "`mask` must keep at least one point",
    ),
    "temperature zero": ((L, P), {"temperature": 0.0}, r"`temperature` \(=0.0\) must be positive"),
    "temperature negative": ((L, P), {"temperature": -1.0}, r"`temperature` \(=-1.0\)"),
    "temperature nan": ((L, P), {"temperature": math.nan}, r"`temperature` \(=nan\)"),
    "temperature none": ((L, P), {"temperature": None}, r"`temperature` \(NoneType\)"),
    "batch list": ((L, P, [0, 0, 0, 1, 1]), {}, r"`batch` \(list\) must be a tensor"),
    "logits array": ((L.numpy(), P), {}, r"`logits` \(ndarray\) must be a tensor"),
    "batch size float": ((L, P, BATCH), {"batch_size": 2.0}, r"`batch_size` \(=2.0\) must be a whole number"),
    "temperature inf": ((L, P), {"temperature": math.inf}, r"`temperature` \(=inf\)"),
}


@every
@pytest.mark.parametrize("case", BAD.values(), ids=BAD.keys())
def test_bad_input(call, case):
    args, options, message = case
    with pytest.raises(ValueError, match=message):
        call(*args, **options)


@every
@pytest.mark.parametrize("dense", [False, True])
def test_what_looks_swapped_is_told_and_taken(call, dense):
    logits, pos = (DENSE_P, torch.randn(2, 2, 4).double()) if dense else (P, torch.randn(5, 10).double())
    look = r"`logits` \[.*3\] .* and `pos` \[.*(4|10)\] .* they look swapped"
    with pytest.warns(UserWarning, match=look) as said:
        evaluated = call(logits, pos)
    assert said[0].filename == __file__
    # A network that is trained so is evaluated so.
    learned = call(logits.clone().requires_grad_(), pos)
    for now, then in zip(*(x if isinstance(x, tuple) else (x,) for x in (evaluated, learned)), strict=True):
        assert now.shape == then.shape
    call(logits, pos, validate=False)


@pytest.mark.parametrize("call", [soft_argmax, CALLS["localize"]], ids=["soft_argmax", "localize"])
@pytest.mark.parametrize("dense", [False, True])
def test_large_logits_over_a_small_temperature_do_not_overflow(call, dense):
    # 1e36 / 1e-3 is more than float32 holds; the first point has all the weight.
    logits = torch.tensor([[1e36], [-1e36], [1e30]])
    pos = torch.tensor([[1.0], [2.0], [3.0]])
    out = call(logits[None] if dense else logits, pos[None] if dense else pos, temperature=1e-3)
    assert (out if isinstance(out, torch.Tensor) else out.position).item() == 1.0


def test_numbers_may_be_numpy_s():
    draw = lambda **o: sampling_argmax(L, P, ptr=PTR, generator=torch.Generator().manual_seed(0), **o)  # noqa: E731
    assert torch.equal(
        draw(bandwidth=np.float32(0.5), num_samples=np.int64(3), temperature=np.float32(0.5)),
        draw(bandwidth=0.5, num_samples=3, temperature=0.5),
    )


BAD_BANDWIDTH = {
    "none": (None, r"`bandwidth` \(=None\) must be"),
    "list": ([0.1] * 5, r"`bandwidth` \(list\) must be"),
    "zero": (0.0, r"`bandwidth` \(=0.0\) must be positive"),
    "negative": (-0.1, r"`bandwidth` \(=-0.1\) must be positive"),
    "nan": (math.nan, r"`bandwidth` \(=nan\) must be positive"),
    "inf": (math.inf, r"`bandwidth` \(=inf\) must be positive"),
    "a square that is none": (1e154, r"`bandwidth` \(=1e\+154\) must be at most 1e\+153, for its square"),
    "a large one": (
        put(torch.ones(5).double(), 1e154),
        r"`bandwidth` must be at most 1e\+153 everywhere, for its square",
    ),
    "a zero": (put(torch.ones(5), 0.0), "`bandwidth` must be positive and finite everywhere"),
    "a negative": (put(torch.ones(5, 3), -1.0), "`bandwidth` must be positive and finite everywhere"),
    "a nan": (put(torch.ones(5), math.nan), "`bandwidth` must be positive and finite everywhere"),
    "an inf": (put(torch.ones(5), math.inf), "`bandwidth` must be positive and finite everywhere"),
    "integer": (torch.ones(5, dtype=torch.int64), r"`bandwidth` \(torch.int64\) must be floating point"),
    "length": (torch.ones(4), r"`bandwidth` \[4\] must be a number, \[5\], \[5, 3\] or \[5, 3, 3\]"),
    "per keypoint": (torch.ones(5, 2), r"`bandwidth` \[5, 2\] must be a number, \[5\], \[5, 3\] or \[5, 3, 3\]"),
}


@with_bandwidth
@pytest.mark.parametrize("case", BAD_BANDWIDTH.values(), ids=BAD_BANDWIDTH.keys())
def test_bad_input_bandwidth(call, case):
    bandwidth, message = case
    with pytest.raises(ValueError, match=message):
        call(L, P, bandwidth)


@every
def test_values_are_not_checked_without_validate(call):
    call(put(L, math.nan), put(P, math.inf), BATCH, validate=False)
    call(put(L, math.nan), P, ptr=torch.tensor([0, 2, 2, 5]), validate=False)
    call(DENSE_L, DENSE_P, mask=torch.tensor([[True, True], [False, False]]), validate=False)


@with_bandwidth
def test_bandwidth_values_are_not_checked_without_validate(call):
    call(L, P, put(torch.ones(5), -1.0), validate=False)


@every
def test_nothing_is_read_from_the_device_without_validate(call):
    # A fake tensor has no values: reading one raises. With `validate` the rules on values do read.
    with FakeTensorMode(allow_non_fake_inputs=True) as fake:
        logits, pos, batch, ptr = (fake.from_tensor(x) for x in (L, P, BATCH, PTR))
        call(logits, pos, validate=False)
        call(logits, pos, batch, batch_size=2, validate=False)
        call(logits, pos, ptr=ptr, validate=False)
        dense_logits, dense_pos = fake.from_tensor(DENSE_L), fake.from_tensor(DENSE_P)
        call(dense_logits, dense_pos, mask=torch.ones(2, 2, dtype=torch.bool), validate=False)
        with pytest.raises(Exception, match=r"data-dependent|DataDependent|_local_scalar_dense"):
            call(logits, pos)


@every
def test_values_are_not_checked_while_compiling(call):
    # A value rule would read from the device and so break the graph, which fullgraph forbids.
    torch._dynamo.reset()
    compiled = torch.compile(lambda *args, **kwargs: call(*args, **kwargs), backend="eager", fullgraph=True)
    compiled(put(L, math.nan), P, ptr=PTR)


@every
def test_masked_rows_may_hold_anything(call):
    logits, pos = DENSE_L.clone(), DENSE_P.clone()
    logits[1, 1], pos[1, 1] = math.nan, math.inf
    mask = torch.tensor([[True, True], [True, False]])
    out = call(logits, pos, mask=mask)
    for part in (out,) if isinstance(out, torch.Tensor) else out:
        assert part.isfinite().all()


@with_bandwidth
def test_masked_bandwidths_may_hold_anything(call):
    bandwidth = torch.tensor([[0.1, 0.2], [0.3, math.nan]], dtype=torch.float64)
    mask = torch.tensor([[True, True], [True, False]])
    out = call(DENSE_L, DENSE_P, bandwidth, mask=mask)
    for part in (out,) if isinstance(out, torch.Tensor) else out:
        assert part.isfinite().all()


@pytest.mark.parametrize("kind", [torch.int32, torch.int64])
def test_batch_and_ptr_say_the_same(kind):
    device = torch.device("cpu")
    by_batch = resolve_batch(5, device, batch=BATCH.to(kind), ptr=None, batch_size=None, check=True)
    by_size = resolve_batch(5, device, batch=BATCH.to(kind), ptr=None, batch_size=2, check=True)
    by_ptr = resolve_batch(5, device, batch=None, ptr=PTR.to(kind), batch_size=None, check=True)
    for batch, ptr, num_clouds, _ in (by_batch, by_size, by_ptr):
        assert torch.equal(batch, BATCH)
        assert torch.equal(ptr, PTR)
        assert num_clouds == 2
        assert batch.dtype == ptr.dtype == torch.int64


@pytest.mark.parametrize("sizes", [[4], [3, 3], [1, 5, 2], [1, 1, 1]])
def test_cloud_reductions_against_a_loop(sizes, close):
    logits, pos, ptr = ragged(sizes)
    points = canonical(logits, pos, ptr=ptr)
    clouds = [(logits[a:b], pos[a:b]) for a, b in itertools.pairwise(ptr)]
    close(cloud_sum(logits, points), torch.stack([x.sum(0) for x, _ in clouds]))
    close(cloud_max(logits, points), torch.stack([x.amax(0) for x, _ in clouds]))
    close(cloud_softmax(logits, points), torch.cat([x.softmax(0) for x, _ in clouds]))
    close(cloud_log_softmax(logits, points), torch.cat([x.log_softmax(0) for x, _ in clouds]))
    close(cloud_mean(logits, pos, points), torch.stack([x.T @ y for x, y in clouds]))
    rows = torch.stack([x.argmax(0) for x, _ in clouds]) + ptr[:-1, None]
    assert torch.equal(first_maximum(logits, points), rows)


def test_reductions_agree_between_layouts(close):
    logits, pos, ptr = ragged([3, 3])
    flat = canonical(logits, pos, ptr=ptr)
    dense = canonical(logits.view(2, 3, 2), pos.view(2, 3, 3))
    assert torch.equal(flat.ptr, dense.ptr)
    assert torch.equal(flat.batch, dense.batch)
    close(cloud_softmax(flat.logits, flat), cloud_softmax(dense.logits, dense))
    close(cloud_mean(flat.logits, flat.pos, flat), cloud_mean(dense.logits, dense.pos, dense))


def test_first_maximum_takes_the_lowest_of_equals():
    logits = torch.tensor([[1.0], [3.0], [3.0], [2.0], [2.0]])
    points = canonical(logits, logits, ptr=torch.tensor([0, 3, 5]))
    assert first_maximum(logits, points).tolist() == [[1], [3]]


def test_first_maximum_is_a_row_even_for_an_empty_cloud():
    # An index beyond the last row would end in an error, on an accelerator in one that ends the process.
    logits = torch.tensor([[1.0], [3.0]])
    points = canonical(logits, logits, ptr=torch.tensor([0, 2, 2]), validate=False)
    assert first_maximum(logits, points)[0].tolist() == [1]
    assert first_maximum(logits, points)[1].item() in (0, 1)


@pytest.mark.parametrize(
    ("logits", "pos", "expected"),
    [
        (torch.float16, torch.float16, torch.float32),
        (torch.bfloat16, torch.float32, torch.float32),
        (torch.float32, torch.float32, torch.float32),
        (torch.float32, torch.float64, torch.float64),
        (torch.float64, torch.float32, torch.float64),
    ],
)
@every
def test_working_precision(call, logits, pos, expected):
    out = call(L.to(logits), P.to(pos))
    out = out if isinstance(out, torch.Tensor) else out.position
    assert out.dtype == expected


BAD_POS = {
    "nan": ((put(P, math.nan),), {}, "`pos` must be finite"),
    "no points": ((P[:0],), {}, r"`pos` \[0, 3\] must have at least one point"),
    "no axes": ((P[:, :0],), {}, r"`pos` \[5, 0\]"),
    "axes": ((DENSE_P[None],), {}, r"`pos` \[1, 2, 2, 3\] .* must be floating point \[N, D\] or \[B, N, D\]"),
    "dense with batch": ((DENSE_P, BATCH), {}, r"`batch`, `ptr` and `batch_size` are for ragged `pos`"),
    "mask": ((DENSE_P,), {"mask": torch.ones(2, 3, dtype=torch.bool)}, r"`mask` \[2, 3\] .* must be bool \[2, 2\]"),
    "ragged with mask": ((P,), {"mask": torch.ones(1, 5, dtype=torch.bool)}, "`mask` is for dense `pos`"),
    "integer": ((P.long(),), {}, r"`pos` .*int64"),
    "k": ((P,), {"k": 0}, r"`k` \(=0\) must be at least 1"),
    "scale": ((P,), {"scale": 0.0}, r"`scale` \(=0.0\) must be positive"),
    "scale nan": ((P,), {"scale": math.nan}, r"`scale` \(=nan\)"),
    "unsorted": ((P, BATCH.flip(0)), {}, "`batch` must be sorted"),
    "both": ((P, BATCH), {"ptr": PTR}, "`batch` and `ptr`"),
    "empty": ((P,), {"ptr": torch.tensor([0, 5, 5])}, "`ptr` must give every cloud a point"),
    "empty at the end": ((P, BATCH), {"batch_size": 3}, "`batch` must give every cloud a point"),
}


@pytest.mark.parametrize("case", BAD_POS.values(), ids=BAD_POS.keys())
def test_bad_input_knn_bandwidth(case):
    args, options, message = case
    with pytest.raises(ValueError, match=message):
        knn_bandwidth(*args, **options)
