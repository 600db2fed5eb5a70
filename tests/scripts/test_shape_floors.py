"""Floors and raters beside the scores of a detector of one's own: bones of both sides, in frames of their own."""

import json
import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from pcsa.datasets.custom import LabeledCloud, write_labeled
from pcsa.datasets.folds import Fold
from pcsa.datasets.keypointnet import KeypointNet
from pcsa.datasets.shots import Shots
from pcsa.metrics import mean_error, nearest_shape_keypoints, rater_error
from pcsa.scripts.cli import main
from pcsa.tasks.common.detection import SupervisedEvaluateOptions

NAMES = ["head", "neck", "notch", "crest"]
STUDY = """
title = "Few bones"
task = "supervised"
preset = "default"
options = "--model.out-channels 16 --optimizer.steps 2 --optimizer.batch-size 4 --data.augment.mirror 0"
folds = 2
fold_of = "train+val"
seeds = 1
baseline = "all"
categories = ["bone"]
columns = ["mean error", "mean error, % of the diagonal", "mean error on a point"]
read_outs = ["expectation", "template", "nearest shape, mirrored"]

[methods]
"all" = ""
"2 shots" = "--data.shots 2"
"""


@pytest.fixture(scope="module")
def bones(tmp_path_factory):
    """Six persons with a bone of each side, in millimeters, marked three times with a noise of 2 mm on each axis."""
    rng = np.random.default_rng(0)
    arms = np.array([[400.0, 50, 40], [50, 200, 30], [40, 30, 120]])
    unit, arm = rng.random((120, 3)), np.arange(120) % 3
    items, groups = [], []
    for person in range(6):
        bone = unit * (arms * rng.uniform(0.9, 1.1, (3, 3)))[arm]
        for side in "LR":
            points = bone * ([-1, 1, 1] if side == "L" else 1)
            points = points @ Rotation.random(random_state=rng).as_matrix().T + rng.uniform(-900, 900, 3)
            marks = points[:4, None] + rng.normal(0, 2, (4, 3, 3))
            name = f"p{person}_{side}"
            items.append(LabeledCloud(points, points[:4], NAMES, None, name, list(marks)))
            groups.append(f"p{person}")
    root = tmp_path_factory.mktemp("bones")
    write_labeled(root, "bone", items, groups=groups, up="none", snap=False, fractions=(0.7, 0.3, 0.0))
    return root


@pytest.fixture(scope="module")
def checkpoint(bones, fast, tmp_path_factory):
    """A detector that was trained on the bones of two persons."""
    out = tmp_path_factory.mktemp("run")
    data = f"--data.root {bones} --data.category bone --data.fold 1 --data.num-folds 3 --data.fold-of train+val"
    few = "--data.shots 2 --data.shots-seed 5 --data.augment.mirror 0 --model.out-channels 16 --optimizer.steps 2"
    assert main(["train", "supervised", *f"{data} {few} {fast} --out {out}".split()]) == 0
    return out / "last.ckpt"


def scored(checkpoint, out, *more):
    assert main(["evaluate", str(checkpoint), "--no-geodesic", "--compared", "median", "--out", str(out), *more]) == 0
    return json.loads(out.read_text())


@pytest.mark.slow
def test_floors_and_raters_stand_beside_the_scores(bones, checkpoint, tmp_path, capsys):
    found = scored(checkpoint, tmp_path / "floors.json", "--floors", "--floors-mirrored")
    page = capsys.readouterr().out
    fold = Fold(1, 3, ("train", "val"))
    train = KeypointNet(bones, "bone", "train", fold=fold, shots=Shots(2, 5))
    val = KeypointNet(bones, "bone", "val", fold=fold)
    assert len(train) == len(val) == 4
    clouds, shapes = [[of[i] for i in range(4)] for of in (val, train)]
    diagonal = torch.tensor([float(np.linalg.norm(np.ptp(c.pos.numpy(), axis=0))) for c in clouds])
    own = (torch.cat([c.keypoints for c in shapes]), torch.cat([c.visible for c in shapes]), [c.pos for c in shapes])
    placed = torch.stack([nearest_shape_keypoints(*own, c.pos, mirrored=True).keypoints for c in clouds])
    distance = (placed - torch.cat([c.keypoints for c in clouds])).norm(dim=-1)
    floors = found["floors"]
    assert (floors["num_training_shapes"], floors["mirrored"], floors["scaled"]) == (4, True, True)
    names = ["detector", "template", "mean shape, mirrored", "nearest shape, mirrored"]
    assert list(floors["rows"]) == names
    row = floors["rows"]["nearest shape, mirrored"]
    assert row["mean_error"] == pytest.approx(float(distance.mean()), rel=1e-4)
    assert row["share_of_diagonal"] == pytest.approx(float((distance / diagonal[:, None]).mean()), rel=1e-4)
    for k, name in enumerate(val.names):
        each = row["per_landmark"][name]
        assert each["mean_error"] == pytest.approx(float(distance[:, k].mean()), rel=1e-4)
        assert each["share_of_diagonal"] == pytest.approx(float((distance[:, k] / diagonal).mean()), rel=1e-4)
    # The same place stands among the read-outs, and the detector's row is that of its scores.
    assert found["read_outs"]["nearest shape, mirrored"]["euclidean"]["mean_error"] == pytest.approx(row["mean_error"])
    detector = floors["rows"]["detector"]
    assert detector["mean_error"] == pytest.approx(found["overall"]["euclidean"]["mean_error"], rel=1e-5)
    # Bones of the same kind fit each other; those that have not been learned are far off.
    assert row["mean_error"] < 30 < detector["mean_error"]
    best = floors["best"]
    errors = [floors["rows"][n][key] for n in names[1:] for key in ("mean_error", "mean_error_on_a_point")]
    assert best["mean_error"] == min(errors)
    raters = rater_error(torch.cat([c.marks for c in clouds]), torch.cat([c.marked for c in clouds]))
    assert found["raters"]["mean_error"] == pytest.approx(float(mean_error(*raters)))
    assert found["raters"]["per_landmark"]["head"]["mean_error"] == pytest.approx(
        float(raters.distance[:, val.names.index("head")].mean())
    )
    # Three marks with a noise of 2 mm on each axis.
    assert found["raters"]["mean_error"] == pytest.approx(2 * math.sqrt(1.5) * 2 * math.sqrt(2 / math.pi), rel=0.25)
    assert "best fitting of 4 training shapes, mirrored (floor)" in page
    assert f"half of the best floor ({best['floor']}" in page
    assert f"| one mark from the mean of the others | {found['raters']['mean_error']:.4f}" in " ".join(page.split())


