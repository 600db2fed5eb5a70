"""What a training keeps beside its last weights: their average, and the best by its validations."""

import csv
import shutil
from dataclasses import replace

import pytest
import torch

from pcsa.datasets.files import replacing
from pcsa.tasks import get_task, open_run
from pcsa.tasks.common.averaging import newest_share
from pcsa.tasks.common.best import mode_of
from pcsa.tasks.common.config import OptimizerConfig
from pcsa.tasks.common.engine import StepTraining

EMA = {"averaging": "ema", "averaging_decay": 0.9}
SWA = {"averaging": "swa", "averaging_start": 0.4}


def test_shares_of_the_newest_weights():
    swa = OptimizerConfig(averaging="swa")  # of 8 steps, the mean of the last two
    assert [newest_share(swa, 8, step) for step in range(1, 9)] == [1, 1, 1, 1, 1, 1, 1, 0.5]
    swa = OptimizerConfig(averaging="swa", averaging_start=0.5)
    assert [newest_share(swa, 8, step) for step in range(4, 9)] == [1, 1, 1 / 2, 1 / 3, 1 / 4]
    assert newest_share(swa, 1, 1) == 1
    ema = [newest_share(OptimizerConfig(averaging="ema", averaging_decay=0.99), 2000, step) for step in range(1, 2001)]
    assert ema[:3] == [1, 9 / 10, 9 / 11]
    assert ema == sorted(ema, reverse=True)
    assert ema[-1] == pytest.approx(0.01)


def change(config, optimizer=None, trainer=None, **more):
    return replace(
        config,
        optimizer=replace(config.optimizer, **(optimizer or {})),
        trainer=replace(config.trainer, **(trainer or {})),
        **more,
    )


@pytest.fixture
def dies(monkeypatch):
    """Trains until the sixth step, in the middle of the third epoch."""
    step = StepTraining.training_step

    def cut(self, batch, batch_idx):
        if self.global_step == 5:
            raise RuntimeError("power cut")
        return step(self, batch, batch_idx)

    def train(config):
        with monkeypatch.context() as patch:
            patch.setattr(StepTraining, "training_step", cut)
            with pytest.raises(RuntimeError, match="power cut"):
                get_task("landmarks").train(config)

    return train


@pytest.fixture
def steps(monkeypatch):
    """Weights after every step, by the name of the tensor."""
    seen, end = [], StepTraining.on_train_batch_end

    def watched(self, *arguments):
        seen.append({name: value.clone() for name, value in self.state_dict().items()})
        return end(self, *arguments)

    monkeypatch.setattr(StepTraining, "on_train_batch_end", watched)
    return seen


