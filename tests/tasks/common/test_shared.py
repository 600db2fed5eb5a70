"""A model in a folder: what is written, what is read again, and what is refused."""

import contextlib
import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from pcsa.tasks import open_run
from pcsa.tasks.common.calibrations import Calibration, store_calibration, weights_digest
from pcsa.tasks.common.checkpoint import read_checkpoint
from pcsa.tasks.common.hub import hub_name, is_hub_id
from pcsa.tasks.common.pretrained import Pretrained, open_pretrained
from pcsa.tasks.common.run import open_ensemble
from pcsa.tasks.common.shared import DESCRIPTION, WEIGHTS, read_shared


@pytest.fixture(scope="module")
def shared(trained, tmp_path_factory):
    """The folder of a shared detector; treat as read-only."""
    folder = tmp_path_factory.mktemp("shared") / "chairs"
    Pretrained(open_run(trained("supervised")[2])).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(shared, tmp_path):
    """A copy of it."""
    return shutil.copytree(shared, tmp_path / "chairs")


@pytest.mark.parametrize("name", ["supervised", "unsupervised", "pose2d", "pose3d-unet", "oct", "landmarks"])
def test_what_is_shared_is_what_was_trained(trained, name, tmp_path):
    file = trained(name)[2]
    Pretrained(open_run(file)).save_pretrained(tmp_path / "shared")
    before, after = open_run(file), open_pretrained(tmp_path / "shared")
    assert after.path == tmp_path / "shared" / WEIGHTS
    assert (after.task, after.labels, after.step, after.temperature) == (
        before.task,
        before.labels,
        before.step,
        before.temperature,
    )
    state = after.model.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in before.model.state_dict().items())
    assert (after.config.model, after.config.objective) == (before.config.model, before.config.objective)
    # Twice as well as once.
    Pretrained(after).save_pretrained(tmp_path / "again")
    for part in (WEIGHTS, DESCRIPTION):
        assert (tmp_path / "again" / part).read_bytes() == (tmp_path / "shared" / part).read_bytes()


def test_nothing_but_the_model_is_in_the_folder(shared, trained):
    assert {file.name for file in shared.iterdir()} == {WEIGHTS, DESCRIPTION, "README.md"}
    description = json.loads((shared / DESCRIPTION).read_text())
    assert description.keys() == {"pcsa", "global_step", "checksum"}
    config, stored = trained("supervised")[1], description["pcsa"]["config"]
    assert stored["data"]["root"] == config.data.root.name
    # No place of anybody's disk.
    assert str(config.data.root) not in (shared / DESCRIPTION).read_text() + (shared / "README.md").read_text()
    state = read_checkpoint(trained("supervised")[2])["state_dict"]
    weights = load_file(shared / WEIGHTS)
    assert weights.keys() == {name.removeprefix("network.") for name in state if name.startswith("network.")}


def test_temperatures_are_shared_and_can_be_stored(folder):
    run = open_pretrained(folder)
    store_calibration(run.path, Calibration(2.0, "val"), None, weights_digest(run.model.state_dict()))
    again = open_pretrained(folder)
    assert again.calibration == Calibration(2.0, "val")
    assert again.model.state_dict().keys() == run.model.state_dict().keys()


def test_the_folder_its_weights_and_an_ensemble_are_opened_like_a_checkpoint(folder, trained):
    assert open_run(folder).labels == open_run(folder / WEIGHTS).labels
    run = open_ensemble(open_run(trained("supervised")[2]), [folder])
    assert len(run.members) == 2
    with pytest.raises(ValueError, match="must be of one network to be shared"):
        Pretrained(run).save_pretrained(folder)


def test_the_folder_of_a_run_is_left_alone(trained):
    file = trained("supervised")[2]
    before = (file.parent / DESCRIPTION).read_bytes()
    with pytest.raises(FileExistsError, match=r"must be a folder of its own: it has the `config\.json` of something"):
        Pretrained(open_run(file)).save_pretrained(file.parent)
    assert (file.parent / DESCRIPTION).read_bytes() == before


