"""``pcsa data import`` and ``pcsa predict --out`` of landmark files, as a user calls them."""

import json
from pathlib import Path

import numpy as np
import pytest

from pcsa.datasets.keypointnet import KeypointNet
from pcsa.datasets.landmark_files import Landmarks, read_landmarks, write_landmarks
from pcsa.datasets.procedural import Faces
from pcsa.scripts.cli import main

CORNERS = np.array([[0.0, 0, 0], [8, 0, 0], [0, 6, 0], [0, 0, 10]])


def write_mesh(path: Path) -> None:
    rows = [f"v {x} {y} {z}" for x, y, z in CORNERS.tolist()] + ["f 1 3 2", "f 1 2 4", "f 2 3 4", "f 3 1 4"]
    path.write_text("# SPACE=LPS\n" + "\n".join(rows) + "\n")


def test_import_tells_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scans, marks = tmp_path / "scans", tmp_path / "marks"
    scans.mkdir()
    for name in "abcd":
        write_mesh(scans / f"{name}.obj")
    for name in ("a", "b_anna", "b_bert"):
        shift = 0.25 * (name == "b_bert")
        write_landmarks(
            marks / f"{name}.mrk.json", Landmarks(["nose", "tail"], [[1, 0, 0], [0, 2, 2 + shift]], units="mm")
        )
    write_landmarks(marks / "c.fcsv", Landmarks(["nose", "tail"], [[-1, 0, 0], [0, -2, 0.5]], frame="RAS"))
    write_landmarks(marks / "q.pp", Landmarks(["nose"], [[1, 0, 0]]))
    arguments = [str(scans), str(marks), "--out", str(tmp_path / "root"), "--units", "mm", "--num-points", "64"]
    assert main(["data", "import", *arguments]) == 3
    printed = capsys.readouterr().out.splitlines()
    assert printed[:4] == [
        "assumed: the landmarks do not name their units: they are taken for mm, as the others are",
        "paired: b with b_anna (anna), b_bert (bert)",
        "no landmarks: scan d",
        "no scan: landmarks q",
    ]
    assert printed[4].startswith("distance to the surface: mean 0 mm, largest 0 mm (")
    assert printed[5].split() == ["landmark", "scans", "mean", "largest", "of"]
    assert [line.split()[:2] for line in printed[6:8]] == [["nose", "3"], ["tail", "3"]]
    # Two marks 0.25 apart, 0.125 from their mean, and two at one place.
    assert printed[8] == "one mark lies 0.0625 mm from the mean of its landmark, on average"
    assert printed[9] == f"3 scans with 2 landmarks, as root in {tmp_path / 'root'}"
    assert len(printed) == 10
    assert len(KeypointNet(tmp_path / "root", "root", "all")) == 3
    assert main(["data", "import", *arguments]) == 2
    assert "`overwrite` replaces the category" in capsys.readouterr().err
    assert main(["data", "check", str(tmp_path / "root")]) == 0


@pytest.fixture
def cloud(root: Path, tmp_path: Path) -> Path:
    np.savetxt(tmp_path / "mug.xyz", KeypointNet(root, "mug", "val")[0].pos.numpy().astype(np.float64))
    return tmp_path / "mug.xyz"


