import numpy as np
import pytest

from pcsa.datasets.landmark_files.landmarks import UNITS, Landmarks, unit_name


def test_frames_and_units_are_exchanged() -> None:
    one = Landmarks(["a", "b"], [[1, 2, 3], [np.nan] * 3], frame="LPS", units="cm")
    assert one.in_frame("RAS").points[0].tolist() == [-1, -2, 3]
    assert one.in_frame("LPS").points[0].tolist() == [1, 2, 3]
    np.testing.assert_allclose(one.in_units("mm").points[0], [10, 20, 30])
    assert one.in_units("mm").units == "mm"
    # What nobody said is not changed.
    assert Landmarks(["a"], [[1, 2, 3]]).in_frame("RAS").points.tolist() == [[1, 2, 3]]
    assert Landmarks(["a"], [[1, 2, 3]]).in_units("m").points.tolist() == [[1, 2, 3]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"names": ["a", "a"]}, r"`names` \(has 'a' 2 times\) must be different"),
        ({"names": ["a"]}, r"`positions` \[2, 3\] must have a row for each of the 1 `names`"),
        ({"defined": [True]}, "`defined`"),
        ({"defined": [True, True]}, "`positions` of 'b' must be finite where `defined`"),
        ({"visible": [True]}, "`visible`"),
        ({"descriptions": ["x"]}, r"`descriptions` \(1\)"),
        ({"frame": "lps"}, r"`frame` \(='lps'\) must be one of 'LPS', 'RAS'"),
        ({"units": "miles"}, r"`units` \(='miles'\) must be one of"),
    ],
)
def test_broken_rules(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Landmarks(**{"names": ["a", "b"], "positions": [[1, 2, 3], [np.nan] * 3], **arguments})


def test_names_of_units() -> None:
    assert [unit_name(text) for text in ("Millimetres", "µm", "INCHES", " m ")] == ["mm", "um", "in", "m"]
    assert {unit_name(name) for name in UNITS} == set(UNITS)