def test_turned_clouds_have_the_same_floors(checkpoint, tmp_path):
    plain = scored(checkpoint, tmp_path / "plain.json", "--floors", "--floors-rigid")["floors"]["rows"]
    turned = scored(checkpoint, tmp_path / "turned.json", "--floors", "--floors-rigid", "--rotate", "any")["floors"]
    for name in ("mean shape, rigid", "nearest shape, rigid"):
        assert turned["rows"][name]["mean_error"] == pytest.approx(plain[name]["mean_error"], rel=0.05)


def test_floors_come_when_they_are_asked_for(checkpoint, tmp_path, capsys):
    found = scored(checkpoint, tmp_path / "plain.json")
    assert "floors" not in found
    assert "raters" in found
    assert list(found["read_outs"]) == ["median", "expectation", "template"]
    capsys.readouterr()


@pytest.mark.parametrize("option", ["floors_mirrored", "floors_rigid"])
def test_options_of_floors_without_floors_are_refused(checkpoint, option):
    with pytest.raises(ValueError, match=rf"`{option}` \(=True\) must be given with `floors` only"):
        SupervisedEvaluateOptions(checkpoint, **{option: True})


def test_more_shots_than_there_are_groups_are_refused(bones, fast, tmp_path, capsys):
    data = f"--data.root {bones} --data.category bone --data.shots 7 --data.fold 0 --data.num-folds 3"
    assert main(["train", "supervised", *f"{data} --data.fold-of train+val {fast} --out {tmp_path}".split()]) == 2
    error = capsys.readouterr().err
    assert "`shots` (=7) must be at most 4: there are 8 clouds in 4 groups to train on in bone, split 'train'" in error


@pytest.mark.slow
def test_a_study_of_few_shots_on_a_root_of_ones_own(bones, tmp_path, capsys):
    (tmp_path / "few.toml").write_text(STUDY)
    folders = ["--results", str(tmp_path / "results"), "--runs", str(tmp_path / "runs")]
    call = ["reproduce", str(tmp_path / "few.toml"), "--root", str(bones), *folders, "--executor", "debug"]
    assert main([*call, "--device", "cpu"]) == 0
    rows = [json.loads(line) for line in (tmp_path / "results" / "results.jsonl").read_text().splitlines()]
    assert {(row["method"], row["fold"]) for row in rows} == {(m, f) for m in ("all", "2 shots") for f in (0, 1)}
    assert [row["config"]["data"]["shots"] for row in rows if row["method"] == "2 shots"] == [2, 2]
    for row in rows:
        assert row["figures"].keys() >= {"expectation", "template", "nearest shape, mirrored"}
        figures = row["figures"]["nearest shape, mirrored"]
        assert figures["mean error"] < row["figures"]["expectation"]["mean error"]
        # Bones of about 450 mm.
        assert figures["mean error, % of the diagonal"] == pytest.approx(100 * figures["mean error"] / 450, rel=0.3)
    table = (tmp_path / "results" / "table.md").read_text()
    assert "## mean error, % of the diagonal, nearest shape, mirrored" in table
    assert "## mean error on a point, expectation" in table
    capsys.readouterr()
    # What is finished is not made again.
    assert main([*call, "--show"]) == 0
    assert "4 of 4 runs are finished" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("task", "read_outs", "message"),
    [
        ("unsupervised", '["expectation", "mean shape"]', "(='mean shape') must be no floor for unsupervised"),
        ("supervised", '["mean shape", "mean shape, rigid"]', "must have floors of one kind"),
    ],
)
def test_floors_that_do_not_fit_a_study_are_refused(bones, tmp_path, capsys, task, read_outs, message):
    preset = "demo" if task == "unsupervised" else "default"
    (tmp_path / "odd.toml").write_text(
        f'title = "Odd"\ntask = "{task}"\npreset = "{preset}"\nbaseline = "all"\ncategories = ["bone"]\n'
        f'columns = ["mean error"]\nread_outs = {read_outs}\n[methods]\n"all" = ""\n'
    )
    assert main(["reproduce", str(tmp_path / "odd.toml"), "--root", str(bones), "--show"]) == 2
    assert message in capsys.readouterr().err
