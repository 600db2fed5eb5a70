import csv
import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pcsa.datasets.custom import write_labeled
from pcsa.datasets.procedural import generate
from pcsa.datasets.transforms import Augment
from pcsa.training import (
    DataConfig,
    Detection,
    DetectionData,
    EpochSampler,
    ModelConfig,
    ObjectiveConfig,
    OptimizerConfig,
    SupervisedConfig,
    TrainerConfig,
    WholeCheckpoints,
    load_about,
    load_detector,
    open_dataset,
    to_plain,
    train_supervised,
)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return generate(tmp_path_factory.mktemp("chairs"), "chair", 12, num_points=256, split=(0.7, 0.15, 0.15))


@pytest.fixture(scope="module")
def config(root, tmp_path_factory):
    """Eight training clouds, two steps an epoch, three epochs."""
    return SupervisedConfig(
        data=DataConfig(root=root, augment=Augment(scale=0.1, shift=0.1, jitter=0.01)),
        model=ModelConfig(out_channels=16),
        objective=ObjectiveConfig(num_samples=2),
        optimizer=OptimizerConfig(steps=6, batch_size=4),
        trainer=TrainerConfig(accelerator="cpu", progress=False, validate_every=1),
        out=tmp_path_factory.mktemp("run"),
    )


@pytest.fixture(scope="module")
def checkpoint(config):
    return train_supervised(config)


def _weights(path):
    return torch.load(path, weights_only=True)["state_dict"]


def _equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_checkpoint_says_what_it_is_and_loads_weights_only(config, checkpoint):
    stored = torch.load(checkpoint, weights_only=True)
    assert stored["global_step"] == 6
    about = json.loads((checkpoint.parent / "config.json").read_text())
    assert stored["pcsa"] == about
    assert about["config"]["optimizer"] == {"steps": 6, "batch_size": 4, "lr": 2e-3, "weight_decay": 0.0, "clip": 1.0}
    assert about["semantic_ids"] == list(open_dataset(config.data, "train").semantic_ids)
    detector, _ = load_detector(checkpoint)
    assert not detector.training
    assert torch.equal(detector.score[0].weight, stored["state_dict"]["detector.score.0.weight"])


def test_log_has_loss_and_validation(checkpoint):
    text = (checkpoint.parent / "log" / "version_0" / "metrics.csv").read_text()
    header = text.splitlines()[0]
    for column in ("val_pck@0.01", "val_error"):
        assert column in header


def test_same_seed_same_weights_other_seed_others(config, checkpoint, tmp_path):
    again = train_supervised(dataclasses.replace(config, out=tmp_path / "again"))
    assert _equal(_weights(checkpoint), _weights(again))
    other = train_supervised(dataclasses.replace(config, out=tmp_path / "other", seed=1))
    assert not _equal(_weights(checkpoint), _weights(other))


def test_worker_processes_change_nothing(config, checkpoint, tmp_path):
    trainer = dataclasses.replace(config.trainer, num_workers=1)
    again = train_supervised(dataclasses.replace(config, trainer=trainer, out=tmp_path))
    assert _equal(_weights(checkpoint), _weights(again))


def test_precomputed_neighbors_leave_a_step_nothing_to_search(config, tmp_path, monkeypatch):
    # Without augmentation the searches of the steps are those done before: the same training but for rounding.
    still = dataclasses.replace(config.data, augment=Augment(), precompute=False)
    trainer = dataclasses.replace(config.trainer, validate_every=10)
    searched = train_supervised(dataclasses.replace(config, data=still, trainer=trainer, out=tmp_path / "searched"))

    def searches(*_, **__):
        raise RuntimeError("searches")

    def without_searches(name, augment, num_workers):
        data = dataclasses.replace(still, augment=augment, precompute=True)
        workers = dataclasses.replace(trainer, num_workers=num_workers)
        changed = dataclasses.replace(config, data=data, trainer=workers, out=tmp_path / name)
        DetectionData(changed)  # searches, and keeps what it finds with the dataset
        with monkeypatch.context() as patch:
            for module in ("pcsa.models.pointnet2", "pcsa.bandwidth"):
                for search in ("knn", "ball_query", "farthest_points", "interpolation_weights"):
                    patch.setattr(f"{module}.{search}", searches, raising=False)
            return _weights(train_supervised(changed))

    kept = without_searches("kept", Augment(), 0)
    for key, value in _weights(searched).items():
        torch.testing.assert_close(kept[key], value, rtol=1e-3, atol=1e-4, msg=key)
    moving = Augment(mirror=0.5, rotate=30.0, scale=0.1, shift=0.1)
    moved = without_searches("moved", moving, 0)
    assert not _equal(kept, moved)
    assert _equal(moved, without_searches("worker", moving, 1))


