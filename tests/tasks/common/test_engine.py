"""The order of the items, the processes that load them, and the schedules."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from pcsa.tasks import get_task
from pcsa.tasks.common.config import OptimizerConfig, TrainConfig, TrainerConfig
from pcsa.tasks.common.engine import EpochSampler, StepData, StepTraining, make_optimizer, whole_batches


def test_processes_share_an_epoch():
    # 11 clouds in batches of 4 over 2 processes: 8 of them, each once.
    parts = [list(EpochSampler(11, 0, lambda: 6, rank, 2, 4)) for rank in (0, 1)]
    whole = list(EpochSampler(11, 0, lambda: 6, 0, 1, 4))
    assert [len(p) for p in parts] == [4, 4]
    assert sorted(parts[0] + parts[1]) == sorted(whole)
    assert len({index for _, index in whole}) == 8
    assert {epoch for epoch, _ in whole} == {3}
    # A batch of the one process holds the clouds of the batches of the two.
    assert sorted(parts[0][:2] + parts[1][:2]) == sorted(whole[:4])


def test_an_epoch_is_shuffled_by_seed_and_epoch_and_repeats_a_set_smaller_than_a_batch():
    def order(seed, epoch, size=11):
        sampler = EpochSampler(size, seed, lambda: epoch * whole_batches(size, 4), 0, 1, 4)
        items = [index for _, index in sampler]
        assert len(items) == len(sampler)
        return items

    assert order(0, 3) == order(0, 3)
    # One that was stopped after a step has the rest of its epoch.
    assert [index for _, index in EpochSampler(11, 0, lambda: 7, 0, 1, 4)] == order(0, 3)[4:]
    assert order(0, 3) != order(1, 3)
    assert order(0, 3) != order(0, 4)
    assert [whole_batches(size, 4) for size in (3, 4, 7, 8)] == [1, 1, 1, 2]
    small = order(0, 0, size=3)
    assert len(small) == 4
    assert set(small) == {0, 1, 2}


@pytest.mark.parametrize(
    ("asked", "device", "threads", "start", "numbers"),
    [
        (None, "cpu", 16, "fork", (0, 0)),
        (2, "cpu", 1, "fork", (2, 2)),
        (None, "cuda", 16, "fork", (4, 1)),
        (None, "cuda", 3, "fork", (2, 1)),
        (None, "cuda", 1, "fork", (1, 1)),
        (None, "cuda", 16, "spawn", (0, 0)),
        (3, "cuda", 16, "spawn", (3, 3)),
        (0, "cuda", 9, "fork", (0, 0)),
    ],
)
def test_a_card_has_processes_that_load_for_it(monkeypatch, asked, device, threads, start, numbers):
    monkeypatch.setattr("multiprocessing.get_start_method", lambda allow_none=False: start)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(threads + 1), raising=False)
    config = TrainConfig(trainer=TrainerConfig(num_workers=asked))
    data = StepData(config, list(range(20)), list(range(5)))
    strategy = SimpleNamespace(root_device=torch.device(device))
    data.trainer = SimpleNamespace(strategy=strategy, global_rank=0, world_size=1)
    assert (data.train_dataloader().num_workers, data.val_dataloader().num_workers) == numbers


def test_epochs_milestones_and_the_temperature(tiny, tmp_path):
    # Two steps an epoch: three epochs; a tenth of the rate after the first; the temperature falls within the first two.
    config = tiny("landmarks")
    falling = {"temperature": "linear", "temperature_start": 2.0, "temperature_end": 0.5, "temperature_epochs": 2}
    config = replace(
        config,
        optimizer=OptimizerConfig(epochs=3, batch_size=4, lr=0.01, schedule="milestones", milestones=(1,)),
        objective=replace(config.objective, num_samples=1, **falling),
        out=tmp_path,
    )
    seen, described_after = [], []
    step = StepTraining.training_step

    def describe(self, data):
        described_after.append(len(seen))
        return {"clouds": len(data.train_items)}

    def watched(self, batch, batch_idx):
        loss = step(self, batch, batch_idx)
        seen.append((self.optimizers().param_groups[0]["lr"], self.temperature.value))
        return loss

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StepTraining, "training_step", watched)
        patch.setattr(type(get_task("landmarks")), "describe", describe)
        path = get_task("landmarks").train(config)
    checkpoint = torch.load(path, weights_only=True)
    assert checkpoint["global_step"] == 6
    # Once, when the first checkpoint is written, and in each of them.
    assert len(described_after) == 1
    assert described_after[0] > 0
    assert checkpoint["pcsa"]["clouds"] >= 4
    assert [rate for rate, _ in seen] == pytest.approx([0.01] * 2 + [0.001] * 4)
    temperatures = [temperature for _, temperature in seen]
    assert temperatures[0] == 2.0
    assert temperatures[4:] == [0.5] * 2
    assert temperatures[0] > temperatures[1] > temperatures[2] > temperatures[3] >= 0.5


def rates(optimizer, steps=10):
    o, schedule = make_optimizer(optimizer, iter([nn.Parameter(torch.zeros(1))]), steps, 2)
    found = []
    for _ in range(steps):
        found.append(o.param_groups[0]["lr"])
        o.step()
        schedule.step()
    return found


def test_schedules_of_the_learning_rate():
    assert rates(OptimizerConfig(lr=0.5, schedule="constant")) == [0.5] * 10
    cosine = rates(OptimizerConfig(lr=0.5, schedule="cosine"))
    assert cosine[0] == 0.5
    assert cosine[5] == pytest.approx(0.25)  # half of the way
    assert cosine == sorted(cosine, reverse=True)
    cycle = rates(OptimizerConfig(lr=0.5, schedule="one_cycle"))
    assert max(cycle) == pytest.approx(0.5, rel=0.1)
    assert cycle.index(max(cycle)) in (1, 2)
    assert cycle[-1] < 0.05
    # Shorter than the cycle's shortest: it rises all the same.
    assert rates(OptimizerConfig(lr=0.5, schedule="one_cycle"), steps=2)[1] > 0
    milestones = rates(OptimizerConfig(lr=0.5, schedule="milestones", milestones=(1, 3)))
    assert milestones == pytest.approx([0.5] * 2 + [0.05] * 4 + [0.005] * 4)


def test_optimizers():
    parameters = [nn.Parameter(torch.zeros(1))]
    adam, _ = make_optimizer(OptimizerConfig(lr=0.1, weight_decay=0.2), iter(parameters), 5, 1)
    assert isinstance(adam, torch.optim.Adam)
    assert (adam.defaults["lr"], adam.defaults["weight_decay"]) == (0.1, 0.2)
    adadelta, _ = make_optimizer(OptimizerConfig(kind="adadelta", lr=1.0), iter(parameters), 5, 1)
    assert isinstance(adadelta, torch.optim.Adadelta)
    assert adadelta.defaults["eps"] == 0.01


def test_weight_decay_apart_from_the_gradient():
    network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    optimizer, _ = make_optimizer(OptimizerConfig(kind="adamw", lr=0.1, weight_decay=0.2), network.parameters(), 5, 1)
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, value in network.named_parameters():
        # Without a gradient, nothing but lr * weight_decay moves a weight; biases and norms stay.
        shrunk = 1 - 0.1 * 0.2 if name == "0.weight" else 1.0
        torch.testing.assert_close(value.detach(), shrunk * before[name])
    bias = [nn.Parameter(torch.ones(1))]
    assert make_optimizer(OptimizerConfig(kind="adamw", weight_decay=0.2), iter(bias), 5, 1)[0].param_groups


@pytest.mark.parametrize("schedule", ["cosine", "constant", "milestones"])
def test_the_rate_rises_to_that_of_the_schedule(schedule):
    o = OptimizerConfig(lr=0.5, schedule=schedule, milestones=(3,) if schedule == "milestones" else ())
    plain, warm = rates(o), rates(replace(o, warmup=3))
    for step in range(10):
        assert warm[step] == pytest.approx(plain[step] * min(1, (step + 1) / 4))


def test_length_of_a_training():
    assert OptimizerConfig(steps=7).num_steps(4) == 7
    assert OptimizerConfig(steps=7, epochs=3).num_steps(4) == 12