def test_one_bit_of_either_file(folder):
    for name in (WEIGHTS, DESCRIPTION):
        whole = (folder / name).read_bytes()
        for place in range(3, len(whole), max(1, len(whole) // 40)):
            changed = bytearray(whole)
            changed[place] ^= 1 << (place % 7)
            (folder / name).write_bytes(changed)
            same = False
            with contextlib.suppress(ValueError):
                same = json.loads(changed) == json.loads(whole)  # a space between the parts of the JSON
            with contextlib.nullcontext() if same else pytest.raises((ValueError, OSError), match=str(folder)):
                open_run(folder)
        (folder / name).write_bytes(whole)
    open_run(folder)


def rewritten(folder, change):
    """Write another description whose checksum is right."""
    from pcsa.tasks.common import shared

    description = json.loads((folder / DESCRIPTION).read_text())
    del description["checksum"]
    change(description)
    shared._write_description(folder, description, (folder / WEIGHTS).read_bytes())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["pcsa"].update(task="nothing"), "`task` .='nothing'. must be one of"),
        (lambda d: d["pcsa"].update(task=["supervised"]), "`task` must be a str"),
        (lambda d: d["pcsa"].pop("labels"), "must fit pcsa .* KeyError"),
        (lambda d: d.update(global_step="7"), "`global_step` must be a int"),
        (lambda d: d["pcsa"]["config"]["model"].update(out_channels=10**6), "must fit pcsa"),
        (lambda d: d["pcsa"]["config"]["model"].update(local_blocks=10**6), "more than the"),
        (lambda d: d["pcsa"]["labels"]["semantic_ids"].append(99), "must fit pcsa"),
    ],
)
def test_descriptions_that_are_not_of_the_weights(folder, change, message):
    rewritten(folder, change)
    with pytest.raises(ValueError, match=message) as error:
        open_pretrained(folder)
    assert str(folder) in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "no entry 'pcsa'"),
        ("{}", "no entry 'pcsa'"),
        ('{"pcsa": 1}', "no entry 'pcsa'"),
        ('{"pcsa": {"temperature": NaN}}', "must have finite numbers, has NaN"),
        ("[" * 100_000, "cannot be read as the description"),
        ('{"pcsa": ', "cannot be read|Expecting"),
        ("\xff", "cannot be read|decode"),
    ],
)
def test_descriptions_that_are_none(folder, text, message):
    (folder / DESCRIPTION).write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=message):
        open_pretrained(folder)


def test_weights_that_are_none(folder):
    state = load_file(folder / WEIGHTS)
    from pcsa.tasks.common import shared

    description = json.loads((folder / DESCRIPTION).read_text())
    del description["checksum"]

    def refused(message):
        shared._write_description(folder, description, (folder / WEIGHTS).read_bytes())
        with pytest.raises(ValueError, match=message):
            read_shared(folder / WEIGHTS)

    name = next(key for key, value in state.items() if value.is_floating_point())
    save_file({**state, name: torch.full_like(state[name], float("nan"))}, folder / WEIGHTS)
    refused("are not finite")
    torch.save(state, folder / WEIGHTS)  # a pickle
    refused("cannot be read as weights")
    (folder / WEIGHTS).write_bytes((1 << 62).to_bytes(8, "little") + b"{}")
    refused("cannot be read as weights")
    (folder / WEIGHTS).write_bytes(b"")
    refused("cannot be read as weights")
    header = b'{"x":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,4]}}'
    (folder / WEIGHTS).write_bytes(len(header).to_bytes(8, "little") + header + b"0000")
    refused("cannot be read as weights")


def test_pickles_are_never_opened(folder):
    (folder / WEIGHTS).rename(folder / "pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match="weights in other formats are not read"):
        open_pretrained(folder)
    (folder / DESCRIPTION).unlink()
    (folder / "pytorch_model.bin").rename(folder / WEIGHTS)
    with pytest.raises(FileNotFoundError, match=r"config\.json` is missing"):
        open_pretrained(folder)


def test_ids_and_folders(folder, monkeypatch):
    assert all(map(is_hub_id, ("someone/beds", "someone/beds@v1.0", "a/b-2.x@refs/pr/1")))
    others = ("beds", "a/b/c", "../beds", "/beds", "a b/c", str(folder), "a/..", "", "./beds", "a/b@", "beds@v1")
    assert not any(map(is_hub_id, (*others, "runs/last.ckpt", "shared/model.safetensors")))
    monkeypatch.chdir(folder.parent.parent)
    here = f"{folder.parent.name}/chairs"
    assert not is_hub_id(here)
    assert open_pretrained(here).step == 7
    with pytest.raises(ValueError, match=r"`revision` .='main'. must not be given for a folder"):
        open_pretrained(folder, revision="main")
    with pytest.raises(FileNotFoundError, match="is neither a folder nor an owner/name"):
        open_pretrained(folder / "nowhere")


def test_the_name_of_what_the_hub_has():
    cached = Path("hub/models--someone--beds/snapshots/0123/model.safetensors")
    assert hub_name(cached) == "someone/beds@0123"
    assert hub_name(Path("model.safetensors")) is None
    assert hub_name(Path("runs/snapshots/0123/model.safetensors")) is None