@pytest.mark.parametrize(
    "trainer",
    [{"validate_every": 10}, {"save_every": 2, "num_workers": 1, "logger": "tensorboard"}],
    ids=["saved between validations", "saved every other epoch"],
)
def test_killed_run_resumes_to_the_same_weights(config, checkpoint, tmp_path, monkeypatch, trainer):
    step = Detection.training_step

    def dies(self, batch, batch_idx):
        if self.global_step == 5:  # in the middle of the third epoch
            raise RuntimeError("power cut")
        return step(self, batch, batch_idx)

    monkeypatch.setattr(Detection, "training_step", dies)
    killed = dataclasses.replace(config, out=tmp_path, trainer=dataclasses.replace(config.trainer, **trainer))
    with pytest.raises(RuntimeError, match="power cut"):
        train_supervised(killed)
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 4
    monkeypatch.undo()
    resumed = train_supervised(dataclasses.replace(killed, resume=True))
    assert (tmp_path / "log" / "version_0").exists()
    assert (tmp_path / "log" / "version_1").exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.json", "last.ckpt", "log"]
    assert torch.load(resumed, weights_only=True)["global_step"] == 6
    assert _equal(_weights(checkpoint), _weights(resumed))


def test_resuming_a_finished_run_changes_nothing(config, checkpoint):
    before = _weights(checkpoint)
    assert _equal(before, _weights(train_supervised(dataclasses.replace(config, resume=True))))


def test_a_kill_while_a_checkpoint_is_written_leaves_the_one_before(tmp_path, monkeypatch):
    path = tmp_path / "last.ckpt"
    WholeCheckpoints().save_checkpoint({"step": 1}, path)

    def cut_short(checkpoint, file):
        Path(file).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", cut_short)
    with pytest.raises(KeyboardInterrupt):
        WholeCheckpoints().save_checkpoint({"step": 2}, path)
    assert torch.load(path, weights_only=True) == {"step": 1}


