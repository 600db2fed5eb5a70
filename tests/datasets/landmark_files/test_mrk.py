import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pcsa.datasets.landmark_files import Landmarks, read_landmarks, read_mrk, write_mrk


def written(path: Path, *points: dict[str, Any], **about: Any) -> Path:
    markups = [{"type": "Fiducial", "coordinateSystem": "LPS", "controlPoints": list(points), **about}]
    path.write_text(json.dumps({"markups": markups}))
    return path


def point(label: str = "a", position: Any = (1, 2.5, -3), **more: Any) -> dict[str, Any]:
    return {"label": label, "position": position, **more}


def test_what_slicer_writes(tmp_path: Path) -> None:
    path = written(
        tmp_path / "a.mrk.json",
        point("nose", description="tip", positionStatus="defined", visibility=False, selected=True),
        point("ear", [0, 0, 0], positionStatus="undefined"),
        point("eye", [], positionStatus="missing"),
        {"label": "chin"},
        point("cheek", [4, 5, 6], positionStatus="preview"),
        coordinateUnits="mm",
    )
    (found,) = read_mrk(path)
    assert found.names == ("nose", "ear", "eye", "chin", "cheek")
    assert found.points[0].tolist() == [1.0, 2.5, -3.0]
    assert found.there.tolist() == [True, False, False, False, False]
    assert np.asarray(found.visible).tolist() == [False, True, True, True, True]
    assert (found.frame, found.units, found.rater, found.source) == ("LPS", "mm", None, str(path))
    assert found.descriptions[0] == "tip"


@pytest.mark.parametrize(
    ("about", "frame", "units"),
    [
        ({"coordinateSystem": "RAS"}, "RAS", None),
        ({"coordinateSystem": 0}, "RAS", None),
        ({"coordinateSystem": "1"}, "LPS", None),
        ({"coordinateUnits": ["cm", "UCUM", "centimeter"]}, "LPS", "cm"),
        ({"coordinateUnits": {"CodeValue": "um", "CodingSchemeDesignator": "UCUM"}}, "LPS", "um"),
        ({"coordinateUnits": ""}, "LPS", None),
    ],
)
def test_frames_and_units(tmp_path: Path, about: dict, frame: str, units: str | None) -> None:
    (found,) = read_mrk(written(tmp_path / "a.mrk.json", point(), **about))
    # Positions stay as they are; the frame says what they mean.
    assert (found.frame, found.units, found.points.tolist()) == (frame, units, [[1.0, 2.5, -3.0]])


def test_several_lists_are_several_raters(tmp_path: Path) -> None:
    lists = [{"name": name, "controlPoints": [point()]} for name in ("anna", "bert")]
    path = tmp_path / "a.mrk.json"
    path.write_text(json.dumps({"markups": lists}))
    found = read_mrk(path)
    assert [one.rater for one in found] == ["anna", "bert"]
    assert found[1].source == f"{path} (list bert)"
    path.write_text(json.dumps({"markups": [{**entry, "name": "F"} for entry in lists]}))
    assert [one.rater for one in read_mrk(path)] == ["1", "2"]


def test_lists_without_labels_are_numbered(tmp_path: Path) -> None:
    (found,) = read_mrk(written(tmp_path / "a.mrk.json", {"position": [1, 2, 3]}, {"position": [4, 5, 6]}))
    assert found.names == ("1", "2")


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    one = Landmarks(
        ['a "b", c', "é", "there no more"],
        [[1 / 3, 2e-17, 3e9], [np.nan] * 3, [1, 2, 3]],
        defined=[True, False, False],
        visible=[False, True, True],
        frame="RAS",
        units="m",
        descriptions=["1\n2", "", "x"],
        rater="anna",
    )
    write_mrk(tmp_path / "new" / "a.mrk.json", [one, Landmarks(["x"], [[0, 0, 1]])])
    first, second = read_landmarks(tmp_path / "new" / "a.mrk.json")
    assert first.names == one.names
    np.testing.assert_array_equal(first.points, one.points)
    assert first.there.tolist() == [True, False, False]
    assert np.asarray(first.visible).tolist() == [False, True, True]
    assert (first.frame, first.units, first.rater) == ("RAS", "m", "anna")
    # Slicer's own frame, in which a mesh is taken to be whose file names none.
    assert (second.frame, second.units) == ("LPS", None)
    text = (tmp_path / "new" / "a.mrk.json").read_text()
    assert "NaN" not in text
    assert json.loads(text)["markups"][0]["controlPoints"][1]["positionStatus"] == "missing"


@pytest.mark.parametrize(
    ("points", "about", "message"),
    [
        ([point(position=[1, 2])], {}, r"list 1, point 1: `position` \(=\[1, 2\]\) must be three finite numbers"),
        ([point(position=[1, 2, None])], {}, "point 1: `position`"),
        ([point(position=[1, 2, float("nan")])], {}, "point 1: `position`"),
        ([point(position="0,0,0")], {}, "point 1: `position`"),
        ([point(positionStatus="set")], {}, r"`positionStatus` \(='set'\) must be one of defined, undefined"),
        ([point("a"), point("a")], {}, "list 1, point 2: the name .='a'. must be another than that of list 1, point 1"),
        ([point("a"), point("")], {}, "point 2: the name .=''. must not be empty"),
        ([point(visibility="yes")], {}, "`visibility` .='yes'. must be true or false"),
        ([point(label={})], {}, "`label` .={}. must be a text"),
        (["x"], {}, "list 1, point 1 .='x'. must be an object"),
        ([point()], {"type": "ROI"}, "list 1: `type` .='ROI'. must be one of Fiducial"),
        (
            [point()],
            {"coordinateSystem": "IJK"},
            "`coordinateSystem`: the frame .='IJK'. must be LPS or RAS: IJK counts",
        ),
        ([point()], {"coordinateSystem": "XYZ"}, "`coordinateSystem`: the frame .='XYZ'. must be LPS or RAS"),
        ([point()], {"coordinateUnits": "parsec"}, "`coordinateUnits`: `units` .='parsec'. must be one of 'um', 'mm'"),
        ([point()], {"controlPoints": {}}, "list 1: `controlPoints` .={}. must be a list"),
    ],
)
def test_what_is_refused(tmp_path: Path, points: list, about: dict, message: str) -> None:
    path = written(tmp_path / "a.mrk.json", *points, **about)
    with pytest.raises(ValueError, match=f"^`{path}`: .*{message}"):
        read_mrk(path)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"markups": []}', '{"markups": 3}', "[" * 100_000, "\x00"])
def test_what_is_no_file_of_markups(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.mrk.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=f"^`{path}`: "):
        read_mrk(path)
    with pytest.raises(FileNotFoundError):
        read_mrk(tmp_path / "b.mrk.json")


def test_published_files(real_data: Path) -> None:
    (found,) = read_mrk(real_data / "landmarks" / "skull_originals" / "A_J.mrk.json")
    assert found.names == tuple(str(i + 1) for i in range(51))
    assert (found.frame, found.units) == ("LPS", "mm")
    assert found.there.all()
    np.testing.assert_allclose(found.points[0], [-9.21016, -25.0792, 9.31477])
