import copy
import json
import math

import pytest
from hypothesis import given, settings, strategies as st

from pcsa import TemperatureSchedule

KINDS = ["constant", "linear", "exponential", "cosine"]


# From 2 to 0.5 in 4 steps. Exponential: a factor of (1/4)^(1/4) = 1/sqrt(2) per step. Cosine:
# 1.25 + 0.75 cos(pi f), and cos(pi/4) = 1/sqrt(2).
@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("linear", [2.0, 1.625, 1.25, 0.875, 0.5]),
        ("exponential", [2.0, math.sqrt(2), 1.0, math.sqrt(0.5), 0.5]),
        ("cosine", [2.0, 1.25 + 0.75 / math.sqrt(2), 1.25, 1.25 - 0.75 / math.sqrt(2), 0.5]),
    ],
)
def test_values(kind, values):
    schedule = TemperatureSchedule(kind, start=2.0, end=0.5, num_steps=4)
    for value in values:
        assert schedule.value == pytest.approx(value)
        schedule.step()
    assert schedule.value == pytest.approx(0.5)
    assert [schedule.at(step) for step in range(5)] == pytest.approx(values)
    assert schedule.at(-3) == pytest.approx(2.0)
    assert schedule.at(10**9) == pytest.approx(0.5)


def test_constant():
    schedule = TemperatureSchedule(start=0.7, num_steps=3)
    assert [schedule.at(step) for step in range(5)] == [0.7] * 5
    assert TemperatureSchedule().value == 1.0
    for kind in KINDS:  # without an `end` it stays
        assert TemperatureSchedule(kind, start=0.3, num_steps=3).at(2) == pytest.approx(0.3)


@settings(deadline=None, max_examples=30, derandomize=True)
@given(
    kind=st.sampled_from(KINDS[1:]),
    start=st.floats(1e-3, 100),
    end=st.floats(1e-3, 100),
    num_steps=st.integers(1, 1000),
)
def test_it_goes_one_way_and_stays_between_its_ends(kind, start, end, num_steps):
    schedule = TemperatureSchedule(kind, start=start, end=end, num_steps=num_steps)
    values = [schedule.at(step) for step in range(num_steps + 2)]
    assert values[0] == pytest.approx(start)
    assert values[num_steps] == pytest.approx(end)
    slack = 1e-9 * max(start, end)
    low, high = min(start, end) - slack, max(start, end) + slack
    assert all(low <= value <= high for value in values)
    ordered = sorted(values, reverse=start > end)
    assert values == pytest.approx(ordered)


def test_progress_is_stored_in_plain_numbers():
    build = lambda: TemperatureSchedule("cosine", start=2.0, end=1.0, num_steps=10)  # noqa: E731
    schedule = build()
    for _ in range(3):
        schedule.step()
    other = build()
    other.load_state_dict(json.loads(json.dumps(schedule.state_dict())))
    assert other.value == schedule.value != build().value
    copied = copy.deepcopy(schedule)
    copied.step()
    assert copied.value < schedule.value


def test_repr():
    assert repr(TemperatureSchedule(start=0.5)) == "0.5"
    assert repr(TemperatureSchedule("linear", start=2.0, end=1.0, num_steps=7)) == "linear(2 to 1 in 7)"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "step"}, r"`kind` \(='step'\) must be one of 'constant', 'linear'"),
        ({"start": 0.0}, r"`start` \(=0.0\) must be positive and finite"),
        ({"start": math.nan}, r"`start` \(=nan\)"),
        ({"kind": "linear", "end": -1.0}, r"`end` \(=-1.0\) must be positive and finite"),
        ({"kind": "linear", "end": math.inf}, r"`end` \(=inf\)"),
        ({"start": 2.0, "end": 1.0}, r"`end` \(=1.0\) must be `start` \(=2.0\)"),
        ({"kind": "linear", "end": 0.5, "num_steps": 0}, r"`num_steps` \(=0\) must be at least 1"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(ValueError, match=message):
        TemperatureSchedule(**options)
