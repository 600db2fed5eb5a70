import json

import pytest

from pcsa.scripts.reproduce.digests import shown_config
from pcsa.scripts.reproduce.results import Results
from pcsa.tasks.supervised import SupervisedConfig


def row(method, seed, **more):
    return {
        "method": method,
        "category": "bed",
        "fold": None,
        "seed": seed,
        "task": "supervised",
        "split": "val",
        "run": f"{method}-{seed}",
        "digest": "0",
        "config": shown_config(SupervisedConfig(seed=seed)),
        "versions": {"pcsa": "1"},
        "figures": {"peak": {"PCK": 1.0}},
        "keypoints": {"a": 3},
        "shapes": {"peak": {"PCK": [1.0]}},
        **more,
    }


def test_rows_come_back_and_two_writers_lose_none(tmp_path):
    first, second = Results(tmp_path), Results(tmp_path)
    first.add(row("b", 1))
    second.add(row("a", 0))
    assert [r["run"] for r in Results(tmp_path).rows.values()] == ["a-0", "b-1"]
    assert list(Results(tmp_path).rows.values()) == [row("a", 0), row("b", 1)]
    lines = (tmp_path / "results.jsonl").read_text().splitlines()
    # One more run is one more line.
    first.add(row("aa", 2))
    after = (tmp_path / "results.jsonl").read_text().splitlines()
    assert [after[0], after[2]] == lines
    assert json.loads(after[1])["run"] == "aa-2"


def test_a_row_is_replaced_by_one_of_the_same_run(tmp_path):
    results = Results(tmp_path)
    results.add(row("a", 0))
    results.add(row("a", 0, figures={"peak": {"PCK": 2.0}}))
    (found,) = Results(tmp_path).rows.values()
    assert found["figures"] == {"peak": {"PCK": 2.0}}


def test_a_broken_file_is_named(tmp_path):
    (tmp_path / "results.jsonl").write_text('{"method": "a"\n')
    with pytest.raises(ValueError, match=r"results\.jsonl`: cannot be read as a file of JSON lines"):
        Results(tmp_path)
    (tmp_path / "results.jsonl").write_text('{"method": "a"}\n')
    with pytest.raises(ValueError, match=r"results\.jsonl`: cannot be read as rows of runs"):
        Results(tmp_path)
