import json

import numpy as np
import pytest
import torch

import pcsa
from pcsa.datasets.keypointnet import KeypointNet
from pcsa.scripts.cli import main
from pcsa.tasks import open_run


def test_clouds_are_scored_by_a_radius(checkpoint, tmp_path, capsys):
    masses = []
    for options, radius in (([], 0.01), (["--radius", "0.1"], 0.1)):
        out = tmp_path / f"{radius}.json"
        flags = ["--read-out", "ball", *options, "--split", "val", "--no-geodesic", "--out", str(out)]
        assert main(["evaluate", str(checkpoint), *flags]) == 0
        metrics = json.loads(out.read_text())
        # Without a radius, it is the error below which a keypoint counts as right.
        assert (metrics["read_out"], metrics["radius"]) == ("ball", radius)
        assert f"read-out: ball, radius {radius:g}" in capsys.readouterr().out
        bins = metrics["overall"]["calibration"]["reliability"]
        masses.append(sum(c * n for c, n in zip(bins["confidence"], bins["counts"], strict=True) if n))
    assert masses[1] > 2 * masses[0]


def test_one_call_reads_by_several_balls(checkpoint, tmp_path, capsys, refused):
    def rows(*flags):
        out = tmp_path / "m.json"
        assert main(["evaluate", str(checkpoint), "--split", "val", "--no-geodesic", "--out", str(out), *flags]) == 0
        return json.loads(out.read_text())

    both = rows("--ball-radii", "0.02", "0.1")
    assert list(both["read_outs"])[-3:] == ["ball, 0.02", "ball, 0.1", "template"]
    assert "| ball, 0.1 " in capsys.readouterr().out
    alone = rows("--read-out", "ball", "--radius", "0.1")
    names = list(alone["per_shape"])
    for name in names:
        wide, own = (m["per_shape"][name]["read_outs"] for m in (both, alone))
        assert wide["ball, 0.1"]["euclidean"] == pytest.approx(own["ball"]["euclidean"], abs=1e-5)
        assert wide["ball, 0.02"]["euclidean"] != pytest.approx(own["ball"]["euclidean"], abs=1e-5)
    # The confidence is the probability within the error that counts as right, for all rows.
    assert both["read_outs"]["ball"]["mass"]["mean"] > both["read_outs"]["ball, 0.1"]["mass"]["mean"]
    assert "`ball_radii` (=-1.0) must be positive" in refused(["evaluate", checkpoint, "--ball-radii", "-1"])


@pytest.mark.parametrize("read_out", ["ball", "ball_point", "median"])
def test_predictions_say_how_much_lies_within_the_radius(checkpoint, root, tmp_path, read_out):
    pos = KeypointNet(root, "mug", "val")[0].pos
    np.save(tmp_path / "a.npy", 10 * pos.numpy())
    out = tmp_path / "out.json"
    flags = ["--read-out", read_out, "--radius", "0.5", "--out", str(out)]
    assert main(["predict", str(checkpoint), str(tmp_path / "a.npy"), *flags]) == 0
    document = json.loads(out.read_text())
    assert (document["read_out"], document["radius"]) == (read_out, 0.5)
    (item,) = document["items"]
    run = open_run(checkpoint)
    located = run.task.locate(run, [10 * pos], read_out, 0.5)
    np.testing.assert_allclose(item["position"], located.position[0], rtol=1e-5)
    held = pcsa.ball_mass(located.logits[0], 10 * pos, torch.tensor(item["position"])[None], 0.5)
    np.testing.assert_allclose(item["confidence"], held[0], rtol=1e-4)
    if read_out == "ball_point":
        apart = torch.cdist(torch.tensor(item["position"]), 10 * pos)
        assert apart.amin(1).max() < 1e-4


def test_the_default_is_for_clouds_of_the_size_of_keypointnet(checkpoint, root, tmp_path, capsys):
    pos = KeypointNet(root, "mug", "val")[0].pos.numpy()
    for name, scale in (("plain", 1), ("millimeters", 1000)):
        np.save(tmp_path / f"{name}.npy", scale * pos)
    out = ["--read-out", "ball", "--out", str(tmp_path / "out.json")]
    assert main(["predict", str(checkpoint), str(tmp_path), *out]) == 3
    document = json.loads((tmp_path / "out.json").read_text())
    assert document["radius"] == 0.01
    assert [item["input"].rsplit("/", 1)[1] for item in document["items"]] == ["plain.npy"]
    assert "`radius` (=None) must be given with `read_out` 'ball'" in document["failed"][0]["reason"]
    # With another radius these are other predictions.
    assert main(["predict", str(checkpoint), str(tmp_path), *out, "--radius", "0.02"]) == 2
    assert "`radius` (=None, now 0.02)" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["pose2d", "oct"])
def test_maps_are_read_by_pixels(trained, name, tmp_path, capsys):
    flags = ["--split", "val" if name == "oct" else "test", "--out", str(tmp_path / "m.json"), "--read-out", "ball"]
    assert main(["evaluate", str(trained(name)), *flags]) == 2
    assert "must be given with `read_out` 'ball', in pixels of the network's input" in capsys.readouterr().err
    assert main(["evaluate", str(trained(name)), *flags, "--radius", "4"]) == 0
    metrics = json.loads((tmp_path / "m.json").read_text())
    assert (metrics["read_out"], metrics["radius"]) == ("ball", 4)
    assert "read-out: ball, radius 4 pixels" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_a_radius_is_positive(checkpoint, command, tmp_path, capsys):
    inputs = [str(tmp_path)] if command == "predict" else []
    with pytest.raises(SystemExit):
        main([command, str(checkpoint), *inputs, "--radius", "-1"])
    assert "`radius` (=-1.0) must be positive and" in capsys.readouterr().err
