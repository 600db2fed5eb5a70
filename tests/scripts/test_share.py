"""``pcsa share``: the folder, its card, and the way through the hub and back."""

import json
import socket

import pytest
import torch

from pcsa.scripts.cli import main
from pcsa.tasks import Pretrained, open_pretrained, open_run

huggingface_hub = pytest.importorskip("huggingface_hub")

pytestmark = pytest.mark.filterwarnings("ignore:Use .content=:DeprecationWarning")  # the hub's client's own, with httpx


def test_a_folder_with_a_card(checkpoint, scored, tmp_path, capsys):
    scored("supervised")
    out = tmp_path / "mugs"
    options = ["--data-license", "for research", "--citation", "You et al. 2020", "--license", "mit", "--title", "Mugs"]
    assert main(["share", str(checkpoint), "--out", str(out), *options]) == 0
    assert capsys.readouterr().out == f"shared: {out}\n"
    card = (out / "README.md").read_text()
    assert card.startswith('---\nlicense: "mit"\nlibrary_name: pcsa\n')
    for part in (
        "# Mugs",
        'detector = pcsa.load("mugs")\nfound = detector(points)',
        "License of the data: for research",
        "You et al. 2020",
        "Localization with Sampling-Argmax",
        "### test",
    ):
        assert part in card
    # What `pcsa evaluate` printed, with its floor.
    table = scored("supervised")[1].split("\n\nwritten:")[0].strip()
    assert table in card
    assert "template of the training labels (floor)" in card
    assert "ceiling of the labels" in card
    # Scores of other weights are none of this model.
    metrics = checkpoint.parent / "metrics-test.json"
    before = metrics.read_text()
    try:
        metrics.write_text(json.dumps({**json.loads(before), "weights": "0" * 16}))
        assert main(["share", str(checkpoint.parent), "--out", str(out)]) == 0
    finally:
        metrics.write_text(before)
    card = (out / "README.md").read_text()
    assert "### test" not in card
    assert "`pcsa evaluate` was not called on these weights" in card
    assert "not stated by who shared it" in card


def test_a_shared_model_is_evaluated_and_predicts_as_its_checkpoint(checkpoint, scored, root, tmp_path, predict):
    before = scored("supervised")[0]
    out = tmp_path / "mugs"
    assert main(["share", str(checkpoint), "--out", str(out)]) == 0
    assert main(["evaluate", str(out), "--split", "test", "--root", str(root)]) == 0
    after = json.loads((out / "metrics-test.json").read_text())
    assert after["overall"] == before["overall"]
    # Without a root, what it was trained on is missed by name, not made up.
    assert main(["evaluate", str(out), "--split", "test", "--out", str(tmp_path / "m.json")]) == 2
    cloud = next((root / "pcds").rglob("*.pcd"))
    ours, theirs = (
        predict(path, [cloud], tmp_path / name) for path, name in ((out, "shared"), (checkpoint, "checkpoint"))
    )
    assert ours["items"][0]["position"] == theirs["items"][0]["position"]


def test_every_task_has_a_card(name, trained, tmp_path):
    assert main(["share", str(trained(name)), "--out", str(tmp_path / "shared")]) == 0
    card = (tmp_path / "shared" / "README.md").read_text()
    assert "- Task: `" in card
    assert "keypoints of " in card


def test_the_way_through_the_hub_and_back(hub, checkpoint, capsys, monkeypatch):
    assert main(["share", str(checkpoint), "--repo-id", "someone/mugs"]) == 0
    assert f"shared: {hub.endpoint}/someone/mugs/commit/" in capsys.readouterr().out
    first = Pretrained.from_pretrained("someone/mugs")
    run, own = first.run, open_run(checkpoint)
    state = own.model.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in run.model.state_dict().items())
    assert run.labels == own.labels
    assert set(hub.fetched()) <= {"config.json", "model.safetensors"}
    files = hub.repositories["model", "someone/mugs"]
    assert set(list(files.commits.values())[-1]) == {"README.md", "config.json", "model.safetensors"}
    assert b'pcsa.load("someone/mugs")' in list(files.commits.values())[-1]["README.md"]
    # A commit stays what it is.
    commit = list(files.commits)[-1]
    hub.commit("someone/mugs", {"config.json": b"{}"})
    with pytest.raises(ValueError, match="no entry 'pcsa'"):
        open_pretrained("someone/mugs")
    assert open_pretrained("someone/mugs", revision=commit).step == run.step
    # From what was fetched, where nobody answers.
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nowhere = f"http://127.0.0.1:{closed.getsockname()[1]}"
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", nowhere)
    monkeypatch.setattr(
        huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", nowhere + "/{repo_id}/resolve/{revision}/{filename}"
    )
    assert open_pretrained("someone/mugs", revision=commit).step == run.step
    with pytest.raises(ConnectionError, match=r"`someone/other`"):
        open_pretrained("someone/other")


def test_what_the_hub_lacks_or_should_not_have(hub, tmp_path):
    with pytest.raises(FileNotFoundError, match="`someone/nothing` is not on the Hugging Face hub"):
        open_pretrained("someone/nothing")
    # A pickle is not even fetched.
    hub.commit("someone/pickle", {"pytorch_model.bin": b"x", "config.json": b"{}"})
    with pytest.raises(FileNotFoundError, match=r"must have `config\.json` and `model\.safetensors`, lacks one"):
        open_pretrained("someone/pickle")
    assert "pytorch_model.bin" not in hub.fetched()
    with pytest.raises(FileNotFoundError, match="`someone/pickle` at 'v9' is not on"):
        open_pretrained("someone/pickle", revision="v9")


def test_a_file_that_is_too_large_is_not_fetched(hub, monkeypatch):
    from pcsa.tasks.common import hub as fetching

    monkeypatch.setattr(fetching, "MOST_READ", 10)
    hub.commit("someone/large", {"config.json": b"{}", "model.safetensors": b"x" * 11}, large="safetensors")
    with pytest.raises(ValueError, match=r"`model\.safetensors` of `someone/large`: 11 bytes, must be at most 10"):
        open_pretrained("someone/large")
    assert hub.fetched().count("model.safetensors") <= 1  # its size alone


def test_mistakes(refused, checkpoint, tmp_path, hub):
    assert "one of them" in refused(["share", checkpoint])
    assert "one of them" in refused(["share", checkpoint, "--out", tmp_path, "--repo-id", "a/b"])
    assert "must be owner/name" in refused(["share", checkpoint, "--repo-id", "beds"])
    assert "must be a folder of its own" in refused(["share", checkpoint, "--out", checkpoint.parent])
    assert "no such file" in refused(["share", tmp_path / "x.ckpt", "--out", tmp_path / "y"])
    hub.fail("POST /api/repos/create", status=403)
    assert "cannot be put on the Hugging Face hub" in refused(["share", checkpoint, "--repo-id", "someone/beds"])
