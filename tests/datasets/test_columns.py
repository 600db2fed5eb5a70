import numpy as np
import pytest

from pcsa.datasets.columns import cloud_of_columns, column_names, coordinates


def test_names_that_the_user_gives() -> None:
    expected = ("label", "x", "y", "z")
    for columns in ("label x y z", "label,X,Y,Z", " label; x; y; z ", ["label", "x", "y", "z"], ("LABEL", *"xyz")):
        assert column_names(columns) == expected
    assert column_names(None) is None
    for columns in ("", "x y", "x y z x", "a b c", []):
        with pytest.raises(ValueError, match=r"`columns` \(=.*\) must name x, y and z once each"):
            column_names(columns)


def test_where_coordinates_and_colors_are() -> None:
    assert coordinates(['"Z [m]"', "X (m)", "y", "Red", "G", "blue"]) == {
        "x": 1,
        "y": 2,
        "z": 0,
        "r": 3,
        "g": 4,
        "b": 5,
    }
    assert coordinates(["Points:0", "Points:1", "Points:2", "r"]) == {"x": 0, "y": 1, "z": 2}
    for names in (["x", "y"], ["x", "X", "y", "z"], ["easting", "northing", "height"]):
        with pytest.raises(ValueError, match=f"the columns are called {', '.join(names)}: x, y and z must be"):
            coordinates(names)


def test_columns_that_are_no_coordinates() -> None:
    good = {"x": np.arange(3), "y": np.arange(3.0), "z": np.zeros(3, np.float16)}
    assert cloud_of_columns(good).points.tolist() == [[0, 0, 0], [1, 1, 0], [2, 2, 0]]
    with pytest.raises(ValueError, match="`x` must be real numbers, is complex128"):
        cloud_of_columns({**good, "x": np.zeros(3, complex)})
    with pytest.raises(ValueError, match=r"must have one length, have \[2, 3\]"):
        cloud_of_columns({**good, "z": np.zeros(2)})
