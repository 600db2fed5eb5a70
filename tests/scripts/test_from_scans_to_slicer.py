"""The whole way of docs/guides/label.md: its commands one after the other, with a hand in place of the browser's."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh

from pcsa.datasets.keypointnet import KeypointNet
from pcsa.datasets.labeling.book import Book
from pcsa.datasets.landmark_files import read_landmarks
from pcsa.scripts.cli import main

pytest.importorskip("viser", reason="viser is not installed (pcsa[viz])")

PAGE = Path(__file__).parents[2] / "docs" / "guides" / "label.md"
# Where a head has what the page names: y is up, and it looks to -z.
PLACES = {"nose": (0, 0.1, -1), "left_ear": (-1, 0.1, 0), "right_ear": (1, 0.1, 0), "chin": (0, -0.8, -0.6)}
SMALL = {
    "annotate": "--port 0 --num-points 256",
    "train": "--optimizer.steps 30 --optimizer.batch-size 4 --trainer.validate-every 100 --trainer.save-every 100 "
    "--trainer.no-progress --trainer.accelerator cpu",
}


def write_head(path, seed, lacks=()):
    """Write the mesh of a head, in millimeters, and return its keypoints: vertices, None for what it lacks."""
    rng = np.random.default_rng(seed)
    ball = trimesh.creation.icosphere(subdivisions=3)
    vertices, away = np.array(ball.vertices), {}
    size = rng.uniform(0.85, 1.15, 3) * [75, 110, 95]
    for name, place in PLACES.items():
        toward = np.array(place) / np.linalg.norm(place)
        row = int((ball.vertices @ toward).argmax())
        if name not in lacks:
            away[name] = row
            near = np.exp(-((1 - ball.vertices @ ball.vertices[row]) / 0.03))
            vertices *= 1 + rng.uniform(0.25, 0.4) * near[:, None]
    mesh = trimesh.Trimesh(vertices * size, ball.faces, process=False)
    mesh.export(path)
    return {name: mesh.vertices[away[name]] if name in away else None for name in PLACES}


class Hand:
    """Labels scans as a person does who looks at the page: looks at what is proposed, and clicks where that is wrong.

    Args:
        heads: The keypoints of each scan.
        end_after: Number of scans after which it goes home.

    """

    def __init__(self, heads, end_after):
        self.heads, self.end_after = heads, end_after
        self.scans, self.agreed, self.corrected = [], 0, 0

    def __call__(self, page, idle):
        session = page.session
        for _ in range(self.end_after):
            self.scans.append(session.scan)
            for k, (name, at) in enumerate(self.heads[session.scan].items()):
                session.choose(k)
                proposal = session.proposed.get(name)
                if proposal is not None and self._is_right(proposal.position, at):
                    assert session.take()
                    self.agreed += 1
                else:
                    self.corrected += proposal is not None
                    # The eye is outside, and the head round enough.
                    assert session.click(2 * at, -at) if at is not None else session.skip() is None
                page.show()
            assert session.is_done
            idle()
            if not session.leaf_to_open():
                break
        raise KeyboardInterrupt

    @staticmethod
    def _is_right(position, at):
        return position is at if position is None or at is None else np.linalg.norm(position - at) < 20


@pytest.mark.slow
def test_the_page_from_scans_to_slicer(tmp_path, monkeypatch, capsys):
    from pcsa.scripts.annotate_page import LabelPage

    monkeypatch.chdir(tmp_path)
    for folder in ("scans/heads", "new_scans"):
        Path(folder).mkdir(parents=True)
    heads = {f"{i:02}.ply": write_head(f"scans/heads/{i:02}.ply", i, ("left_ear",) * (i == 3)) for i in range(12)}
    anna = write_head("new_scans/anna.ply", 100)
    write_head("new_scans/otto.ply", 101)
    blocks = re.findall(r"^```(sh|py)\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    commands = iter([line for kind, block in blocks if kind == "sh" for line in block.splitlines()])
    (two_lines,) = (block for kind, block in blocks if kind == "py")
    book = lambda: Book(Path("scans/heads"), "heads")  # noqa: E731

    def run(*start):
        words = shlex.split(next(commands))
        assert words[: 1 + len(start)] == ["pcsa", *start]
        assert main([*words[1:], *SMALL.get(start[0], "").split()]) == 0
        return capsys.readouterr().out

    # Unlabeled meshes are labeled: a click means the vertex.
    hand = Hand(heads, end_after=8)
    monkeypatch.setattr(LabelPage, "run", lambda page, idle: hand(page, idle))
    assert "8 of 12 scans are labeled" in run("annotate")
    assert hand.scans == sorted(heads)[:8]
    assert hand.agreed > 3  # ears, from the other side
    for scan in hand.scans:
        for name, at in heads[scan].items():
            label = book()[scan][name]
            assert label is at if at is None else np.allclose(label, at, atol=1e-3)
    assert "0 problems in scans/heads" in run("data", "check")
    assert [len(KeypointNet("scans/heads", "heads", split)) for split in ("train", "val", "test")] == [6, 1, 1]

    # A detector is trained, proposes the rest, and is put right.
    run("train", "supervised")
    hand = Hand(heads, end_after=12)
    run("annotate")
    assert sorted(hand.scans) == sorted(heads)[8:]
    assert hand.agreed + hand.corrected == 16
    assert hand.agreed
    assert hand.corrected
    assert all(book().is_done(scan) for scan in heads)
    assert np.allclose([book()["11.ply"][name] for name in PLACES], list(heads["11.ply"].values()), atol=20)
    run("train", "supervised")
    assert len(KeypointNet("scans/heads", "heads", "all")) == 12
    assert "2 predictions of 4" in run("predict")
    predicted = json.loads(Path("keypoints.json").read_text())["items"][0]
    # Of a head of 300; 30 steps leave maps that are wide.
    assert np.linalg.norm(np.array(predicted["point"]) - list(anna.values()), axis=1).mean() < 40

    # It is shared; another machine has the folder, and two lines.
    run("share")
    other = tmp_path / "other"
    shutil.copytree("shared", other / "shared")
    shutil.copytree("new_scans", other / "new_scans")
    for folder in ("runs", "scans"):
        shutil.rmtree(folder)
    done = subprocess.run(
        [sys.executable, "-c", f"{two_lines}\nprint(found.position.tolist())"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        cwd=other,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    position = torch.tensor(json.loads(done.stdout))
    torch.testing.assert_close(position, torch.tensor(predicted["position"]), rtol=1e-4, atol=1e-3)

    # Slicer's files, read back.
    run("predict")
    assert next(commands, None) is None
    assert sorted(path.name for path in Path("marks").iterdir()) == ["anna.mrk.json", "otto.mrk.json"]
    (marks,) = read_landmarks("marks/anna.mrk.json")
    assert (marks.names, marks.units) == (tuple(PLACES), "mm")
    there = marks.there
    assert there.any()
    np.testing.assert_allclose(marks.points[there], position[torch.from_numpy(there)], rtol=1e-4, atol=1e-3)
