"""Times take turns, and memory is that of the call. No time is asserted."""

import sys

import pytest
import torch

from pcsa.scripts.bench.contenders import compare, literal_bytes, peak_memory
from pcsa.scripts.bench.measure import take_turns
from pcsa.scripts.bench.report import ratio

CPU = torch.device("cpu")


@pytest.mark.slow
def test_peak_memory_is_that_of_the_call():
    sizes = {"clouds": [512] * 4, "K": 10, "S": 30}
    peak, again, ours = peak_memory([("literal", sizes), ("literal", sizes), ("sampler", sizes)], CPU)
    # Every figure stands for itself, also after others in the same process.
    assert abs(again - peak) < 0.05 * peak
    assert 0 < ours < 0.5 * peak
    # Of [B, S, K, N] elements at least the noise of three axes, the moved points and the weights live at once;
    # nothing needs 40 floats for each.
    elements = 4 * 512 * 10 * 30
    assert 7 * 4 * elements < peak < 40 * 4 * elements
    # What the module says of a reference that would not fit.
    assert 0.5 < literal_bytes(sizes["clouds"], 10, 30) / peak < 2


def test_turns_alternate_and_ratios_are_paired():
    order = []
    runs = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    seconds = take_turns(runs, 2, CPU)
    assert {len(x) for x in seconds.values()} == {2}
    blocks = [name for i, name in enumerate(order) if i == 0 or order[i - 1] != name]
    assert blocks == ["a", "b"] * 3  # once to warm up
    # 1/2, 4/1 and 9/3 have the median 3; the medians of the times have the ratio 4/2.
    paired = ratio("x", [1.0, 4.0, 9.0], [2.0, 1.0, 3.0], 1.5)
    assert (paired.median, paired.target, paired.met) == (3.0, 1.5, False)


def test_no_turns_run_nothing():
    def refuse():
        raise AssertionError("it was run")

    assert take_turns({"a": refuse}, 0, CPU) == {"a": []}
    assert ratio("x", [], [], 1.0).met is None


def test_contenders_keep_their_names(monkeypatch):
    monkeypatch.setattr("pcsa.scripts.bench.contenders.peak_memory", lambda workloads, device: [1, 2])
    sizes = {"clouds": [16, 16], "K": 2, "S": 2}
    seconds, memory = compare({"usual": ("literal", sizes), "ours": ("sampler", sizes)}, 2, CPU)
    assert memory == {"usual": 1, "ours": 2}
    assert [len(times) for times in seconds.values()] == [2, 2]


def test_a_process_that_fails_says_so(monkeypatch):
    monkeypatch.setattr(sys, "executable", "false")
    with pytest.raises(RuntimeError, match=r"bench\.contenders .*literal"):
        peak_memory([("literal", {})], CPU)
