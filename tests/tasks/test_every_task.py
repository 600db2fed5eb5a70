"""What the trainings of all tasks have in common."""

import csv
import json
import shutil
from dataclasses import is_dataclass, replace
from pathlib import Path

import lightning as L
import pytest
import torch

from pcsa.datasets.files import replacing
from pcsa.tasks import get_task, open_run, task_names
from pcsa.tasks.common.config import from_plain, to_plain
from pcsa.tasks.common.engine import StepTraining

# Each has a short training in conftest.py; poses in three dimensions have networks of several kinds.
NAMES = [*task_names(), "pose3d-image", "pose3d-unet"]
every_task = pytest.mark.parametrize("name", task_names())
OLD_KINDS = ("keypoint detector", "skeleton merger", "pose2d", "pose3d", "oct", "landmarks")


def logged(path, name):
    with (path.parent / "log" / "version_0" / "metrics.csv").open() as file:
        return [float(row[name]) for row in csv.DictReader(file) if row[name]]


@pytest.mark.parametrize("name", NAMES)
def test_checkpoint_says_what_it_is_and_opens_as_it_was_trained(trained, same, name):
    task, config, path = trained(name)
    stored = torch.load(path, weights_only=True)
    assert stored["global_step"] == config.optimizer.steps == 7
    assert sorted(file.name for file in path.parent.iterdir()) == ["config.json", "config.yaml", "last.ckpt", "log"]
    about = json.loads((path.parent / "config.json").read_text())
    temperature = stored["pcsa"].pop("temperature")
    # What a checkpoint remembers of the clouds would be pages of numbers.
    clouds = stored["pcsa"].pop("clouds", None)
    assert (clouds is not None) == (name in ("supervised", "unsupervised"))
    assert stored["pcsa"] == about
    assert about["task"] == task.name
    assert about["config"] == to_plain(config)
    assert about["config"]["optimizer"].items() >= {"steps": 7, "batch_size": 4, "clip": 1.0}.items()

    run = open_run(path, task=task.name)
    assert (run.path, run.task, run.step, run.temperature) == (path, task, 7, temperature)
    assert run.config == config
    assert type(run.config) is type(config) is task.config_type
    assert temperature == pytest.approx(config.objective.final_temperature)
    assert to_plain(run.clouds) == clouds
    assert not run.model.training
    assert run.device == torch.device("cpu")
    assert to_plain(run.labels) == about["labels"]
    assert isinstance(run.labels, task.labels_type)
    assert len(set(run.labels.names)) == len(run.labels.names) > 1
    state = {f"network.{key}": value for key, value in run.model.state_dict().items()}
    assert same(state, {key: value for key, value in stored["state_dict"].items() if key.startswith("network.")})
    # They are what was trained, not what the network started with.
    L.seed_everything(config.seed, verbose=False)
    fresh = task.training(config).module.network.state_dict()
    assert fresh.keys() == run.model.state_dict().keys()
    assert not same(fresh, run.model.state_dict())


@pytest.mark.parametrize("name", NAMES)
def test_every_epoch_is_validated(trained, name):
    _, _, path = trained(name)
    values = logged(path, "val_loss" if name == "unsupervised" else "val_error")
    assert len(values) == 4
    assert all(value > 0 for value in values)


@every_task
def test_same_seed_same_weights_other_seed_others(trained, weights, same, tmp_path, name):
    task, config, path = trained(name)
    again = task.train(replace(config, out=tmp_path / "again"))
    assert same(weights(path), weights(again))
    other = task.train(replace(config, out=tmp_path / "other", seed=1))
    assert not same(weights(path), weights(other))


@every_task
def test_worker_processes_change_nothing(trained, weights, same, tmp_path, name):
    task, config, path = trained(name)
    again = task.train(replace(config, trainer=replace(config.trainer, num_workers=1), out=tmp_path))
    assert same(weights(path), weights(again))


