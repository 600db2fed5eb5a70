"""Thresholds within which everything, or nothing, is right are refused or warned of."""

import logging

import pytest
import torch

from pcsa.metrics import THRESHOLDS
from pcsa.tasks.common.fitting import Scale, check_suited, scale_of, suited, suits


def cube(side, spacing_levels=5):
    axis = torch.linspace(0, side, spacing_levels, dtype=torch.float64)
    return torch.cartesian_prod(axis, axis, axis)


def test_scale_by_hand():
    # A cube of side 4 in steps of 1, far away: the diagonal is the root of 48; copies do not count.
    far = torch.tensor([5e5, 4.6e6, 0.0], dtype=torch.float64)
    cloud = torch.cat([cube(4), torch.zeros(500, 3, dtype=torch.float64)]) + far
    scale = scale_of([cloud, cube(4), cube(400)])
    assert scale.diagonal == pytest.approx(48**0.5)
    assert scale.spacing == pytest.approx(1)
    assert scale_of([torch.ones(3, 3)]) == (0, 0)


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1000.0, 2e5])
def test_suited_thresholds_suit(unit, caplog):
    scale = scale_of([cube(0.6 * unit, 20)])
    thresholds = suited((0, *THRESHOLDS[1:]), scale)
    assert suits(thresholds, scale)
    check_suited("thresholds", thresholds, scale)
    assert not caplog.records
    assert suits(THRESHOLDS, scale) == (unit == 1)


def test_thresholds_that_make_everything_right_are_refused():
    rule = (
        r"`thresholds` \(=0, 0.01, 0.1\) must be below 5e-07, .*median diagonal of 2e-06; "
        r"`--thresholds 0 2e-08 4e-08 1e-07 2e-07`"
    )
    with pytest.raises(ValueError, match=rule):
        check_suited("thresholds", (0, 0.01, 0.1), Scale(2e-6, 1e-8))
    with pytest.raises(ValueError, match=r"`correct_threshold` \(=0.3\) must be below 0.25"):
        check_suited("correct_threshold", [0.3], Scale(1.0, 0.01), [0.01])


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        # A cup in meters: its small thresholds mean something.
        (Scale(0.2, 0.003), "`thresholds`: at 0.05, 0.1 nearly any prediction counts as right"),
        (Scale(1000.0, 15.0), "`thresholds` (=0, 0.01, 0.05, 0.1): nearly no prediction can be right"),
        (Scale(100.0, 0.1), "nearly no prediction can be right"),
        (Scale(1.0, 0.015), None),
        (Scale(3.0, 0.1), None),
    ],
    ids=["cup", "millimeters", "centimeters", "KeypointNet", "bed"],
)
def test_what_only_some_thresholds_say_is_a_warning(scale, message, caplog):
    with caplog.at_level(logging.WARNING):
        check_suited("thresholds", (0, 0.01, 0.05, 0.1), scale)
    assert (message or "") in caplog.text
    assert bool(caplog.records) == (message is not None)
