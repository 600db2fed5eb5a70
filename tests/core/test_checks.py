import math

import numpy as np
import pytest
import torch

from pcsa._core.checks import (
    check_between,
    check_count,
    check_finite,
    check_floating,
    check_index,
    check_interval,
    check_mask,
    check_non_negative,
    check_number,
    check_one_of,
    check_positive,
    check_shape,
    check_size,
    check_thresholds,
    finite,
    raise_first,
)

NAN = torch.tensor([1.0, math.nan])


@pytest.mark.parametrize("number", [2, 2.0, np.float32(2), np.int64(2)])
def test_numbers_may_be_numpy_s(number):
    check_number("x", number)
    check_positive("x", number)
    check_non_negative("x", number)
    check_between("x", number, 2, 3)


def test_what_is_allowed_passes():
    check_count("k", np.int64(3), most=3)
    check_count("seed", 0, least=0)
    check_non_negative("x", 0)
    check_between("x", 0, 0, 1, "[)")
    check_between("x", 1, 0, 1, "(]")
    assert check_thresholds("x", [0, 0.1, np.float32(0.5)]) == (0, 0.1, 0.5)
    assert check_thresholds("x", (t / 4 for t in range(3))) == (0, 0.25, 0.5)
    for array in (np.array([0, 0.25], np.float32), torch.tensor([0, 0.25])):
        found = check_thresholds("x", array)
        assert found == (0, 0.25)
        assert {type(t) for t in found} == {float}
    check_shape("x", np.zeros((3, 5)), (3, "N"))
    check_interval("x", (-1, np.float32(0.5)))
    check_mask("x", torch.ones(2, 3, dtype=torch.bool), (2, 3))
    check_index("x", torch.ones(2, dtype=torch.int32), [2])
    assert check_size("size", [4, 6]) == (4, 6)
    assert check_size("size", torch.Size([4, 6, 8]), 3) == (4, 6, 8)
    for array in (np.array([4, 6]), torch.tensor([4, 6]), [np.int64(4), np.int32(6)]):
        assert {type(n) for n in check_size("size", array)} == {int}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: check_count("k", 0), r"`k` \(=0\) must be at least 1"),
        (lambda: check_count("k", 2.0, 2), r"`k` \(=2.0\) must be a whole number of at least 2"),
        (lambda: check_count("k", True), r"`k` \(=True\) must be a whole number"),
        (lambda: check_count("k", 9, most=8), r"`k` \(=9\) must be from 1 to 8"),
        (lambda: check_number("x", True), r"`x` \(=True\) must be a number"),
        (lambda: check_number("x", np.True_), r"`x` \(=.*True.*\) must be a number"),
        (lambda: check_count("k", np.True_), r"`k` \(=.*True.*\) must be a whole number"),
        (lambda: check_count("k", np.array(3)), r"`k` \(=array\(3\)\) must be a whole number"),
        (lambda: check_count("k", torch.tensor(3)), r"`k` \(=tensor\(3\)\) must be a whole number"),
        (lambda: check_thresholds("t", 0.1), r"`t` \(=0.1\) must be a list of numbers"),
        (lambda: check_thresholds("t", "0.1"), r"`t` \(='0.1'\) must be a list of numbers"),
        (lambda: check_thresholds("t", ["0.1"]), r"`t` \(='0.1'\) must be a number"),
        (lambda: check_thresholds("t", torch.tensor(0.2)[None] / 0), r"`t` \(=\[inf\]\) must be increasing"),
        (lambda: check_size("s", np.array([4.0, 6.0])), r"`s` \(=array\(\[4., 6.\]\)\) must be \(height, width\)"),
        (lambda: check_positive("x", "1"), r"`x` \(='1'\) must be a number"),
        (lambda: check_positive("x", 0.0), r"`x` \(=0.0\) must be positive and finite"),
        (lambda: check_positive("x", math.inf), r"`x` \(=inf\) must be positive and finite"),
        (lambda: check_non_negative("x", -1), r"`x` \(=-1\) must be at least 0 and finite"),
        (lambda: check_non_negative("x", math.nan), r"`x` \(=nan\) must be at least 0 and finite"),
        (lambda: check_between("x", 1.5, 0, 1), r"`x` \(=1.5\) must be from 0 to 1"),
        (lambda: check_between("x", math.nan, 0, 1), r"`x` \(=nan\) must be from 0 to 1"),
        (lambda: check_interval("x", (0, 1, 2)), r"`x` \(=\(0, 1, 2\)\) must be two numbers, low and high"),
        (lambda: check_interval("x", ("0", 1)), r"`x` \(='0'\) must be a number"),
        (lambda: check_interval("x", (1.0, 1.0)), r"`x` \(=\(1.0, 1.0\)\) must be finite, and rise"),
        (lambda: check_interval("x", (0, math.inf)), r"`x` \(=\(0, inf\)\) must be finite, and rise"),
        (lambda: check_between("x", 1, 0, 1, "[)"), r"`x` \(=1\) must be at least 0 and below 1"),
        (lambda: check_between("x", 0, 0, 1, "(]"), r"`x` \(=0\) must be above 0 and at most 1"),
        (lambda: check_thresholds("x", []), r"`x` \(=\[\]\) must be increasing"),
        (lambda: check_thresholds("x", [0.1, 0.1]), r"`x` \(=\[0.1, 0.1\]\) must be increasing"),
        (lambda: check_thresholds("x", [-1, 1]), "`x` .* at least 0"),
        (lambda: check_thresholds("x", [1, math.inf]), "`x` .* finite"),
        (lambda: check_one_of("x", "c", ("a", "b")), r"`x` \(='c'\) must be one of 'a', 'b'"),
        (lambda: check_size("size", (4, True)), r"`size` \(=\(4, True\)\) must be \(height, width\): whole"),
        (lambda: check_size("size", (4, 0)), r"`size` \(=\(4, 0\)\) must be \(height, width\): whole"),
        (lambda: check_size("size", 4), r"`size` \(=4\) must be \(height, width\)"),
        (lambda: check_size("size", (4, 4), 3), r"`size` .* must be \(depth, height, width\)"),
        (lambda: check_floating("x", [1.0]), r"`x` \(list\) must be a tensor"),
        (lambda: check_floating("x", torch.tensor(1)), r"`x` \(torch.int64\) must be floating point"),
        (lambda: check_shape("x", torch.zeros(3, 5), (2, "N")), r"`x` \[3, 5\] must be \[2, N\]"),
        (lambda: check_shape("x", torch.zeros(3), (3, "N")), r"`x` \[3\] must be \[3, N\]"),
        (lambda: check_mask("x", torch.ones(2), [2]), r"`x` \[2\] \(torch.float32\) must be bool \[2\]"),
        (lambda: check_index("x", torch.ones(2).long(), [3]), r"`x` \[2\] \(torch.int64\) must be int64 \[3\]"),
        (lambda: check_finite("x", NAN), "`x` must be finite: NaN or infinite values found"),
    ],
)
def test_a_broken_rule_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_values_are_not_read_unless_asked_for():
    check_finite("x", NAN, validate=False)
    compiled = torch.compile(lambda x: check_finite("x", x) or x + 1, backend="eager", fullgraph=True)
    assert compiled(NAN)[0] == 2


def test_the_first_rule_that_does_not_hold_is_raised():
    raise_first([])
    raise_first([finite("x", torch.ones(2))])
    with pytest.raises(ValueError, match="`y` must be finite where seen: NaN"):
        raise_first([finite("x", torch.ones(2)), finite("y", NAN, "where seen"), finite("z", NAN)])
