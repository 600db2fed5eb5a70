"""What a command may be given in place of a checkpoint: a run, a shared model, a name on the hub."""

import json

import pytest

import pcsa
from pcsa.datasets.labeling.book import Book
from pcsa.datasets.labeling.shape import read_shape
from pcsa.scripts.animate import AnimateConfig, frames
from pcsa.scripts.annotate_proposals import propose
from pcsa.scripts.cli import main
from pcsa.scripts.runs import open_cloud_run
from pcsa.scripts.view import ViewConfig, open_scenes
from pcsa.tasks.common.sources import checkpoint_of

pytestmark = pytest.mark.filterwarnings("ignore:Use .content=:DeprecationWarning")  # the hub's client's own, with httpx
MUGS = "someone/mugs"


@pytest.fixture
def hub(hub, checkpoint, tmp_path, monkeypatch):
    """A hub that has a model, and a folder that has nothing."""
    assert main(["share", str(checkpoint), "--repo-id", MUGS]) == 0
    monkeypatch.chdir(tmp_path)
    return hub


@pytest.fixture
def cloud(root):
    return next((root / "pcds").rglob("*.pcd"))


def test_a_model_of_the_hub_is_evaluated_and_predicts_as_its_checkpoint(
    hub, checkpoint, scored, root, cloud, tmp_path, predict, refused
):
    commit = list(hub.repositories["model", MUGS].commits)[-1]
    hub.commit(MUGS, {"config.json": b"{}"})
    name = f"{MUGS}@{commit}"
    assert main(["evaluate", name, "--split", "test", "--root", str(root)]) == 0
    # Nothing is written to what the hub's client keeps.
    found = json.loads((tmp_path / "metrics-test.json").read_text())
    assert found["checkpoint"] == name
    assert found["overall"] == scored("supervised")[0]["overall"]
    broken = ["--robustness", "--robustness-kinds", "noise", "--split", "test"]
    assert main(["evaluate", name, *broken, "--root", str(root)]) == 0
    assert json.loads((tmp_path / "robustness-test.json").read_text())["checkpoint"] == name
    ours, theirs = (predict(path, [cloud], tmp_path / x) for path, x in ((name, "hub"), (checkpoint.parent, "run")))
    assert ours["checkpoint"] == name
    assert theirs["checkpoint"] == str(checkpoint)
    assert ours["items"][0]["position"] == theirs["items"][0]["position"]
    said = refused(["evaluate", name, "--fit-temperature", "--root", root])
    assert f"must not be set for `{name}`, of which only a copy is here" in said
    assert "no entry 'pcsa'" in refused(["evaluate", MUGS])
    assert "must name each checkpoint once" in refused(["evaluate", name, name, "--root", root])


def test_a_folder_is_taken_before_the_hub(hub, checkpoint, root, cloud, tmp_path, predict):
    assert main(["share", str(checkpoint.parent), "--out", MUGS]) == 0
    hub.requests.clear()
    found = predict(MUGS, [cloud], tmp_path / "here")
    assert found["checkpoint"] == f"{MUGS}/model.safetensors"
    assert main(["evaluate", MUGS, "--split", "test", "--root", str(root)]) == 0
    assert (tmp_path / MUGS / "metrics-test.json").exists()
    assert not hub.requests


def test_every_other_command_takes_the_name(hub, training, cloud, root, tmp_path, refused):
    assert main(["share", MUGS, "--out", "again"]) == 0
    assert (tmp_path / "again" / "model.safetensors").exists()
    assert "must end in" in refused(["export", MUGS, "--out", "a.nothing"])
    # The proposals of `pcsa annotate`.
    name = pcsa.load(MUGS).names[0]
    found, failed = propose(Book(tmp_path, "mug", [name]), ["a"], lambda _: read_shape(cloud), MUGS, 256, "cpu")
    assert not failed
    assert found["a"][name].source == "predicted"
    task, run = open_cloud_run(MUGS, "cpu")
    assert len(open_scenes(ViewConfig(MUGS, (cloud,)), task, run)[0].pos) == 256
    assert len(frames(AnimateConfig((MUGS,), frames=2, num_samples=2, root=root))) == 2
    out = tmp_path / "run"
    assert (
        main(["train", *training("supervised"), "--init-from", MUGS, "--optimizer.steps", "1", "--out", str(out)]) == 0
    )


@pytest.mark.parametrize("command", ["evaluate", "predict", "view", "export", "share", "animate"])
def test_a_name_that_is_nothing(hub, cloud, command, refused):
    more = {"predict": [cloud], "view": [cloud], "export": ["--out", "a.onnx"], "share": ["--out", "x"]}.get(
        command, []
    )
    for name, said in (
        ("someone/nothing", "`someone/nothing` is not on the Hugging Face hub, or not for you to see, and no file or"),
        ("nothing", "`nothing` is no checkpoint: there is no such file, nor a folder of a run or of a shared model"),
        ("runs/last.ckpt", "`runs/last.ckpt` is no checkpoint: there is no such file"),
    ):
        assert said in refused([command, name, *more])
    assert not [path for path, _ in hub.requests if "last.ckpt" in path]


def test_a_folder_without_a_checkpoint_says_what_it_has(tmp_path, checkpoint):
    (tmp_path / "run").mkdir()
    with pytest.raises(FileNotFoundError, match=r"it has no last\.ckpt$"):
        checkpoint_of(tmp_path / "run")
    (tmp_path / "run" / "step-4.ckpt").write_bytes(checkpoint.read_bytes())
    with pytest.raises(FileNotFoundError, match=r"it has no last\.ckpt; it has step-4\.ckpt, to be named"):
        checkpoint_of(tmp_path / "run")
    (tmp_path / "run" / "best.ckpt").write_bytes(checkpoint.read_bytes())
    assert checkpoint_of(tmp_path / "run").name == "best.ckpt"
    with pytest.raises(ValueError, match=r"`revision` .='v1'. must not be given with `a/b@v2`"):
        checkpoint_of("a/b@v2", "v1")
