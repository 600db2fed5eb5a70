"""A run's configuration as a file that a person reads, changes and gives to another run."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pcsa.scripts.train import parse_training
from pcsa.tasks import get_task, task_names
from pcsa.tasks.common.config import TrainConfig, to_plain
from pcsa.tasks.common.config_file import read_configuration, write_configuration


def written(folder, config, task="supervised"):
    write_configuration(folder, {"task": task, "version": "0", "config": to_plain(config), "labels": {"names": ["a"]}})
    return folder / "config.yaml"


@pytest.mark.parametrize("name", task_names())
@pytest.mark.parametrize("suffix", [".yaml", ".json"])
def test_every_preset_comes_back_as_it_was(name, suffix, tmp_path):
    presets = get_task(name).presets
    other = next(iter(presets.values()))
    for config in presets.values():
        # Written, a path is absolute.
        whole = replace(config, out=tmp_path / "run", seed=7)
        path = written(tmp_path, whole, name).with_suffix(suffix)
        assert read_configuration(path, name, other) == whole


def test_yaml_has_the_configuration_alone_and_no_run_resumes_by_it(tmp_path):
    path = written(tmp_path, replace(TrainConfig(), out=tmp_path, resume=True))
    assert "labels" not in path.read_text()
    assert json.loads(path.with_suffix(".json").read_text())["labels"] == {"names": ["a"]}
    assert not read_configuration(path, "supervised", TrainConfig()).resume


def test_a_part_over_a_preset_and_options_over_both(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("config:\n  optimizer: {lr: 1e-4, steps: 30}\n  objective:\n    plus: [[soft, 2]]\n")
    _, config = parse_training(
        ["supervised", "sampling", "--optimizer.steps", "40", "--config", str(path)], command="train"
    )
    assert (config.optimizer.lr, config.optimizer.steps, config.objective.plus) == (1e-4, 40, (("soft", 2.0),))
    assert config.objective.method == "sampling"
    assert parse_training(["supervised", f"--config={path}"], "train")[1].optimizer.steps == 30
    for wrong in (["--config"], [f"--config={path}", "--config", str(path)]):
        with pytest.raises(ValueError, match=r"`config` .* must name one file"):
            parse_training(["supervised", *wrong], "train")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must hold the options of a training under `config`"),
        ("config: {optimizer: {kind: sgd}}", r"`optimizer.kind` \(='sgd'\) must be one of 'adam'"),
        ("config: {optimizer: {lrr: 1}}", "`optimizer.lrr` must be an option .* did you mean `optimizer.lr`"),
        ("config: {zzz: 1}", "`zzz` must be an option .* the options there are data, model"),
        ("config: {optimizer: {steps: 2.5}}", r"`optimizer.steps` \(=2.5\) must be a whole number"),
        ("config: {optimizer: {steps: yes}}", r"`optimizer.steps` \(=True\) must be a whole number"),
        ("config: {optimizer: {steps: 0}}", r"`optimizer.steps` \(=0\) must be at least 1"),
        ("config: {optimizer: {milestones: 3}}", r"`optimizer.milestones` \(=3\) must be a list, each a whole number"),
        ("config: {objective: {plus: [[soft]]}}", r"`objective.plus` \(=\['soft'\]\) must be a list of 2"),
        ("config: {data: {root: 5}}", r"`data.root` \(=5\) must be a path or nothing"),
        ("config: {trainer: {progress: 1}}", r"`trainer.progress` \(=1\) must be true or false"),
        ("config: {optimizer: 5}", r"`optimizer` \(=5\) must have options of its own"),
        ("task: oct\nconfig: {}", r"`task` \(='oct'\) must be 'supervised'"),
        ("config: {seed: 1, seed: 2}", "line 1: must say every option once"),
        ("a: &a [1]\nconfig: {data: *a}", r"line 2: must have no alias"),
        ("config: !!python/object/apply:os.getcwd []", "cannot be read as a configuration"),
        ("config: " + "[" * 5000, "cannot be read as a configuration"),
        ("#" * 2**18, "must be at most"),
    ],
)
def test_what_is_wrong_is_named_with_its_file(text, message, tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        read_configuration(path, "supervised", get_task("supervised").presets["default"])
    assert str(path) in str(caught.value)


def test_no_other_file_is_taken_for_one(tmp_path):
    with pytest.raises(ValueError, match="must end in"):
        read_configuration(Path("a.toml"), "supervised", TrainConfig())
    with pytest.raises(FileNotFoundError):
        read_configuration(tmp_path / "none.yaml", "supervised", TrainConfig())
