"""``pcsa evaluate --robustness`` and ``--rotate`` as a user calls them."""

import csv
import json
import shutil
from pathlib import Path

import pytest

from pcsa.scripts.cli import main

CLOUDS = ("supervised", "unsupervised")


@pytest.fixture(scope="module", params=CLOUDS)
def of(request):
    return request.param


def evaluated(checkpoint, *options):
    assert main(["evaluate", str(checkpoint), "--no-progress", *options]) == 0


def test_a_table_and_a_plot_of_every_corruption(trained, of, tmp_path, capsys, drawn):
    checkpoint, out = trained(of), tmp_path / "broken.json"
    kinds = "rotation thinning occlusion missing"
    evaluated(checkpoint, "--robustness", "--robustness-kinds", *kinds.split(), "--out", str(out))
    said = capsys.readouterr().out
    result = json.loads(out.read_text())
    levels = [(row["kind"], row["level"]) for row in result["rows"]]
    assert levels[0] == ("whole", 0)
    assert [kind for kind in dict.fromkeys(kind for kind, _ in levels)][1:] == kinds.split()
    # Clouds of 256 points cannot lose what they lack.
    assert [level for kind, level in levels if kind == "thinning"] == [128]
    rows = {(row["kind"], row["level"]): row for row in result["rows"]}
    assert rows["thinning", 128]["points"] == 128
    assert rows["missing", 0.5]["points"] == 128
    assert rows["occlusion", 1]["points"] < rows["occlusion", 4]["points"] <= 256
    if of == "unsupervised":
        # Its own keypoints are found again where nothing has changed.
        assert result["against"] == "own"
        assert rows["whole", 0]["right"] == 1
        assert rows["whole", 0]["error"] == pytest.approx(0, abs=1e-6)
        assert 0 < rows["whole", 0]["dual_alignment"] <= 1
        assert "found again@0.05" in said
    else:
        assert rows["whole", 0]["present_gone"] is None
        assert rows["missing", 0.5]["present_gone"] is not None
        assert set(rows["thinning", 128]["likelihood"]) == {"neighbors", "constant", "gain"}
        assert "likelihood" not in rows["rotation", 15]
        assert "PCK@0.05" in said
    for row in result["rows"][1:]:
        change = row["difference"]
        assert change["low"] <= change["mean"] <= change["high"]
        assert change["mean"] == pytest.approx(row["right"] - rows["whole", 0]["right"], abs=1e-9)
    table = list(csv.DictReader(out.with_suffix(".csv").read_text(encoding="utf-8").splitlines()))
    assert [(row["kind"], row["level"]) for row in table] == [(kind, str(level)) for kind, level in levels]
    assert float(table[1]["difference_mean"]) == pytest.approx(result["rows"][1]["difference"]["mean"])
    width, height = drawn(out.with_suffix(".png"))
    assert min(width, height) > 300
    assert not out.with_name("broken.json.partial").exists()


def test_what_an_earlier_call_measured_is_not_measured_again(trained, tmp_path, monkeypatch, capsys):
    from pcsa.scripts import robustness

    checkpoint, out = trained("supervised"), tmp_path / "broken.json"
    asked = ["--robustness", "--robustness-kinds", "noise", "--out", str(out)]
    evaluated(checkpoint, *asked)
    before, said = json.loads(out.read_text()), capsys.readouterr().out
    measured, done = robustness.measure, []

    def some(bench, setting):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(setting)
        return measured(bench, setting)

    monkeypatch.setattr(robustness, "measure", some)
    assert main(["evaluate", str(checkpoint), "--no-progress", *asked]) == 130
    monkeypatch.setattr(robustness, "measure", lambda b, s: done.append(s) or measured(b, s))
    capsys.readouterr()
    evaluated(checkpoint, *asked)
    assert len({(setting.kind, setting.level) for setting in done}) == len(done)
    assert json.loads(out.read_text()) == before
    assert capsys.readouterr().out == said


def test_meshes_beside_the_clouds_are_sampled_anew(trained, tmp_path):
    root, out = tmp_path / "root", tmp_path / "broken.json"
    flags = "--categories mug --num-shapes 10 --num-points 256 --meshes"
    assert main(["data", "generate", str(root), *flags.split()]) == 0
    asked = ["--robustness", "--robustness-kinds", "sampling", "--root", str(root), "--out", str(out)]
    evaluated(trained("supervised"), *asked)
    rows = json.loads(out.read_text())["rows"]
    assert [row["level"] for row in rows] == [0, "area", "even", "faces"]
    assert len({row["error"] for row in rows}) == 4


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--robustness --robustness-kinds fog", "`robustness_kinds` (='fog') must be out of heading"),
        ("--robustness-kinds noise", "must be given with `robustness`"),
        ("--robustness --rotate any", "`rotate` (='any') must be 'none'"),
        ("--robustness --fit-temperature", "`fit_temperature` (=True)"),
    ],
)
def test_mistakes_are_named(trained, options, said, capsys):
    try:
        status = main(["evaluate", str(trained("supervised")), *options.split()])
    except SystemExit as ended:  # what is wrong with the options themselves, the parser says
        status = ended.code
    assert status == 2
    words = " ".join(capsys.readouterr().err.split())
    assert said in words


def test_scores_of_turned_clouds_have_files_of_their_own(trained, of, tmp_path):
    # A card would list the scores beside the run that other tests share.
    checkpoint = Path(shutil.copytree(trained(of).parent, tmp_path / "run")) / trained(of).name
    evaluated(checkpoint, "--rotate", "any", "--split", "test")
    result = json.loads((checkpoint.parent / "metrics-test-rotated-any.json").read_text())
    assert (result["rotated"], result["rotate_seed"]) == ("any", 0)
    out = tmp_path / "other.json"
    evaluated(checkpoint, "--rotate", "any", "--rotate-seed", "7", "--split", "test", "--out", str(out))
    other = json.loads(out.read_text())
    assert other["per_shape"] != result["per_shape"] or of == "unsupervised"
