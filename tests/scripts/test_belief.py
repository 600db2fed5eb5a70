"""What ``pcsa evaluate`` says of a detector beside its scores, and the temperature of its confidences."""

import json
import shutil

import numpy as np
import pytest
import torch

from pcsa.datasets.folds import Fold
from pcsa.datasets.keypointnet import KeypointNet
from pcsa.datasets.keypointnet.mirror import category_mirror_pairs
from pcsa.metrics import fit_temperature
from pcsa.scripts.cli import main
from pcsa.tasks import open_run
from pcsa.tasks.common.belief import READ_OUTS
from pcsa.tasks.common.calibrations import Calibration
from pcsa.tasks.common.detection import DetectionEvaluation
from pcsa.tasks.common.run import open_ensemble


@pytest.fixture
def own(checkpoint, tmp_path):
    """A copy of the checkpoint that may be written to."""
    folder = tmp_path / "run"
    folder.mkdir()
    return shutil.copy(checkpoint, folder / "last.ckpt")


def test_what_is_said_beside_the_scores(scored, root):
    metrics, table = scored("supervised")
    assert list(metrics["read_outs"]) == [*READ_OUTS, "template"]
    # The row of the read-out that was asked for has the scores of the whole.
    for kind in ("euclidean", "geodesic"):
        row = metrics["read_outs"]["expectation"][kind]
        assert row["pck"] == pytest.approx(metrics["overall"][kind]["pck"], abs=1e-6)
        assert row["mean_error"] == pytest.approx(metrics["overall"][kind]["mean_error"], rel=1e-5)
    peak = metrics["read_outs"]["peak"]
    assert peak["surface"]["pck"] == pytest.approx(peak["euclidean"]["pck"], abs=1e-6)
    assert "mass" not in metrics["read_outs"]["template"]
    pairs = category_mirror_pairs(KeypointNet(root, "mug", "all"))
    assert metrics["labels"]["num_pairs"] == pairs.on_surface.sum()
    assert metrics["confidence"]["temperature"] == 1
    assert set(metrics["confidence"]["candidates"]) == {"mass", "peak", "entropy", "expected_error"}
    for part in ("read-out of the same maps", "floor", "no other point as near", "AURC", "ECE (95 %)"):
        assert part in table
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("|")]
    ball, mass = (row for row in cells if row[0] == "ball")
    error = metrics["read_outs"]["ball"]["euclidean"]["mean_error"]
    assert f"{error:.4f}" in ball
    # Before a temperature is fitted there is one row for each read-out.
    scores = metrics["read_outs"]["ball"]["mass"]
    low, high = scores["expected_calibration_error_interval"]
    assert mass[1:3] == ["as trained", f"{scores['mean']:.2f} / {scores['correct']:.2f}"]
    assert mass[-1] == f"{scores['expected_calibration_error']:.3f} ({low:.3f} to {high:.3f})"


def test_other_read_outs_can_be_compared(checkpoint, tmp_path):
    out = tmp_path / "m.json"
    flags = ["--compared", "mode", "--no-geodesic", "--out", str(out)]
    assert main(["evaluate", str(checkpoint), *flags]) == 0
    rows = json.loads(out.read_text())["read_outs"]
    assert list(rows) == ["mode", "expectation", "template"]
    assert set(rows["mode"]) == {"euclidean", "surface", "mass"}


def test_a_floor_needs_the_training_clouds(own, root, tmp_path, caplog):
    away = shutil.copytree(root, tmp_path / "away")
    saved = torch.load(own, weights_only=True)
    saved["pcsa"]["config"]["data"]["root"] = str(tmp_path / "gone")
    torch.save(saved, own)
    assert main(["evaluate", str(own), "--root", str(away), "--no-geodesic"]) == 0
    assert "template" not in json.loads((own.parent / "metrics-val.json").read_text())["read_outs"]
    assert "no floor, for the training clouds cannot be read" in caplog.text


