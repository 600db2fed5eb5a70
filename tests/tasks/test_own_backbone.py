"""Trainings on a network of one's own, by name, and whose code a checkpoint may run."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pcsa.datasets.transforms import Augment
from pcsa.scripts.cli import main
from pcsa.scripts.train import parse_training
from pcsa.tasks import get_task, open_run
from pcsa.tasks.common.backbone import parse_options
from pcsa.tasks.common.config import from_plain, to_plain
from pcsa.tasks.common.engine import StepTraining
from pcsa.tasks.common.run import open_ensemble
from pcsa.tasks.supervised import DetectorConfig
from pcsa.tasks.unsupervised import SkeletonConfig

TASK = get_task("supervised")
CODE = """
import torch
from torch import nn


class Dense(nn.Module):
    \"\"\"Layers on each point and the mean of its cloud; a dropout, so that a resumed run must repeat its draws.\"\"\"

    def __init__(self, in_channels: int = 3, width: int = 16, depth: int = 1, act: str = "relu") -> None:
        super().__init__()
        self.out_channels = width
        self.first = nn.Linear(in_channels, width)
        self.layers = nn.ModuleList(nn.Linear(2 * width, width) for _ in range(depth))
        self.act, self.dropout = getattr(torch, act), nn.Dropout(0.2)

    def forward(self, x, pos, batch):
        h = self.first(pos if x is None else x)
        for layer in self.layers:
            count = torch.bincount(batch).unsqueeze(1)
            mean = h.new_zeros(len(count), h.shape[1]).index_add(0, batch, h) / count
            h = self.act(layer(self.dropout(torch.cat([h, mean[batch]], 1))))
        return h


def bends(data, generator):
    data.pos = data.pos + 0.1 * torch.rand(3, generator=generator) * data.pos.square() + 0.01 * torch.rand(1)
    return data


