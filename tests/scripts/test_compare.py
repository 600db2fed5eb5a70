"""``pcsa compare`` as a user calls it."""

import json
from typing import get_args

import pytest

from pcsa.scripts.cli import main
from pcsa.tasks import get_task
from pcsa.tasks.common.config import Method


@pytest.mark.parametrize(
    ("task", "methods", "head", "keys"),
    [
        (
            "oct",
            {"soft": "soft", "sampling, triangular": "sampling"},
            ["MAD (px)", "std (px)", "Pearson r"],
            ["mean_px"],
        ),
        (
            "supervised",
            {"soft": "soft"},
            [
                *(f"{name}@{t}" for name in ("PCK", "geod.") for t in (0.01, 0.05, 0.1)),
                *("mean error", "presence AP", "Pearson r"),
            ],
            ["overall", "euclidean", "pck", 1],
        ),
    ],
)
def test_each_run_is_trained_once(training, tmp_path, capsys, monkeypatch, refused, task, methods, head, keys):
    arguments = ["compare", task, "--seeds", "1", "--methods", *methods, "--out", str(tmp_path)]
    options = ["--", *training(task)[1:]]
    assert main([*arguments, *options]) == 0
    table = capsys.readouterr().out
    table, _, details = table.partition("\n\n")
    first, rule, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    results = [json.loads(file.read_text()) for file in tmp_path.rglob("metrics-test.json")]
    columns = get_task(task).columns
    assert [column.title for column in columns] == head
    # What no run has makes no column.
    known = [column.title for column in columns if any(column.value(metrics) is not None for metrics in results)]
    assert first == ["objective", *known, "seconds"]
    assert known[0] == head[0]
    assert len(rule) == len(first)
    assert all(set(cell) == {"-"} for cell in rule)
    assert [row[0] for row in rows] == list(methods)
    for row, (name, method) in zip(rows, methods.items(), strict=True):
        run = tmp_path / task / f"{name.replace(', ', '-')}-0"
        value = json.loads((run / "metrics-test.json").read_text())
        for key in keys:
            value = value[key]
        shown = 100 * value if task == "supervised" else value
        assert float(row[1].split("±")[0]) == pytest.approx(shown, rel=1e-2)
        assert json.loads((run / "config.json").read_text())["config"]["objective"]["method"] == method

    assert bool(details) == (task == "supervised")
    if details:
        heads, _, *rows = [[c.strip() for c in line.strip("|").split("|")] for line in details.strip().splitlines()]
        assert [row[0] for row in rows] == [*["soft"] * 5, *["any"] * (len(rows) - 5)]
        found = {row[1]: dict(zip(heads, row, strict=True)) for row in rows}
        (metrics,) = results
        for name, scores in metrics["read_outs"].items():
            row = found["template of the training labels (floor)" if name == "template" else name]
            for head, value in (
                ("PCK@0.1", 100 * scores["euclidean"]["pck"][-1]),
                ("mean error", scores["euclidean"]["mean_error"]),
            ):
                assert float(row[head].split("±")[0]) == pytest.approx(value, rel=1e-2)
            if name != "template":
                assert float(row["ECE"].split("±")[0]) == pytest.approx(
                    scores["mass"]["expected_calibration_error"], rel=1e-2
                )
        assert found["ceiling of the labels"]["PCK@0.02"] == f"{100 * metrics['labels']['ceiling'][2]:.3g}"

    def trains(*_):
        raise RuntimeError("trains again")

    monkeypatch.setattr(type(get_task(task)), "train", trains)
    assert main([*arguments, *options]) == 0
    assert capsys.readouterr().out == f"{table}\n\n{details}" if details else table
    # Other options are another comparison.
    assert "`optimizer`" in refused([*arguments, *options, "--optimizer.lr", "0.5"])


def test_the_objectives_are_those_that_can_be_trained():
    task = get_task("supervised")
    assert {change["method"] for change in task.methods.values()} == set(get_args(Method))
    # By default few of them.
    assert set(task.compared_methods) < set(task.methods)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("landmarks --thresholds 1 2", "`thresholds` (=(1.0, 2.0)) must not be given for landmarks"),
        ("invented", "`task` (='invented') must be one of supervised, "),
        ("oct --seeds 0 --out EMPTY/run", "`seeds` (=0) must be at least 1"),
        ("oct --methods hard --out EMPTY/run", "`methods` (='hard') must be out of 'soft'"),
        (
            "supervised --methods hard --out EMPTY/run",
            "must be out of 'sampling', 'soft', 'discrete', 'mixture', 'nll', 'cross",
        ),
        ("supervised --methods soft mixture --out EMPTY/run", "`objective.norm` (='l2') has no closed form"),
        ("pose2d --split test --out EMPTY/run -- --data.root EMPTY", "`split` (='test') must be 'val'"),
        ("oct -- quick --out EMPTY/run", "`--out` after -- must not be given: `pcsa compare` sets it for each run"),
        ("oct --out EMPTY/run -- --seed=3", "see its own `seeds`"),
        ("oct --out EMPTY/run -- --no-resume", "see its own `out`"),
        ("supervised --out EMPTY/run -- --objective.method soft", "see its own `methods`"),
        ("oct --out EMPTY/run -- unknown", "`preset` (='unknown') must be one of"),
    ],
)
def test_mistakes_end_in_one_message_and_status_2(tmp_path, refused, command, message):
    assert message in refused(["compare", *command.replace("EMPTY", str(tmp_path)).split()])
    assert not list(tmp_path.iterdir())