@pytest.mark.parametrize("suffix", [".mrk.json", ".fcsv", ".pp", ".csv", ".tsv", ".txt"])
def test_predictions_as_landmarks(
    trained, cloud: Path, tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint, out = trained("supervised"), tmp_path / f"found{suffix}"
    plain = tmp_path / "plain.json"
    assert main(["predict", str(checkpoint), str(cloud), "--out", str(plain), "--no-progress"]) == 0
    arguments = ["predict", str(checkpoint), str(cloud), "--out", str(out), "--units", "mm", "--no-progress"]
    assert main(arguments) == 0
    document = json.loads(plain.read_text())
    (item,) = document["items"]
    (found,) = read_landmarks(out)
    there = np.array(item["presence"]) > 0.5
    if suffix in (".fcsv", ".txt"):
        assert list(found.names) == [name for name, is_there in zip(document["names"], there, strict=True) if is_there]
        np.testing.assert_array_equal(found.points, np.array(item["position"])[there])
    else:
        assert list(found.names) == document["names"]
        assert found.there.tolist() == there.tolist()
        np.testing.assert_array_equal(found.points[there], np.array(item["position"])[there])
    if suffix in (".mrk.json", ".csv", ".tsv"):
        assert found.units == "mm"
        spread = np.sqrt(np.trace(np.array(item["covariance"][0])))
        expected = (
            f"spread {spread:.3g} mm (rms), confidence {item['confidence'][0]:.3g}, presence {item['presence'][0]:.3g}"
        )
        assert found.descriptions[0] == expected
    # No journal is left, and nothing is replaced unasked.
    assert {path.name for path in tmp_path.iterdir()} == {"mug.xyz", "plain.json", out.name}
    capsys.readouterr()
    assert main(arguments) == 2
    assert "must be new" in capsys.readouterr().err
    assert main([*arguments, "--overwrite"]) == 0


def test_several_inputs(trained, cloud: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint, scans = trained("supervised"), tmp_path / "scans"
    points = np.loadtxt(cloud)
    (scans / "sub").mkdir(parents=True)
    for name in ("a.xyz", "b.xyz", "b.pts", "sub/c.xyz"):
        np.savetxt(scans / name, points)
    predict = ["predict", str(checkpoint), str(scans), "--recursive", "--no-progress", "--out"]
    assert main([*predict, str(tmp_path / "x.mrk.json")]) == 2
    assert "must have {name} for several inputs, such as" in capsys.readouterr().err
    assert main([*predict, str(tmp_path / "{name}" / "x.pp")]) == 2
    assert "in the name of the file" in capsys.readouterr().err
    assert main([*predict, str(tmp_path / "marks" / "{name}.found.fcsv"), "--frame", "RAS"]) == 0
    names = sorted(str(path.relative_to(tmp_path / "marks")) for path in (tmp_path / "marks").rglob("*.fcsv"))
    assert names == ["a.found.fcsv", "b.pts.found.fcsv", "b.xyz.found.fcsv", "sub/c.found.fcsv"]
    assert read_landmarks(tmp_path / "marks" / "a.found.fcsv")[0].frame == "RAS"
    assert not list((tmp_path / "marks").glob(".*"))
    assert main([*predict, str(tmp_path / "all.csv")]) == 0
    assert [one.scan for one in read_landmarks(tmp_path / "all.csv")] == ["a", "b.pts", "b.xyz", "sub/c"]


def test_the_frame_is_that_of_the_input(trained, tmp_path: Path) -> None:
    write_mesh(tmp_path / "a.obj")
    (tmp_path / "b.obj").write_text((tmp_path / "a.obj").read_text().replace("LPS", "RAS"))
    predict = ["predict", str(trained("supervised")), "--no-progress", "--out", str(tmp_path / "{name}.csv")]
    assert main([*predict[:2], str(tmp_path / "a.obj"), str(tmp_path / "b.obj"), *predict[2:]]) == 0
    (a,), (b,) = (read_landmarks(tmp_path / f"{name}.csv") for name in "ab")
    assert (a.frame, b.frame) == ("LPS", "RAS")
    # The numbers are those of the input.
    np.testing.assert_array_equal(a.points, b.points)


def test_landmarks_are_those_of_clouds(trained, tmp_path: Path, capsys: pytest.CaptureFixture[str], save_image) -> None:
    save_image(tmp_path / "a.png", Faces("test", num_images=1).source(0)["image"])
    assert (
        main(["predict", str(trained("landmarks")), str(tmp_path / "a.png"), "--out", str(tmp_path / "a.mrk.json")])
        == 2
    )
    assert "landmarks are those of clouds" in capsys.readouterr().err