@pytest.mark.parametrize(
    ("name", "trainer", "optimizer"),
    [
        *((name, {}, {}) for name in task_names()),
        ("supervised", {"validate_every": 10}, {}),
        ("supervised", {"save_every": 2, "num_workers": 1, "logger": "tensorboard"}, {}),
        ("landmarks", {}, {"schedule": "milestones", "milestones": (1, 2)}),
    ],
    ids=[*task_names(), "saved between validations", "saved every other epoch", "milestones"],
)
def test_killed_run_resumes_to_the_same_weights(
    trained, weights, same, tmp_path, monkeypatch, name, trainer, optimizer
):
    task, config, whole = trained(name)
    config = replace(
        config, trainer=replace(config.trainer, **trainer), optimizer=replace(config.optimizer, **optimizer)
    )
    if optimizer:
        whole = task.train(replace(config, out=tmp_path / "whole"))
    step = StepTraining.training_step

    def dies(self, batch, batch_idx):
        if self.global_step == 5:  # in the middle of the third epoch
            raise RuntimeError("power cut")
        return step(self, batch, batch_idx)

    killed = replace(config, out=tmp_path / "killed")
    with monkeypatch.context() as patch:
        patch.setattr(StepTraining, "training_step", dies)
        with pytest.raises(RuntimeError, match="power cut"):
            task.train(killed)
    assert torch.load(killed.out / "last.ckpt", weights_only=True)["global_step"] == 4
    # What is left of a checkpoint that was being written is no use.
    with replacing(killed.out / "last.ckpt") as temporary:
        half = temporary.name
        shutil.copy(killed.out / "last.ckpt", temporary)
    (killed.out / half).write_bytes(b"half")
    for folder in (killed.out / "log").iterdir():
        (folder / half).write_bytes(b"half")
    resumed = task.train(replace(killed, resume=True))
    assert (killed.out / "log" / "version_0").exists()
    assert (killed.out / "log" / "version_1").exists()
    assert sorted(file.name for file in killed.out.iterdir()) == ["config.json", "config.yaml", "last.ckpt", "log"]
    assert not list(killed.out.glob("log/*/.*"))
    assert torch.load(resumed, weights_only=True)["global_step"] == 7
    assert same(weights(whole), weights(resumed))


@every_task
def test_resuming_a_finished_run_changes_nothing(trained, weights, same, name):
    task, config, path = trained(name)
    before = weights(path)
    assert same(before, weights(task.train(replace(config, resume=True))))


@every_task
def test_a_run_is_resumed_with_its_own_configuration_only(trained, tmp_path, name):
    task, config, path = trained(name)
    before = path.read_bytes()
    model = {"channels": (4,)} if hasattr(config.model, "channels") else {"norm": "group"}
    others = {
        "data": replace(config.data, root=tmp_path),
        "model": replace(config.model, **model),
        "objective": replace(config.objective, num_samples=3),
        "optimizer": replace(config.optimizer, weight_decay=0.1),
        "seed": 1,
    }
    for section, other in others.items():
        with pytest.raises(ValueError, match=rf"^`{section}` \(=.*last\.ckpt` was trained with, to resume it"):
            task.train(replace(config, **{section: other}, resume=True))
    assert path.read_bytes() == before


@every_task
def test_a_run_is_never_overwritten(trained, name):
    task, config, path = trained(name)
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match=r"last\.ckpt` exists: set `resume`"):
        task.train(config)
    assert path.read_bytes() == before


@every_task
def test_nothing_to_resume(tiny, tmp_path, name):
    with pytest.raises(FileNotFoundError, match=r"last\.ckpt` to resume from does not exist"):
        get_task(name).train(replace(tiny(name), resume=True, out=tmp_path / "new"))
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", [*task_names(), "pose3d-image"])
def test_bfloat16_trains_to_finite_weights(tiny, weights, tmp_path, name):
    config = tiny(name)
    trainer, optimizer = replace(config.trainer, precision="bf16-mixed"), replace(config.optimizer, steps=2)
    path = get_task(name.split("-")[0]).train(replace(config, trainer=trainer, optimizer=optimizer, out=tmp_path))
    assert torch.load(path, weights_only=True)["global_step"] == 2
    assert all(value.isfinite().all() for value in weights(path).values())
    assert {value.dtype for value in weights(path).values()} == {torch.float32, torch.int64}


@every_task
def test_a_trainer_that_cannot_be_set_up_leaves_no_folder(tiny, tmp_path, name):
    config = tiny(name)
    trainer = replace(config.trainer, precision="12")
    with pytest.raises(ValueError, match="'12'"):
        get_task(name).train(replace(config, trainer=trainer, out=tmp_path / "new"))
    assert not (tmp_path / "new").exists()


