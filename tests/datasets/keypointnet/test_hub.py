"""The download by the hub's own client, from a server on loopback that fails on demand."""

import hashlib
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pcsa.datasets.keypointnet import CLASS_IDS, KeypointNet, download
from pcsa.datasets.procedural import generate
from pcsa.scripts.cli import main

NAME = "qq456cvb/KeypointNet"
MUG = f"pcds/{CLASS_IDS['mug']}"
LARGE = r"\.json$|/\w{8}[0-7]\w*\.pcd$"  # the hub keeps some files by their SHA-256, others by git's hash


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten procedural mugs with their meshes, and three chairs that nobody asks for."""
    root = tmp_path_factory.mktemp("release")
    generate(root, "mug", 10, num_points=256, meshes=True)
    return generate(root, "chair", 3, num_points=256)


@pytest.fixture
def clouds(release: Path) -> list[str]:
    paths = sorted(path.relative_to(release).as_posix() for path in (release / MUG).iterdir())
    assert re.search(LARGE, paths[0])
    assert not re.search(LARGE, paths[-1])
    return paths


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the client would have waited: the tests do not."""
    seconds: list[float] = []
    monkeypatch.setattr("time.sleep", seconds.append)
    return seconds


@pytest.fixture
def served(hub, release, waits):
    hub.commit(NAME, release, kind="dataset", large=LARGE)
    return hub


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


def fetch(served, root, *categories, **options):
    download(root, categories or ["mug"], endpoint=served.endpoint, **options)


def whole(root, release, *, meshes=False):
    """Whether the mugs of a root are those of the release to the last byte, and nothing else is there."""
    here = {p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file() and ".cache" not in p.parts}
    there = {p.relative_to(release).as_posix() for p in release.rglob("*") if p.is_file()}
    wanted = {
        path
        for path in there
        if path.startswith(("splits/", MUG, "annotations/mug.json")) or (meshes and f"ply/{CLASS_IDS['mug']}" in path)
    }
    return here == wanted and all((root / path).read_bytes() == (release / path).read_bytes() for path in wanted)


def nothing(root):
    """Whether a reader of the root is told that there are no mugs, rather than given some of them."""
    with pytest.raises(FileNotFoundError, match=r"annotations.mug\.json` is missing"):
        KeypointNet(root, "mug", "train")
    return True


def test_a_category_arrives_whole_and_once(served, root, release):
    fetch(served, root)
    assert whole(root, release)
    assert len(KeypointNet(root, "mug", "train")) > 0
    served.heal()
    fetch(served, root)
    assert served.fetched() == []
    fetch(served, root, meshes=True)
    assert whole(root, release, meshes=True)
    assert all(path.startswith("ShapeNetCore.v2.ply/") for path in served.fetched())


def test_a_cut_connection_goes_on_where_it_was_cut(served, root, release, clouds, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 100)  # the client keeps whole chunks
    served.fail(rf"GET .*/{clouds[-1]}", cut=1000, times=3)
    served.fail("GET /objects/", cut=700, times=2)
    fetch(served, root)
    assert whole(root, release)
    ranges = [asked for _, asked in served.requests if asked]
    assert {"bytes=1000-", "bytes=2000-", "bytes=3000-", "bytes=700-"} <= set(ranges)


@pytest.mark.parametrize("what", ["cloud", "annotations"])
def test_a_connection_cut_for_good_leaves_no_category(served, root, release, clouds, what):
    file = clouds[-1] if what == "cloud" else "splits/train.txt"
    served.fail(rf"GET .*/resolve/.*{file}", cut=0)
    with pytest.raises(ConnectionError, match=rf"did not deliver `{NAME}` \(.+\)\. Check the network") as error:
        fetch(served, root)
    assert "\n" not in str(error.value)
    assert nothing(root)
    assert not (root / file).exists()
    there = [path for path in clouds if (root / path).exists()]
    served.heal()
    fetch(served, root)
    assert whole(root, release)
    assert not set(there) & set(served.fetched())


@pytest.mark.parametrize("place", [0, -1])
def test_damaged_content_is_an_error_and_does_not_stay(served, root, release, clouds, place):
    digest = hashlib.sha256((release / clouds[place]).read_bytes()).hexdigest()
    served.fail(rf"GET .*({digest}|{clouds[place]})", change=True)
    with pytest.raises(ConnectionError, match=r"1 of \d+ files differ from their checksums: pcds/.*\.pcd"):
        fetch(served, root)
    assert nothing(root)
    assert len([path for path in clouds if (root / path).exists()]) == len(clouds) - 1
    served.heal()
    fetch(served, root)
    assert whole(root, release)


def test_damaged_annotations_do_not_replace_good_ones(served, root, release):
    fetch(served, root)
    good = (root / "annotations" / "mug.json").read_bytes()
    served.commit(NAME, {"annotations/mug.json": good + b" "}, kind="dataset", large=LARGE)
    served.fail("GET /objects/", change=True)
    with pytest.raises(ConnectionError, match=r"differ from their checksums: annotations/mug\.json"):
        fetch(served, root)
    assert whole(root, release)
    served.heal()
    fetch(served, root)
    assert (root / "annotations" / "mug.json").read_bytes() == good + b" "


def test_a_cloud_that_was_damaged_here_is_fetched_again(served, root, release, clouds):
    fetch(served, root)
    served.heal()
    content = (root / clouds[0]).read_bytes()
    (root / clouds[0]).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    (root / clouds[1]).unlink()
    fetch(served, root)
    assert whole(root, release)


