"""``pcsa export``: graphs that find what the network finds, and none that does not."""

import json

import numpy as np
import pytest
import torch

from pcsa import exported
from pcsa.scripts.cli import main
from pcsa.tasks import open_run
from pcsa.tasks.common import exporting
from pcsa.tasks.common.run_programs import program_of

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


def session(path):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options)


def located(run, clouds):
    """What the library finds."""
    found = run.task.locate(run, [torch.from_numpy(cloud).double() for cloud in clouds], "expectation")
    return found.position.numpy()


def shapes(*sizes):
    rng = np.random.default_rng(0)
    return [rng.normal(size=(n, 3)) for n in sizes]


@pytest.mark.slow
@pytest.mark.parametrize("geometry", ["inside", "input"])
@pytest.mark.parametrize("name", ["supervised", "unsupervised"])
def test_a_cloud_goes_in_and_its_keypoints_come_out(trained, name, geometry, tmp_path, capsys):
    file = tmp_path / "a.onnx"
    assert main(["export", str(trained(name)), "--out", str(file), "--geometry", geometry]) == 0
    assert "its largest difference from the network is" in capsys.readouterr().out
    run, graph = open_run(trained(name)), session(file)
    about = exported.about(graph)
    assert about["names"] == list(run.labels.names)
    clouds = shapes(256, 50, 1000)
    found = exported.run(graph, clouds)
    # Of two points that are as far from the others, rounding may keep either.
    np.testing.assert_allclose(found["position"], located(run, clouds), atol=5e-3)
    assert len(found["logits"]) == 1306
    # Far away, as exact as near.
    far = exported.run(graph, [cloud + 1e6 for cloud in clouds])
    np.testing.assert_allclose(far["position"] - 1e6, found["position"], atol=5e-3)


@pytest.mark.slow
def test_a_program_of_torch(trained, tmp_path):
    file = tmp_path / "a.pt2"
    assert (
        main(["export", str(trained("supervised")), "--out", str(file), "--read-out", "local", "--radius", "0.2"]) == 0
    )
    extra = {"pcsa.json": ""}
    module = torch.export.load(file, extra_files=extra).module()
    assert json.loads(extra["pcsa.json"])["read_out"] == "local"
    (cloud,) = shapes(444)
    run = open_run(trained("supervised"))
    expected = run.task.locate(run, [torch.from_numpy(cloud)], "local", 0.2)
    position, _, confidence, *_ = module(torch.from_numpy(cloud).float())
    torch.testing.assert_close(position.double(), expected.position, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(confidence, expected.confidence, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pose2d", "pose3d", "pose3d-image", "oct", "landmarks"])
def test_images_volumes_and_scans(trained, name, tmp_path):
    file = tmp_path / "a.onnx"
    assert main(["export", str(trained(name)), "--out", str(file)]) == 0
    run, graph = open_run(trained(name)), session(file)
    (image,) = graph.get_inputs()
    assert image.shape[0] == "images"
    given = np.random.default_rng(1).random((3, *image.shape[1:]), dtype=np.float32)
    position, _, logits = graph.run(["position", "confidence", "logits"], {"image": given})
    expected = run.task.locate(run.config, run.model, torch.from_numpy(given))
    np.testing.assert_allclose(position, expected.position.numpy(), atol=1e-3)
    np.testing.assert_allclose(logits, expected.maps.numpy(), atol=1e-4)


def test_what_differs_is_not_left(trained, tmp_path, monkeypatch, refused):
    monkeypatch.setattr(exporting, "_traced", lambda program: None)
    monkeypatch.setattr(exporting, "_write_onnx", lambda program, traced, path: path.write_bytes(b"x"))
    wrong = {"position": 0.5, "confidence": 0.0, "logits": 0.0}

    def opened(path, program):
        def run(inputs):
            found = next(expected for _, given, expected in program.checks() if torch.equal(given[0], inputs[0]))
            return [found[name].numpy() + wrong[name] for name in program.outputs]

        return run

    monkeypatch.setattr(exporting, "_open_onnx", opened)
    file = tmp_path / "a.onnx"
    message = refused(["export", trained("landmarks"), "--out", file])
    assert "`position` is off by up to 0." in message
    assert "1 inputs of [3, 32, 32]" in message
    assert list(tmp_path.iterdir()) == []
    wrong["position"] = 1e-7
    assert main(["export", str(trained("landmarks")), "--out", str(file)]) == 0
    assert file.read_bytes() == b"x"
    # One that is wrong replaces none that is there.
    wrong["logits"] = float("nan")
    refused(["export", trained("landmarks"), "--out", file])
    assert file.read_bytes() == b"x"


@pytest.mark.parametrize(
    ("tried", "hint"), [("999", " by torch .*, torch 999 and newer can export detectors"), ("1", "")]
)
def test_a_torch_that_cannot_trace_is_told_from_one_that_should(trained, tmp_path, monkeypatch, tried, hint):
    def fails(*_, **__):
        raise RuntimeError("no graph")

    monkeypatch.setattr(exporting, "_TRIED", exporting.TorchVersion(tried))
    monkeypatch.setattr(torch.export, "export", fails)
    program = program_of(open_run(trained("landmarks")))
    with pytest.raises(ValueError, match=f"its read-out cannot be exported{hint}: RuntimeError: no graph"):
        exporting.export(program, tmp_path / "a.pt2")
    assert not list(tmp_path.iterdir())


def test_mistakes(trained, refused, checkpoint, tmp_path, monkeypatch):
    out = tmp_path / "a.onnx"
    assert "must end in .onnx or .pt2" in refused(["export", checkpoint, "--out", tmp_path / "a.pth"])
    assert "`radius` (=None) must be given" in refused(["export", checkpoint, "--out", out, "--read-out", "ball"])
    assert "clouds have any size" in refused(["export", checkpoint, "--out", out, "--size", "3"])
    assert "must be 2 numbers" in refused(["export", trained("landmarks"), "--out", out, "--size", "3"])
    run = open_run(checkpoint)
    run.model.backbone = torch.nn.Identity()
    with pytest.raises(ValueError, match=r"must have PointNet\+\+ as its backbone .*, has Identity"):
        program_of(run)
    real = exporting.importlib.import_module

    def missing(name):
        if name == "onnxscript":
            raise ModuleNotFoundError("No module named 'onnxscript'", name=name)
        return real(name)

    monkeypatch.setattr(exporting.importlib, "import_module", missing)
    program = program_of(open_run(trained("landmarks")))
    with pytest.raises(ModuleNotFoundError, match=r"`onnxscript` is missing: pip install 'pcsa\[export\]'"):
        exporting.export(program, out)