def darkens(sample, generator):
    sample["image"] *= torch.rand((), generator=generator) + 0.1 * torch.rand(())
    return sample
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The name of a module outside of the package that is not imported yet."""
    name = f"own_networks_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    sys.modules.pop(name, None)


@pytest.fixture
def config(tiny, module, tmp_path):
    model = DetectorConfig(backbone=f"{module}:Dense", backbone_options={"width": 8})
    return replace(tiny("supervised"), model=model, out=tmp_path / "run")


def test_a_detector_on_a_network_of_ones_own(config, module, tmp_path, capsys):
    path = TASK.train(config)
    sys.modules.pop(module)
    message = rf"last\.ckpt` names a network outside of pcsa, `{module}:Dense` with width=8: .* import `{module}`"
    with pytest.raises(ValueError, match=message):
        open_run(path)
    with pytest.raises(ValueError, match=message):
        open_run(path, trust=replace(config.model, backbone_options={"width": 4}))
    assert main(["evaluate", str(path), "--no-progress"]) == 2
    assert "--trust-backbone" in capsys.readouterr().err
    assert module not in sys.modules
    for trust in (True, config.model):
        run = open_run(path, trust=trust)
        assert type(run.model.backbone).__name__ == "Dense"
        assert run.model.in_channels == 8
        assert run.config == config
    assert main(["evaluate", str(path), "--no-progress", "--trust-backbone"]) == 0
    clouds = config.data.root / "pcds"
    out = tmp_path / "predictions.json"
    assert main(["predict", str(path), str(clouds), "--recursive", "--out", str(out), "--trust-backbone"]) == 0
    assert out.exists()


def test_a_killed_run_resumes_to_the_same_weights(config, weights, same, tmp_path, monkeypatch):
    config = replace(config, optimizer=replace(config.optimizer, steps=4, averaging="ema"))
    whole = weights(TASK.train(replace(config, out=tmp_path / "whole")))
    step = StepTraining.training_step

    def dies(self, batch, batch_idx):
        if self.global_step == 3:
            raise RuntimeError("power cut")
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(StepTraining, "training_step", dies)
        with pytest.raises(RuntimeError, match="power cut"):
            TASK.train(config)
    torch.rand(3)  # torch's own generator plays no part
    assert same(whole, weights(TASK.train(replace(config, resume=True))))


def test_means_other_keypoints_and_several_categories(config, weights, tmp_path, monkeypatch):
    # A dropout of its own makes no difference to what is scored.
    first = TASK.train(config)
    second = TASK.train(replace(config, seed=1, out=tmp_path / "second"))
    run = open_run(first, trust=True)
    # The second names the same network, which the caller has opened.
    ensemble = open_ensemble(run, [second], test_time=2)
    assert len(ensemble.members) == 2
    begun = replace(config, init_from=first, data=replace(config.data, num_keypoints=3), out=tmp_path / "begun")
    TASK.train(replace(begun, optimizer=replace(config.optimizer, steps=1, lr=1e-12)))
    kept, taken = weights(first), weights(begun.out / "last.ckpt")
    torch.testing.assert_close(taken["network.backbone.first.weight"], kept["network.backbone.first.weight"])
    assert taken["network.score.2.weight"].shape[0] == 3


def test_without_labels(tiny, module, tmp_path):
    task, config = get_task("unsupervised"), tiny("unsupervised")
    for box in (True, False):
        model = SkeletonConfig(num_keypoints=4, backbone=f"{module}:Dense", box_features=box)
        out = task.train(replace(config, model=model, out=tmp_path / str(box)))
        with pytest.raises(ValueError, match="names a network outside of pcsa"):
            open_run(out)
        assert open_run(out, trust=True).model.in_channels == 16


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"data": {"precompute": True, "augment": Augment()}},
            r"`data.precompute` \(=True\) must be False with `model.backbone`",
        ),
        ({"model": {"scales": "multi"}}, r"`model.scales` \(='multi'\) must be left at 'single' with `model.backbone`"),
        ({"model": {"drop_path": 0.1}}, r"`model.drop_path` \(=0.1\) must be left at 0.0 with `model.backbone`"),
        ({"model": {"backbone": None}}, r"`model.backbone_options` \(=\{'width': 8\}\) must not be given without"),
        ({"model": {"backbone": "own"}}, r"`model.backbone` \(='own'\) must be a name like package\.module:Class"),
    ],
)
def test_what_does_not_go_together(config, changes, message):
    with pytest.raises(ValueError, match=message):
        replace(config, **{name: replace(getattr(config, name), **change) for name, change in changes.items()})


def test_options_are_words_or_json():
    words = [
        "k=20",
        "widths=[64,128]",
        "act=gelu",
        "on=True",
        "off=false",
        "none=None",
        "x=",
        "y=a=b",
        '{"z": {"a": 1}}',
    ]
    options = {"k": 20, "widths": [64, 128], "act": "gelu", "on": True, "off": False, "none": None, "x": "", "y": "a=b"}
    assert parse_options(words) == {**options, "z": {"a": 1}}
    for wrong in (["k"], ["k=1", "k=2"], ["{k: 1}"]):
        with pytest.raises(ValueError, match=r"must be (like key=value|a JSON object)|once more"):
            parse_options(wrong)


def test_options_of_the_command_line(module, capsys):
    said = ["train", "supervised", "--model.backbone", f"{module}:Dense", "--model.backbone-options"]
    _, config = parse_training([*said[1:], "width=8", "act=tanh", "--optimizer.steps", "3"], "train")
    assert config.model == DetectorConfig(
        backbone=f"{module}:Dense", backbone_options={"act": "tanh", "width": 8}, hidden_channels=None
    )
    assert config.optimizer.steps == 3
    assert module not in sys.modules
    assert main([*said, "wide=8"]) == 2
    assert "`model.backbone_options` (='wide') must be an argument of" in capsys.readouterr().err
    assert from_plain(DetectorConfig, to_plain(config.model)) == config.model


def test_an_augmentation_of_ones_own(tiny, module, weights, same, tmp_path):
    config = tiny("supervised")
    optimizer = replace(config.optimizer, steps=2)

    def run(name, custom, num_workers=0):
        data = replace(config.data, augment=Augment(custom=custom and f"{module}:{custom}"))
        trainer = replace(config.trainer, num_workers=num_workers, validate_every=10)
        return TASK.train(replace(config, data=data, trainer=trainer, optimizer=optimizer, out=tmp_path / name))

    first = run("first", "bends")
    assert same(weights(first), weights(run("worker", "bends", num_workers=1)))
    assert not same(weights(first), weights(run("none", None)))
    sys.modules.pop(module)
    # No function is needed to open it, nor to vary a cloud.
    assert open_ensemble(open_run(first), test_time=2).way.test_time == 2
    assert module not in sys.modules
    with pytest.raises(ValueError, match=r"`augment.custom` .* must name something in its module"):
        run("missing", "misses")
    assert not (tmp_path / "missing").exists()
    with pytest.raises(ValueError, match=r"`data.augment.custom` \(=.*\) must be None with `data.precompute`"):
        replace(config, data=replace(config.data, augment=Augment(custom="a:b"), precompute=True))


@pytest.mark.parametrize("name", ["landmarks", "oct", "pose3d-unet"])
def test_an_augmentation_of_images_of_ones_own(tiny, module, weights, same, tmp_path, name):
    config = tiny(name)
    task, optimizer = get_task(name.split("-")[0]), replace(config.optimizer, steps=2)

    def run(folder, custom, num_workers=0):
        augment = replace(config.data.augment, custom=custom and f"{module}:{custom}")
        trainer = replace(config.trainer, num_workers=num_workers, validate_every=10)
        data = replace(config.data, augment=augment)
        return task.train(replace(config, data=data, trainer=trainer, optimizer=optimizer, out=tmp_path / folder))

    first = run("first", "darkens")
    if name == "landmarks":
        assert same(weights(first), weights(run("worker", "darkens", num_workers=1)))
    assert not same(weights(first), weights(run("none", None)))
    sys.modules.pop(module)
    assert open_run(first).config.data.augment.custom == f"{module}:darkens"
    assert module not in sys.modules
    with pytest.raises(ValueError, match=r"`augment.custom` .* must name something in its module"):
        run("missing", "misses")
    assert not (tmp_path / "missing").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Dgcnn", "PointTransformer", "DenseTransformer"])
def test_the_networks_of_the_examples(tiny, tmp_path, monkeypatch, name):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "examples")
    model = DetectorConfig(backbone=f"backbones:{name}", backbone_options={"out_channels": 16})
    config = replace(tiny("supervised"), model=model, out=tmp_path)
    run = open_run(TASK.train(config), trust=True)
    assert run.step == 7
    # Clouds of a batch know nothing of each other, and points have no order.
    network, pos = run.model, torch.rand(90, 3)
    both = network(None, pos, ptr=torch.tensor([0, 40, 90]))["logits"]
    torch.testing.assert_close(network(None, pos[:40], ptr=torch.tensor([0, 40]))["logits"], both[:40])
    order = torch.cat([torch.randperm(40), 40 + torch.randperm(50)])
    torch.testing.assert_close(network(None, pos[order], ptr=torch.tensor([0, 40, 90]))["logits"], both[order])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pvcnn-c0p125.s3dis-area5.mit-han-lab", "dgcnn.scannet20.an-tao", "pointnext-sm"])
def test_the_networks_of_torch_pointcloud(tiny, tmp_path, name):
    pytest.importorskip("torch_pointcloud", reason="torch-pointcloud is not installed")
    if not name.startswith("pvcnn"):
        pytest.importorskip("pyg_lib", reason="PyTorch Geometric searches neighbors by pyg-lib")
    options = {"name": name, "task": "semantic-segmentation", "num_classes": 0, "in_channels": 0}
    model = DetectorConfig(backbone="torch_pointcloud:create_model", backbone_options=options)
    config = replace(tiny("supervised"), model=model, out=tmp_path)
    path = TASK.train(replace(config, optimizer=replace(config.optimizer, steps=2)))
    with pytest.raises(ValueError, match=r"outside of pcsa, `torch_pointcloud:create_model` with name=.* task="):
        open_run(path)
    assert open_run(path, trust=True).step == 2


@pytest.mark.slow
def test_two_processes(train_quietly, module, clouds_root, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, sys.path)]))
    train_quietly(
        f"supervised soft --data.root {clouds_root} --model.backbone {module}:Dense --optimizer.steps 2 "
        f"--optimizer.batch-size 4 --trainer.accelerator cpu --trainer.no-progress --trainer.devices 2 "
        f"--trainer.strategy ddp --out {tmp_path / 'run'}"
    )
    assert open_run(tmp_path / "run" / "last.ckpt", trust=True).step == 2