@every_task
def test_a_root_that_is_not_there_is_named(tiny, tmp_path, name):
    config = tiny(name)
    data = replace(config.data, root=tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        get_task(name).train(replace(config, data=data, out=tmp_path / "new"))
    assert not (tmp_path / "new").exists()


# --- configurations


@every_task
def test_presets_survive_json(tmp_path, name):
    task = get_task(name)
    assert task.compared is None or task.compared in task.presets
    for config in task.presets.values():
        assert type(config) is task.config_type
        config = replace(config, out=tmp_path)
        plain = to_plain(config)
        assert from_plain(task.config_type, json.loads(json.dumps(plain, allow_nan=False))) == config


@every_task
def test_methods_change_the_objective(name):
    task = get_task(name)
    for change in task.methods.values():
        for config in task.presets.values():
            # A method says all that it stands for: no field of it is left to the preset.
            assert to_plain(replace(config.objective, **change)).items() >= change.items()


@every_task
@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("optimizer", {"steps": 0}, r"`optimizer\.steps` \(=0\) must be at least 1$"),
        ("optimizer", {"epochs": 0}, r"`optimizer\.epochs` \(=0\) must be at least 1$"),
        ("optimizer", {"batch_size": 0}, r"`optimizer\.batch_size` \(=0\) must be at least 1$"),
        ("optimizer", {"lr": 0.0}, r"`optimizer\.lr` \(=0.0\) must be above 0 and finite"),
        ("optimizer", {"lr": float("inf")}, r"`optimizer\.lr` \(=inf\) must be above 0 and finite"),
        ("optimizer", {"weight_decay": -1.0}, r"`optimizer\.weight_decay` \(=-1.0\) must be at least 0 and finite"),
        ("optimizer", {"clip": float("nan")}, r"`optimizer\.clip` \(=nan\)"),
        ("optimizer", {"milestones": (1,)}, r"`optimizer\.milestones` \(=\(1,\)\) must be .* none with another"),
        ("optimizer", {"schedule": "milestones"}, r"`optimizer\.milestones` \(=\(\)\) must be rising epochs"),
        *(
            ("optimizer", {"schedule": "milestones", "milestones": epochs}, "milestones` .* must be rising epochs")
            for epochs in ((3, 2), (-1, 2), (2, 2), (0, 2))
        ),
        ("objective", {"num_samples": 0}, r"`objective\.num_samples` \(=0\)"),
        ("objective", {"temperature_start": -1.0}, r"`objective\.temperature_start` \(=-1.0\)"),
        ("objective", {"temperature_end": 0.0}, r"`objective\.temperature_end` \(=0.0\)"),
        ("objective", {"temperature_epochs": 0.0}, r"`objective\.temperature_epochs` \(=0.0\) must be above 0"),
        ("trainer", {"devices": 0}, r"`trainer\.devices` \(=0\)"),
        ("trainer", {"num_nodes": 0}, r"`trainer\.num_nodes` \(=0\)"),
        ("trainer", {"num_workers": -1}, r"`trainer\.num_workers` \(=-1\) must be at least 0$"),
        ("trainer", {"validate_every": 0}, r"`trainer\.validate_every` \(=0\)"),
        ("trainer", {"save_every": 0}, r"`trainer\.save_every` \(=0\)"),
        ("trainer", {"devices": 3}, r"`optimizer\.batch_size` \(=4\) must be a multiple of .* devices \(=3\)"),
        ("trainer", {"num_nodes": 3}, r"`optimizer\.batch_size` \(=4\) must be a multiple of .* devices \(=3\)"),
    ],
)
def test_a_bad_value_is_refused_by_its_name(tiny, name, section, values, message):
    config = tiny(name)
    with pytest.raises(ValueError, match=message):
        replace(config, **{section: replace(getattr(config, section), **values)})


@every_task
def test_a_seed_is_a_number_of_32_bits(tiny, name):
    for seed in (-1, 2**32):
        with pytest.raises(ValueError, match=rf"`seed` \(={seed}\) must be from 0 to"):
            replace(tiny(name), seed=seed)


@every_task
def test_every_number_of_a_configuration_is_named_when_it_is_refused(tiny, name):
    # Whatever is annotated with a rule is reached by the check, by its path.
    config = tiny(name)
    for section in ("data", "model", "objective", "optimizer", "trainer"):
        part = getattr(config, section)
        for field, value in vars(part).items():
            if is_dataclass(value) or not isinstance(value, int | float) or isinstance(value, bool):
                continue
            with pytest.raises(ValueError, match=rf"`{section}\.{field}` \(=-1\)"):
                replace(config, **{section: replace(part, **{field: -1})})


