"""Trainings on a network of one's own, by name, and whose code a checkpoint may run."""

import sys
from dataclasses import replace

import pytest
import torch

from pcsa.scripts.cli import main
from pcsa.tasks import get_task, open_run
from pcsa.tasks.common.engine import StepTraining
from pcsa.tasks.supervised import DetectorConfig

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
    message = rf"last\.ckpt` names a network outside of pcsa, `{module}:Dense`: to open it is to import `{module}`"
    with pytest.raises(ValueError, match=message):
        open_run(path)
    with pytest.raises(ValueError, match=message):
        open_run(path, trust=f"{module}:Other")
    assert main(["evaluate", str(path), "--no-progress"]) == 2
    assert "--trust-backbone" in capsys.readouterr().err
    assert module not in sys.modules
    for trust in (True, f"{module}:Dense"):
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