def test_a_newer_revision_replaces_a_category_as_a_whole_or_removes_it(served, root, release, clouds):
    fetch(served, root)
    first = next(iter(served.repositories["dataset", NAME].commits))
    newer = (release / clouds[2]).read_bytes().replace(b"VERSION .7", b"VERSION 0.7")
    assert newer != (release / clouds[2]).read_bytes()
    served.commit(NAME, {clouds[2]: newer}, kind="dataset", large=LARGE)
    served.fail("GET /objects/", cut=10)
    with pytest.raises(ConnectionError, match="did not deliver"):
        fetch(served, root)
    assert nothing(root)  # not the old annotations with some of the new clouds
    served.heal()
    fetch(served, root)
    assert (root / clouds[2]).read_bytes() == newer
    fetch(served, root, revision=first)
    assert whole(root, release)


@pytest.mark.parametrize(
    ("pattern", "code", "message"),
    [
        ("GET /api/", "RepoNotFound", "404"),
        (r"(HEAD|GET) .*/resolve/.*\.pcd", "EntryNotFound", "404"),
        ("GET /api/", None, "500"),
        (r"GET .*/tree/", None, "403"),
    ],
)
def test_what_the_hub_refuses_is_said_in_one_line(served, root, pattern, code, message):
    served.fail(pattern, status=int(message), headers={"X-Error-Code": code} if code else {})
    with pytest.raises(ConnectionError, match=rf"did not deliver `{NAME}` \(.*{message}.*by hand") as error:
        fetch(served, root)
    assert "\n" not in str(error.value)
    assert nothing(root) if root.exists() else True


def test_an_unknown_revision(served, root):
    with pytest.raises(ConnectionError, match="Revision Not Found"):
        fetch(served, root, revision="v9")


@pytest.mark.parametrize("pattern", ["GET /api/", r"GET .*/resolve/.*\.pcd"])
def test_a_client_that_asks_too_often_waits_as_long_as_it_is_told(served, root, release, waits, pattern):
    served.fail(pattern, status=429, headers={"Retry-After": "17"}, times=2)
    fetch(served, root)
    assert whole(root, release)
    assert any(17 <= seconds < 19 for seconds in waits)


def test_a_client_that_asks_too_often_gives_up(served, root):
    served.fail("GET /api/", status=429, headers={"Retry-After": "17"})
    with pytest.raises(ConnectionError, match="429"):
        fetch(served, root)


@pytest.mark.parametrize("missing", ["annotations", "clouds"])
def test_a_category_that_the_hub_has_in_part(served, root, clouds, missing):
    gone = ["annotations/mug.json"] if missing == "annotations" else clouds
    served.commit(NAME, dict.fromkeys(gone), kind="dataset")
    with pytest.raises(ConnectionError, match="did not deliver `mug` of"):
        fetch(served, root, "chair", "mug")
    assert nothing(root) if root.exists() else True


def test_without_the_hub_a_whole_category_stays_and_a_part_is_none(served, root, release, clouds, caplog):
    fetch(served, root)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{closed.getsockname()[1]}"
    download(root, ["mug"], endpoint=nowhere)
    assert "cannot be reached" in caplog.text
    assert whole(root, release)
    with pytest.raises(ConnectionError, match="did not deliver"):
        download(root, ["mug", "chair"], endpoint=nowhere)
    (root / clouds[0]).unlink()
    with pytest.raises(ConnectionError, match="did not deliver"):
        download(root, ["mug"], endpoint=nowhere)


def test_no_file_leaves_the_root(served, root):
    outside = root.parent / "outside.txt"
    outside.write_text("mine")
    served.commit(NAME, {f"{MUG}/../../../outside.txt": b"theirs"}, kind="dataset")
    with pytest.raises(ConnectionError, match="outside of its folder"):
        fetch(served, root)
    assert outside.read_text() == "mine"


def test_faults_of_this_machine_keep_their_names(served, root):
    root.write_text("a file")
    with pytest.raises(OSError, match="root") as error:
        fetch(served, root)
    assert not isinstance(error.value, ConnectionError)


def test_unknown_categories(root):
    for categories in (["sofa"], []):
        with pytest.raises(ValueError, match="airplane"):
            download(root, categories)


def test_the_knives_come_with_the_list_of_misaligned_ones(served, root):
    knife = CLASS_IDS["knife"]
    files = {"knife_misaligned.txt": b"a\n", "annotations/knife.json": b"[]", f"pcds/{knife}/a.pcd": b"x"}
    served.commit(NAME, files, kind="dataset")
    fetch(served, root, "knife")
    assert (root / "knife_misaligned.txt").read_bytes() == b"a\n"


@pytest.mark.slow
def test_a_training_from_what_the_command_fetched(hub, release, tmp_path):
    hub.commit(NAME, release, kind="dataset", large=LARGE)
    hub.fail(r"GET /objects/", cut=900, times=1)
    root = tmp_path / "root"
    command = [sys.executable, "-m", "pcsa.scripts.cli", "data", "download", str(root), "--categories", "mug"]
    environment = {**os.environ, "HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "home")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"mug in {root}\n"
    assert whole(root, release)
    short = "--model.out-channels 16 --optimizer.steps 3 --optimizer.batch-size 4 --trainer.no-progress"
    flags = f"--trainer.accelerator cpu --data.root {root} --data.category mug --out {tmp_path / 'run'}"
    assert main(["train", "supervised", *short.split(), *flags.split()]) == 0
    weights = torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["state_dict"]
    assert all(value.isfinite().all() for value in weights.values())