def equal(a, b):
    """Whether two parts of a checkpoint are equal to the last bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(equal, a, b))
    return bool(a == b)


@pytest.mark.parametrize(
    "optimizer",
    [EMA, SWA, {"kind": "adamw", "weight_decay": 0.1, "warmup": 3, "schedule": "cosine"}],
    ids=["ema", "swa", "adamw and warm-up"],
)
def test_a_killed_run_resumes_to_the_same_weights(tiny, dies, tmp_path, optimizer):
    config = change(tiny("landmarks"), optimizer, {"best": "val_error"})
    whole = get_task("landmarks").train(replace(config, out=tmp_path / "whole"))
    killed = replace(config, out=tmp_path / "killed")
    dies(killed)
    with replacing(killed.out / "best.ckpt") as temporary:
        name = temporary.name
        temporary.write_bytes((killed.out / "best.ckpt").read_bytes())
    # As a process leaves it that is killed while it writes.
    (killed.out / name).write_bytes(b"half")
    resumed = get_task("landmarks").train(replace(killed, resume=True))
    assert sorted(file.name for file in killed.out.iterdir()) == [
        "best.ckpt",
        "config.json",
        "config.yaml",
        "last.ckpt",
        "log",
    ]
    for name in ("last.ckpt", "best.ckpt"):
        a, b = (torch.load(path.parent / name, weights_only=True) for path in (whole, resumed))
        for part in ("global_step", "state_dict", "optimizer_states", "lr_schedulers"):
            assert equal(a[part], b[part]), (name, part)
        if "averaging" in optimizer:
            assert equal(a["current_model_state"], b["current_model_state"])
            assert equal(a["averaging_state"], b["averaging_state"])


@pytest.mark.parametrize("optimizer", [EMA, SWA], ids=["ema", "swa"])
def test_the_average_is_that_of_the_steps(tiny, steps, tmp_path, optimizer):
    config = change(tiny("landmarks"), optimizer, out=tmp_path)
    path = get_task("landmarks").train(config)
    found = torch.load(path, weights_only=True)["state_dict"]
    assert len(steps) == 7
    for name, value in found.items():
        if not value.is_floating_point():
            assert torch.equal(value, steps[-1][name])
        elif "swa" in optimizer.values():
            # It begins after 0.4 of 7 steps: the mean of the last five, statistics of normalization included.
            torch.testing.assert_close(value, sum(step[name] for step in steps[2:]) / 5)
        else:
            average = steps[0][name]
            for step in range(2, 8):
                average = average.lerp(steps[step - 1][name], max(0.1, 9 / (8 + step)))
            torch.testing.assert_close(value, average)
    assert any(not torch.equal(value, steps[-1][name]) for name, value in found.items())


def logged(path, name, version=0):
    with (path.parent / "log" / f"version_{version}" / "metrics.csv").open(newline="") as file:
        return [float(row[name]) for row in csv.DictReader(file) if row.get(name)]


def test_what_is_validated_is_what_the_checkpoint_holds(tiny, tmp_path):
    config = change(tiny("landmarks"), EMA, {"best": "val_error"}, out=tmp_path)
    task = get_task("landmarks")
    path = task.train(config)
    run = open_run(path)
    training = task.training(config)
    training.module.network = run.model
    batch = next(iter(torch.utils.data.DataLoader(training.data.val_items, batch_size=4)))
    with torch.no_grad():
        training.module.validation_step(batch, 0)
    values = logged(path, "val_error")
    assert len(training.data.val_items) <= 4
    assert float(training.module.error.compute()) == pytest.approx(values[-1], rel=1e-5)
    best = torch.load(tmp_path / "best.ckpt", weights_only=True)
    assert best["global_step"] == min(7, 2 * (1 + values.index(min(values))))


def test_the_last_epoch_is_validated_for_the_best(tiny, tmp_path):
    # Four epochs, of which the third alone would have its turn.
    config = change(tiny("landmarks"), None, {"best": "val_error", "validate_every": 3}, out=tmp_path)
    values = logged(get_task("landmarks").train(config), "val_error")
    assert len(values) == 2
    best = torch.load(tmp_path / "best.ckpt", weights_only=True)["global_step"]
    assert best == (6 if values[0] <= values[1] else 7)


def test_a_run_that_was_moved_knows_its_best(tiny, dies, tmp_path):
    config = change(tiny("landmarks"), None, {"best": "val_error"}, out=tmp_path / "a")
    dies(config)
    shutil.move(tmp_path / "a", tmp_path / "b")
    with pytest.warns(UserWarning, match="dirpath has changed"):  # that of the last checkpoint, which has no score
        path = get_task("landmarks").train(replace(config, out=tmp_path / "b", resume=True))
    callbacks = torch.load(path, weights_only=True)["callbacks"]
    (best,) = (state for key, state in callbacks.items() if key.startswith("BestCheckpoint"))
    assert list(best["best_k_models"]) == [best["best_model_path"]] == [str(tmp_path / "b" / "best.ckpt")]
    lowest = min(logged(path, "val_error") + logged(path, "val_error", version=1))
    assert float(best["best_model_score"]) == pytest.approx(lowest)


def test_a_score_that_is_not_there_is_refused(tiny, tmp_path):
    config = change(tiny("landmarks"), None, {"best": "val_pck"}, out=tmp_path / "run")
    with pytest.raises(ValueError, match=r"`trainer.best` \(='val_pck'\) must be a score of the validation: val_error"):
        get_task("landmarks").train(config)
    assert not config.out.exists()
    with pytest.raises(ValueError, match="must not be given without a validation"):
        mode_of("val_error", {})


@pytest.mark.parametrize("name", ["supervised", "unsupervised", "landmarks"])
def test_every_score_that_can_be_watched_is_logged(trained, name):
    task, config, path = trained(name)
    watched = task.training(config).module.watched
    assert watched
    for score in watched:
        assert len(logged(path, score)) == 4


def test_values_that_do_not_fit(tiny):
    for optimizer, message in (
        ({"averaging_decay": 1.0}, r"`optimizer.averaging_decay` \(=1.0\) must be below 1"),
        ({"averaging_start": 1.5}, r"`optimizer.averaging_start` \(=1.5\) must be below 1"),
        ({"averaging_start": -0.1}, r"`optimizer.averaging_start` \(=-0.1\) must be at least 0"),
        ({"warmup": 7, "schedule": "cosine"}, r"`optimizer.warmup` \(=7\) must be below `optimizer.steps` \(=7\)"),
        ({"warmup": 3, "schedule": "one_cycle"}, "must be 0 with `optimizer.schedule` 'one_cycle'"),
    ):
        with pytest.raises(ValueError, match=message):
            change(tiny("landmarks"), optimizer)


@pytest.mark.slow
def test_two_processes_average_the_same(weights, same, train_quietly, tmp_path):
    flags = (
        "landmarks --data.num-images 8 --data.input-size 32 32 --model.channels 8 8 --optimizer.steps 4 "
        "--optimizer.batch-size 4 --optimizer.averaging ema --trainer.best val_error --trainer.no-progress "
        "--trainer.accelerator cpu --trainer.devices 2 --trainer.strategy ddp"
    )
    for name in ("a", "b"):
        train_quietly(f"{flags} --out {tmp_path / name}")
    for file in ("last.ckpt", "best.ckpt"):
        assert same(weights(tmp_path / "a" / file), weights(tmp_path / "b" / file))