def test_processes_share_an_epoch(config):
    # 11 clouds in batches of 4 over 2 processes: 8 of them, each once.
    parts = [list(EpochSampler(11, 0, lambda: 3, rank, 2, 4)) for rank in (0, 1)]
    whole = list(EpochSampler(11, 0, lambda: 3, 0, 1, 4))
    assert [len(p) for p in parts] == [4, 4]
    assert sorted(parts[0] + parts[1]) == sorted(whole)
    assert len({index for _, index in whole}) == 8
    assert {epoch for epoch, _ in whole} == {3}
    # A batch of the one process holds the clouds of the batches of the two.
    assert sorted(parts[0][:2] + parts[1][:2]) == sorted(whole[:4])


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(root, config, tmp_path):
    # No noise, a keypoint that every chair has and no batch statistics: the mean of two half batches' gradients is the
    # whole batch's, if the halves are different clouds.
    flags = f"""train supervised soft --data.root {root} --data.num-keypoints 1 --data.augment.mirror 0
        --model.out-channels 16 --model.norm group --optimizer.steps 6 --optimizer.batch-size 4
        --trainer.accelerator cpu --trainer.no-progress --trainer.validate-every 1""".split()
    errors = []
    for devices in ("1", "2"):
        out = tmp_path / devices
        strategy = ["--trainer.strategy", "auto" if devices == "1" else "ddp"]
        done = subprocess.run(
            [sys.executable, "-m", "pcsa.scripts.cli", *flags, *strategy, "--trainer.devices", devices, "--out", out],
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        assert done.stdout.count("trained:") == 1
        load_detector(out / "last.ckpt")
        with (out / "log" / "version_0" / "metrics.csv").open() as file:
            errors.append([float(row["val_error"]) for row in csv.DictReader(file) if row["val_error"]])
    assert len(errors[0]) == 3
    assert errors[1] == pytest.approx(errors[0], rel=1e-4)
    assert errors[0][0] != pytest.approx(errors[0][2], rel=1e-3)


def test_bfloat16_trains_to_finite_weights(config, tmp_path):
    trainer = dataclasses.replace(config.trainer, precision="bf16-mixed")
    weights = _weights(train_supervised(dataclasses.replace(config, trainer=trainer, out=tmp_path)))
    assert all(v.isfinite().all() for v in weights.values())
    assert {v.dtype for v in weights.values()} == {torch.float32, torch.int64}


def test_resuming_with_another_objective_raises(config, checkpoint):
    other = dataclasses.replace(config, objective=ObjectiveConfig(method="soft"), resume=True)
    with pytest.raises(ValueError, match="`objective`"):
        train_supervised(other)


def test_a_run_is_never_overwritten(config, checkpoint):
    before = checkpoint.read_bytes()
    with pytest.raises(FileExistsError, match=r"last\.ckpt"):
        train_supervised(config)
    assert checkpoint.read_bytes() == before


def test_nothing_to_resume(config, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"last\.ckpt"):
        train_supervised(dataclasses.replace(config, resume=True, out=tmp_path))


@pytest.mark.parametrize(
    "objective",
    [
        ObjectiveConfig(method="soft", norm="l1", regularization="variance"),
        ObjectiveConfig(method="soft", regularization="js"),
        ObjectiveConfig(method="discrete"),
        ObjectiveConfig(method="mixture", norm="squared"),
        ObjectiveConfig(method="nll", bandwidth=0.05),
        ObjectiveConfig(method="cross_entropy", presence_weight=0.0),
        ObjectiveConfig(noise="paper", basis_noise="mixture", temperature="cosine", num_samples=1),
        ObjectiveConfig(temperature="constant", temperature_start=1.0, bandwidth=0.01),
    ],
    ids=lambda o: f"{o.method}-{o.regularization}-{o.noise}-{o.temperature}",
)
def test_every_objective_takes_finite_steps(config, objective, tmp_path):
    optimizer = dataclasses.replace(config.optimizer, steps=2)
    path = train_supervised(dataclasses.replace(config, objective=objective, optimizer=optimizer, out=tmp_path))
    assert all(v.isfinite().all() for v in _weights(path).values())


def test_training_lowers_the_error(config, tmp_path):
    # 40 steps on eight chairs bring the error of the expectation to less than 3/4 of what it was after ten.
    changed = dataclasses.replace(
        config,
        objective=ObjectiveConfig(method="soft"),
        optimizer=dataclasses.replace(config.optimizer, steps=40, lr=1e-2),
        trainer=dataclasses.replace(config.trainer, validate_every=20),
        out=tmp_path,
    )
    train_supervised(changed)
    rows = [line.split(",") for line in (tmp_path / "log" / "version_0" / "metrics.csv").read_text().splitlines()]
    column = rows[0].index("loss_localization")
    values = [float(row[column]) for row in rows[1:] if row[column]]
    assert len(values) == 4
    assert values[-1] < 0.75 * values[0]


def test_most_annotated_keypoints_are_kept(root):
    everything = open_dataset(DataConfig(root=root), "train")
    few = open_dataset(DataConfig(root=root, num_keypoints=3), "val")
    counts = torch.stack([everything[i].visible[0] for i in range(len(everything))]).sum(0)
    kept = [everything.semantic_ids.index(i) for i in few.semantic_ids]
    assert few.num_keypoints == 3
    assert counts[kept].min() >= counts.sort(descending=True).values[2]


def test_bad_input(root, tmp_path):
    everything = open_dataset(DataConfig(root=root), "train").num_keypoints
    with pytest.raises(ValueError, match=rf"`data.num-keypoints` \(={everything + 1}\) must be at most"):
        open_dataset(DataConfig(root=root, num_keypoints=everything + 1), "train")
    for section, values, name in (
        ("optimizer", {"steps": 0}, "optimizer.steps"),
        ("optimizer", {"batch_size": 0}, "optimizer.batch-size"),
        ("optimizer", {"lr": 0.0}, "optimizer.lr"),
        ("objective", {"num_samples": 0}, "objective.num-samples"),
        ("data", {"num_keypoints": 0}, "data.num-keypoints"),
        ("data", {"precompute": True}, "data.augment.axis-scale"),
        ("data", {"precompute": True, "augment": Augment(jitter=0.01)}, "data.augment.jitter"),
        ("objective", {"method": "mixture"}, "objective.norm"),
        ("trainer", {"devices": 3}, "optimizer.batch-size"),
        ("trainer", {"devices": 0}, "trainer.devices"),
        ("trainer", {"num_workers": -1}, "trainer.num-workers"),
        ("objective", {"bandwidth": 0.0}, "objective.bandwidth"),
        ("objective", {"temperature_end": 0.0}, "objective.temperature-end"),
        ("objective", {"presence_weight": -1.0}, "objective.presence-weight"),
    ):
        part = dataclasses.replace(getattr(SupervisedConfig(), section), **values)
        with pytest.raises(ValueError, match=f"`{name}`"):
            SupervisedConfig(**{section: part})
    with pytest.raises(ValueError, match=r"`seed` \(=-1\)"):
        SupervisedConfig(seed=-1)


def test_a_trainer_that_cannot_be_set_up_leaves_no_folder(config, tmp_path):
    trainer = dataclasses.replace(config.trainer, precision="12")
    with pytest.raises(ValueError, match="'12'"):
        train_supervised(dataclasses.replace(config, trainer=trainer, out=tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def test_a_split_without_keypoints_stops_before_the_training(tmp_path, config):
    points = torch.rand(40, 3).numpy()
    items = [(points, points[:1], ["nose"])] + [(points, [], [])] * 5
    write_labeled(tmp_path / "root", "fish", items)
    data = dataclasses.replace(config.data, root=tmp_path / "root", category="fish")
    with pytest.raises(ValueError, match=r"`data\.root` .* none of the \d clouds of 'fish' in split '(train|val)'"):
        train_supervised(dataclasses.replace(config, data=data, out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_relative_root_is_found_from_another_folder(config, tmp_path, monkeypatch):
    monkeypatch.chdir(config.data.root.parent)
    data = dataclasses.replace(config.data, root=Path(config.data.root.name))
    assert to_plain(data)["root"] == str(config.data.root.resolve())


def test_checkpoint_of_another_model(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.ckpt"):
        load_detector(tmp_path / "none.ckpt")
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match=r"other\.ckpt.*must be a 'pcsa keypoint detector' checkpoint"):
        load_detector(tmp_path / "other.ckpt")
    about = {"kind": "pcsa keypoint detector", "config": {"model": {"depth": 3}}, "semantic_ids": [0]}
    model = to_plain(ModelConfig())
    weights = {"detector.score.0.weight": torch.zeros(1)}
    for checkpoint in (
        {"pcsa": about, "state_dict": {}},  # of a version with another option
        {"pcsa": about | {"config": {"model": model}}},
        {"pcsa": {"kind": about["kind"], "config": {"model": model}}, "state_dict": {}},
        {"pcsa": about | {"config": {"model": model}}, "state_dict": weights},
    ):
        torch.save(checkpoint, tmp_path / "odd.ckpt")
        with pytest.raises(ValueError, match=r"^[^\n]*odd\.ckpt. must fit pcsa [^\n]*$"):
            load_detector(tmp_path / "odd.ckpt")
    (tmp_path / "text.ckpt").write_text("no checkpoint")
    with pytest.raises(ValueError, match=r"text\.ckpt.*cannot be read"):
        load_about(tmp_path / "text.ckpt")