def test_a_temperature_is_fitted_on_val_and_used_from_then_on(own, root, tmp_path, predict, refused, capsys, caplog):
    before = torch.load(own, weights_only=True)
    pos = KeypointNet(root, "mug", "test")[0].pos
    np.save(tmp_path / "a.npy", pos.numpy())
    flags = ["--read-out", "ball", "--radius", "0.1"]
    plain = predict(own, [tmp_path / "a.npy"], tmp_path / "plain", *flags)["items"][0]
    evaluate = ["evaluate", str(own), "--no-geodesic", "--correct-threshold", "0.1"]
    assert "`fit_temperature` (=True) must not be set for split 'test'" in refused(
        [*evaluate, "--split", "test", "--fit-temperature"]
    )
    assert main([*evaluate, "--fit-temperature"]) == 0
    run = open_run(own)
    logits, index = [], []
    for item in KeypointNet(root, "mug", "val", keypoint_ids=run.labels.semantic_ids):
        logits += run.task.locate(run, [item.pos], "expectation").logits
        index.append(item.keypoint_index[0])
    assert run.calibration.temperature == pytest.approx(fit_temperature(logits, index), rel=1e-3)
    # It was fitted to the network alone.
    assert open_ensemble(run, test_time=2).calibration == Calibration()
    assert "is fitted for one network over 2 variations of each cloud, only for one network:" in caplog.text
    assert run.calibration.split == "val"
    # Nothing else in the checkpoint changed.
    after = torch.load(own, weights_only=True)
    assert after["pcsa"].pop("calibration") == run.calibration._asdict()
    assert after["pcsa"] == before["pcsa"]
    assert after.keys() == before.keys()
    for name, value in before["state_dict"].items():
        assert torch.equal(after["state_dict"][name], value)

    document = predict(own, [tmp_path / "a.npy"], tmp_path / "fitted", *flags)
    assert (document["temperature"], document["fitted_on"]) == run.calibration
    found = document["items"][0]
    assert found["position"] == plain["position"]
    located = run.task.locate(run, [pos], "ball", 0.1)
    prob = (located.logits[0] / run.calibration.temperature).softmax(0)
    mass = (prob * (torch.cdist(pos, located.position[0]) < 0.1)).sum(0)
    np.testing.assert_allclose(found["confidence"], mass, atol=1e-4)
    np.testing.assert_allclose(found["entropy"], -(prob * prob.log()).sum(0), rtol=1e-3)
    assert abs(np.array(found["confidence"]) - plain["confidence"]).max() > 1e-5

    capsys.readouterr()
    for split in ("test", "val"):
        assert main([*evaluate, "--split", split]) == 0
        said = capsys.readouterr().out
        assert f"temperature of the confidences {run.calibration.temperature:.3g} (fitted on val)" in said
        assert ("optimistic here" in said) == (split == "val")
        scores = json.loads((own.parent / f"metrics-{split}.json").read_text())["confidence"]
        assert scores["temperature"] == run.calibration.temperature


def judged(run, split, temperature_of, radius=0.2):
    """What the masses of the balls are, and what is right, keypoint by keypoint and by hand."""
    sure, right = [], []
    clouds = run.task.annotated(run, split)
    for i in range(len(clouds)):
        item = clouds[i]
        located = run.task.locate(run, [item.pos], "ball", radius)
        for k in item.visible[0].nonzero()[:, 0].tolist():
            prob = (located.logits[0][:, k].double() / temperature_of(i)).softmax(0)
            at = located.position[0, k]
            sure.append(float(prob[(item.pos - at).norm(dim=1) < radius].sum()))
            right.append(bool((item.keypoints[0, k] - at).norm() < radius))
    return np.array(sure), np.array(right)


