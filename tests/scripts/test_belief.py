"""What ``pcsa evaluate`` says of a detector beside its scores, and the temperature of its confidences."""

import json
import shutil

import numpy as np
import pytest
import torch

from pcsa.datasets.keypointnet import KeypointNet
from pcsa.datasets.keypointnet.mirror import category_mirror_pairs
from pcsa.metrics import fit_temperature
from pcsa.scripts.cli import main
from pcsa.tasks import open_run
from pcsa.tasks.common.belief import READ_OUTS
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
    rows = {row[0]: row for row in cells}
    error = metrics["read_outs"]["ball"]["euclidean"]["mean_error"]
    assert f"{error:.4f}" in rows["ball"]


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


def test_a_temperature_is_fitted_on_val_and_used_from_then_on(own, root, tmp_path, predict, refused, capsys):
    before = torch.load(own, weights_only=True)
    pos = KeypointNet(root, "mug", "test")[0].pos
    np.save(tmp_path / "a.npy", pos.numpy())
    flags = ["--read-out", "ball", "--radius", "0.1"]
    plain = predict(own, [tmp_path / "a.npy"], tmp_path / "plain", *flags)["items"][0]
    evaluate = ["evaluate", str(own), "--no-geodesic", "--correct-threshold", "0.1"]
    assert "`fit_temperature` (=True) must not be set for split 'test'" in refused(
        [*evaluate, "--split", "test", "--fit-temperature"]
    )
    assert "must not be set with `ensemble` or `test_time`" in refused(
        [*evaluate, "--fit-temperature", "--test-time", "2"]
    )
    assert main([*evaluate, "--fit-temperature"]) == 0
    run = open_run(own)
    logits, index = [], []
    for item in KeypointNet(root, "mug", "val", keypoint_ids=run.labels.semantic_ids):
        logits += run.task.locate(run, [item.pos], "expectation").logits
        index.append(item.keypoint_index[0])
    assert run.calibration.temperature == pytest.approx(fit_temperature(logits, index), rel=1e-3)
    # It was fitted to the network alone.
    assert open_ensemble(run, test_time=2).calibration.temperature == 1
    assert run.calibration.split == "val"
    # Nothing else in the checkpoint changed.
    after = torch.load(own, weights_only=True)
    assert after["pcsa"].pop("calibration") == run.calibration._asdict()
    assert after["pcsa"] == before["pcsa"]
    assert after.keys() == before.keys()
    for name, value in before["state_dict"].items():
        assert torch.equal(after["state_dict"][name], value)

    found = predict(own, [tmp_path / "a.npy"], tmp_path / "fitted", *flags)["items"][0]
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