# --- checkpoints


@pytest.mark.parametrize("kind", OLD_KINDS)
def test_a_checkpoint_of_before_there_were_tasks_is_refused(tiny, tmp_path, kind):
    path = tmp_path / "last.ckpt"
    torch.save({"pcsa": {"kind": f"pcsa {kind}", "config": {}}, "state_dict": {}}, path)
    message = rf"^`.*last\.ckpt` \(kind 'pcsa {kind}'\) was written before .* cannot be read: train it again$"
    with pytest.raises(ValueError, match=message):
        open_run(path)
    for name in task_names():
        with pytest.raises(ValueError, match=message):
            get_task(name).train(replace(tiny(name), out=tmp_path, resume=True))


def test_what_is_no_checkpoint_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.ckpt` is no checkpoint: there is no such file"):
        open_run(tmp_path / "none.ckpt")
    (tmp_path / "text.ckpt").write_text("no checkpoint")
    with pytest.raises(ValueError, match=r"text\.ckpt` cannot be read as a checkpoint"):
        open_run(tmp_path / "text.ckpt")
    for other in ({"state_dict": {}}, [1], {"pcsa": "yes"}):
        torch.save(other, tmp_path / "other.ckpt")
        with pytest.raises(ValueError, match=r"other\.ckpt` must be a checkpoint that `pcsa train` wrote"):
            open_run(tmp_path / "other.ckpt")


@every_task
def test_a_checkpoint_that_does_not_fit_is_refused(trained, tmp_path, name):
    task, _, path = trained(name)
    stored = torch.load(path, weights_only=True)
    about, state, step = stored["pcsa"], stored["state_dict"], stored["global_step"]
    fits = {"pcsa": about, "state_dict": state, "global_step": step}
    config, labels = about["config"], about["labels"]
    fewer_labels = {"labels": {key: value if isinstance(value, str) else value[:-1] for key, value in labels.items()}}
    fewer_points = {"config": config | {"model": config["model"] | {"num_keypoints": 3}}}
    odd = tmp_path / "odd.ckpt"
    for checkpoint in (
        {"pcsa": about},
        {**fits, "state_dict": {}},
        {**fits, "state_dict": dict(list(state.items())[:-20])},
        {"pcsa": about, "state_dict": state},
        {**fits, "pcsa": {key: value for key, value in about.items() if key != "temperature"}},
        {**fits, "pcsa": {key: value for key, value in about.items() if key != "labels"}},
        {**fits, "pcsa": {key: value for key, value in about.items() if key != "config"}},
        {**fits, "pcsa": about | {"config": config | {"unknown": 1}}},
        {**fits, "pcsa": about | {"config": config | {"model": {"depth": 3}}}},
        {**fits, "pcsa": about | {"labels": {}}},
        # Another number of keypoints than there are weights for.
        {**fits, "pcsa": about | (fewer_points if name == "unsupervised" else fewer_labels)},
        {**fits, "pcsa": about | {"labels": labels | {"unknown": 1}}},
        {**fits, "pcsa": about | {"task": "spaceship"}},
        {**fits, "pcsa": about | {"config": config | {"seed": -1}}},
    ):
        torch.save(checkpoint, odd)
        with pytest.raises(ValueError, match=r"^[^\n]*odd\.ckpt. must fit pcsa [^\n]*$"):
            open_run(odd)
    torch.save(fits, odd)
    assert open_run(odd).task is task


@every_task
def test_a_checkpoint_of_another_task_is_refused(trained, tiny, name):
    task, _, path = trained(name)
    other = "oct" if name != "oct" else "pose2d"
    with pytest.raises(ValueError, match=rf"last\.ckpt` must be a checkpoint of {other}, is one of {task.name}$"):
        open_run(path, task=other)
    with pytest.raises(ValueError, match=rf"must be a checkpoint of {other} to be resumed, is one of {task.name}$"):
        get_task(other).train(replace(tiny(other), out=path.parent, resume=True))


@every_task
def test_a_relative_root_is_found_from_another_folder(tiny, monkeypatch, tmp_path, name):
    monkeypatch.chdir(tmp_path)
    data = replace(tiny(name).data, root=Path("clouds"))
    assert to_plain(data)["root"] == str(tmp_path.resolve() / "clouds")
