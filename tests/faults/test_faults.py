"""The harness finds what is lost, and nothing is lost by what writes files as this package does."""

import random
import sys
from pathlib import Path

import pytest

HERE = str(Path(__file__).parent)


@pytest.fixture(scope="module", autouse=True)
def modules():
    """The harness is no part of the package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(HERE)
        yield


@pytest.fixture(scope="module")
def harness(modules, tmp_path_factory):
    from harness import Harness, Victims

    harness = Harness(tmp_path_factory.mktemp("faults"), Victims(light=True))
    yield harness
    harness.close()


@pytest.fixture(scope="module")
def scenario(modules):
    """Replacing a file and adding a row to another, by a program."""
    from harness import LostError, Scenario

    def prepare(folder):
        (folder / "whole.json").write_text("a" * 1000)
        (folder / "rows").write_text("first\n")

    def result(folder):
        return (folder / "whole.json").read_text(), (folder / "rows").read_text()

    def check(folder):
        text, rows = result(folder)
        if text not in ("a" * 1000, "b" * 1000) or not rows.startswith("first\n"):
            raise LostError("what was there is gone")

    def make(program):
        words = [program, "b" * 1000]

        # What a kill has cut off of the last row is no row.
        def again(folder):
            rows = (folder / "rows").read_text()
            (folder / "rows").write_text(rows[: rows.rindex("\n") + 1])
            return words

        return Scenario(program, prepare, words, again, result, check)

    return make


@pytest.mark.parametrize("do", ["kill", "terminate", "full", "broken", "read-only", "clock-back"])
def test_nothing_is_lost_at_any_point(harness, scenario, do):
    scenario = scenario("whole")
    points = harness.whole(scenario).points
    assert {"create", "write", "fsync", "rename", "unlink"} <= {point["operation"] for point in points}
    outcomes = [harness.try_fault(scenario, {"do": do, "at": number}) for number in range(len(points))]
    assert [outcome for outcome in outcomes if outcome.lost] == []
    assert sum(outcome.happened for outcome in outcomes) == len(points)


@pytest.mark.parametrize("do", ["kill", "full", "broken"])
def test_a_loss_is_found(harness, scenario, do):
    scenario = scenario("careless")
    points = harness.whole(scenario).points
    lost = [harness.try_fault(scenario, {"do": do, "at": number}).lost for number in range(len(points))]
    assert any(lost)


def test_a_name_that_comes_before_its_content_is_found(modules):
    from harness import LostError, check_order

    write = {"operation": "write", "when": "before", "path": "run/.last-#.ckpt"}
    sync = {"operation": "fsync", "when": "after", "path": "run/.last-#.ckpt"}
    rename = {"operation": "rename", "when": "before", "path": "run/last.ckpt"}
    check_order([write, sync, rename])
    for points in ([write, rename], [write, sync, write, rename]):
        with pytest.raises(LostError, match=r"last\.ckpt gets its name before it is on the disk"):
            check_order(points)


def test_a_disk_of_limited_size(harness, scenario):
    outcome = harness.try_fault(scenario("whole"), {"do": "limit", "bytes": 500})
    assert "File too large; what it held before is kept" in outcome.said
    assert not outcome.lost


def test_endings_are_held_against_what_is_promised(scenario, tmp_path):
    from harness import LostError, check_ending

    (tmp_path / "a").touch()
    line = "pcsa train: `a`: No space left on device"
    for do, status, said in (
        ("full", 1, line),
        ("full", 2, f"{line}\n{line}"),
        ("full", 2, "pcsa train: something is wrong"),
        ("full", 2, "Traceback (most recent call last):"),
        ("terminate", 1, ""),
        ("interrupt", 143, "x --resume"),
        ("kill", 1, ""),
    ):
        with pytest.raises(LostError):
            check_ending(scenario("whole"), do, status, said, tmp_path)
    for do, status, said in (
        ("full", 2, f"nothing to validate on\n{line}"),
        ("full", 0, ""),
        ("terminate", 143, "SIGTERM: writing\nstopped; go on by\npcsa train x --resume"),
        ("terminate", -15, ""),
        ("interrupt", 130, "\npcsa train: interrupted"),
        ("kill", -9, ""),
    ):
        check_ending(scenario("whole"), do, status, said, tmp_path)


def test_the_table_counts_what_happened(modules):
    from harness import Outcome
    from soak import some_point, table

    outcomes = [
        Outcome("train oct", {"do": "kill"}),
        Outcome("train oct", {"do": "kill"}, lost="rows"),
        Outcome("train oct", {"do": "kill"}, happened=False),
        Outcome("label", {"do": "full"}),
    ]
    lines = table(outcomes).splitlines()
    assert lines[2:] == ["| train oct | 2 |  | 2 | 1 |", "| label |  | 1 | 1 | 0 |", "| all | 2 | 1 | 3 | 1 |"]
    points = [{"operation": op, "when": "after", "path": path} for op, path in (("write", "a.x"), ("rename", "b.y"))]
    assert some_point(points, ("rename", "after", "b.y"), random.Random(0)) == 1
    points.append({"operation": "fsync", "when": "before", "path": "c.z"})
    assert some_point(points, None, random.Random(0), before=True) == 2
    points.pop()
    assert {some_point(points, None, random.Random(seed)) for seed in range(20)} == {0, 1}
    assert HERE in sys.path