def naive_error(sure, right, num_bins=10):
    """ECE in bins of equal count, as it is written down."""
    rank = [(sure < s).sum() * num_bins // len(sure) for s in sure]
    gaps = [abs(right[of].mean() - sure[of].mean()) * of.sum() for b in set(rank) if (of := np.array(rank) == b).any()]
    return sum(gaps) / len(sure)


@pytest.fixture
def set_fold(root):
    """Says that a checkpoint holds out one of two folds, and returns their sizes."""

    def set_(path, index):
        saved = torch.load(path, weights_only=True)
        saved["pcsa"]["config"]["data"] |= {"fold": index, "num_folds": 2}
        torch.save(saved, path)
        return [len(KeypointNet(root, "mug", "val", fold=Fold(i, 2))) for i in range(2)]

    return set_


def test_masses_before_and_after_a_temperature(own, set_fold, capsys):
    set_fold(own, 0)
    evaluate = ["evaluate", str(own), "--no-geodesic", "--correct-threshold", "0.2"]
    assert main([*evaluate, "--fit-temperature"]) == 0
    metrics = json.loads((own.parent / "metrics-val.json").read_text())
    run, mass = open_run(own), metrics["read_outs"]["ball"]["mass"]
    fitted = metrics["confidence"]["fitted"]
    assert fitted["temperature"] == run.calibration.temperature
    assert fitted["on"] == "fold 0 of 2 of train"
    # Nothing was fitted before.
    assert "as_trained" not in mass
    assert len(fitted["cross_fitted"]) == metrics["num_items"]
    assert "fitted on other clouds of the same" in capsys.readouterr().out

    def agree(found, split, temperature_of):
        sure, right = judged(run, split, temperature_of)
        assert 0 < right.mean() < 1
        assert found["mean"] == pytest.approx(sure.mean(), rel=1e-3)
        assert found["correct"] == pytest.approx(right.mean())
        assert found["expected_calibration_error"] == pytest.approx(naive_error(sure, right), rel=1e-2)
        low, high = found["expected_calibration_error_interval"]
        assert 0 <= low <= high <= 1

    agree(mass, "val", lambda i: 1.0)
    before = own.read_bytes()
    assert main([*evaluate, "--cross-fit", "--out", str(own.parent / "again.json")]) == 0
    again = json.loads((own.parent / "again.json").read_text())
    assert again["confidence"]["fitted"] == {**fitted, "stored": False}
    assert again["read_outs"]["ball"]["mass"]["cross_fitted"] == mass["cross_fitted"]
    assert own.read_bytes() == before
    shapes = again["per_shape"].values()
    sure = [m for shape in shapes for m in shape["read_outs"]["ball"]["cross_fitted"] if m is not None]
    assert np.mean(sure) == pytest.approx(mass["cross_fitted"]["mean"], rel=1e-4)
    agree(mass["cross_fitted"], "val", lambda i: fitted["cross_fitted"][i])
    assert main([*evaluate, "--split", "test"]) == 0
    mass = json.loads((own.parent / "metrics-test.json").read_text())["read_outs"]["ball"]["mass"]
    agree(mass, "test", lambda i: fitted["temperature"])
    agree(mass["as_trained"], "test", lambda i: 1.0)
    assert mass["as_trained"]["mean"] != mass["mean"]


@pytest.fixture
def second(own):
    """Another network for the same keypoints."""
    saved = torch.load(own, weights_only=True)
    generator = torch.Generator().manual_seed(1)
    for value in saved["state_dict"].values():
        if value.is_floating_point():
            value += 0.01 * torch.randn(value.shape, generator=generator)
    path = own.parent / "second.ckpt"
    torch.save(saved, path)
    return path


def test_every_way_of_averaging_has_a_temperature_of_its_own(own, second, root, tmp_path, predict, caplog):
    flags = ["--no-geodesic", "--correct-threshold", "0.1", "--fit-temperature"]
    caplog.set_level("INFO")
    before = [path.read_bytes() for path in (own, second)]
    assert main(["evaluate", str(own), str(second), "--test-time", "2", *flags]) == 0
    assert "temperature of the confidences of the mean of 2 networks over 2 variations of each cloud" in caplog.text
    # The first one has it.
    assert second.read_bytes() == before[1] != before[0] != own.read_bytes()
    both = open_ensemble(open_run(own), [second], test_time=2)
    logits, index = [], []
    for item in KeypointNet(root, "mug", "val", keypoint_ids=both.labels.semantic_ids):
        logits += both.task.locate(both, [item.pos], "expectation").logits
        index.append(item.keypoint_index[0])
    assert both.calibration == (pytest.approx(fit_temperature(logits, index), rel=1e-3), "val")

    def known(path, others=(), test_time=1):
        return open_ensemble(open_run(path), others, test_time=test_time).calibration

    # In whatever order, and wherever the files lie.
    moved = shutil.copy(second, tmp_path / "moved.ckpt")
    assert known(second, [own], 2) == known(own, [moved], 2) == both.calibration
    caplog.clear()
    for way in ((own,), (own, [second]), (own, [], 2), (own, [second], 3)):
        assert known(*way) == Calibration()
    only = "only for the mean of 2 networks over 2 variations of each cloud: they are as trained"
    assert [only in record.message for record in caplog.records] == [True] * 4
    # They do not know of it.
    assert known(second) == known(second, [moved]) == Calibration()
    assert len(caplog.records) == 4

    # Each way keeps its own; one that is fitted again replaces what it had.
    for more in ([], [str(second)], ["--test-time", "2"], [str(second), "--test-time", "2"]):
        assert main(["evaluate", str(own), *more, *flags]) == 0
    found = [known(own), known(own, [second]), known(own, [], 2), known(own, [second], 2)]
    assert len({calibration.temperature for calibration in found}) == 4
    assert len(torch.load(own, weights_only=True)["pcsa"]["calibrations"]) == 3
    assert found[-1] == both.calibration

    np.save(tmp_path / "a.npy", KeypointNet(root, "mug", "test")[0].pos.numpy())
    document = predict(own, [second, tmp_path / "a.npy"], tmp_path, "--test-time", "2")
    pos = torch.from_numpy(np.load(tmp_path / "a.npy"))
    prob = (both.task.locate(both, [pos], "expectation").logits[0] / both.calibration.temperature).softmax(0)
    np.testing.assert_allclose(document["items"][0]["confidence"], prob.amax(0), rtol=1e-4)
    assert document["temperature"] == both.calibration.temperature


def test_a_held_out_fold_is_fitted_on_by_those_that_did_not_see_it(own, second, set_fold, refused, capsys, caplog):
    count, _ = set_fold(own, 0), set_fold(second, 1)
    flags = ["--no-geodesic", "--correct-threshold", "0.1"]
    assert main(["evaluate", str(own), *flags, "--fit-temperature"]) == 0
    calibration = open_run(own).calibration
    assert calibration.split == "fold 0 of 2 of train"
    capsys.readouterr()
    assert main(["evaluate", str(own), *flags]) == 0
    assert "ECE is optimistic here" in capsys.readouterr().out
    assert main(["evaluate", str(own), *flags, "--split", "test"]) == 0
    assert "ECE is optimistic here" not in capsys.readouterr().out
    # A network that was trained on a fold knows it.
    told = f"second.ckpt` was trained on {count[0]} of the {count[0]} clouds to score"
    assert told in refused(["evaluate", own, second, *flags, "--fit-temperature"])
    assert f"{told}, see `--allow-seen`" in refused(["evaluate", own, second, *flags])
    assert main(["evaluate", str(own), str(second), *flags, "--allow-seen"]) == 0
    assert f"{told}: the scores are those of clouds that are known" in caplog.text
    assert told in refused(["evaluate", own, second, *flags, "--fit-temperature", "--allow-seen"])
    caplog.clear()
    assert main(["evaluate", str(own), str(second), *flags, "--split", "test"]) == 0
    assert "clouds to score" not in caplog.text


def test_the_checkpoint_of_a_training_that_goes_on_is_not_written(own, second, refused, monkeypatch):
    score = DetectionEvaluation.scores

    def scores(self):
        shutil.copy(second, own)
        return score(self)

    monkeypatch.setattr(DetectionEvaluation, "scores", scores)
    said = refused(["evaluate", own, "--no-geodesic", "--correct-threshold", "0.1", "--fit-temperature"])
    assert "last.ckpt` has other weights than when it was opened" in said
    assert own.read_bytes() == second.read_bytes()
