import os
from pathlib import Path

import numpy as np
import pytest

from pcsa.datasets.landmark_files import LANDMARK_FILES, Landmarks, read_landmarks, write_landmarks
from pcsa.datasets.landmark_files.cells import MOST_BYTES


@pytest.mark.parametrize("suffix", LANDMARK_FILES)
def test_every_format_both_ways(tmp_path: Path, suffix: str) -> None:
    points = np.random.default_rng(0).normal(size=(5, 3)) * 1e3
    write_landmarks(tmp_path / f"a{suffix.upper()}", Landmarks([f"p{i}" for i in range(5)], points))
    (found,) = read_landmarks(tmp_path / f"a{suffix.upper()}")
    assert found.names == ("p0", "p1", "p2", "p3", "p4")
    # To the last digit.
    np.testing.assert_array_equal(found.points, points)


@pytest.mark.parametrize("suffix", LANDMARK_FILES)
def test_what_no_file_of_landmarks_may_be(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    with pytest.raises(FileNotFoundError):
        read_landmarks(path)
    with path.open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(ValueError, match=f"{path}.*must be at most"):
        read_landmarks(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ValueError, match=f"{path}.*a named pipe"):
        read_landmarks(path)


@pytest.mark.parametrize("suffix", LANDMARK_FILES)
def test_a_name_in_an_older_encoding_is_refused_by_name(tmp_path: Path, suffix: str) -> None:
    """Python keeps the bytes of such names as half characters."""
    message = rf"`{tmp_path}/a\{suffix}`: '.*bl.udce9.*' has bytes that are no UTF-8.* write \.json"
    with pytest.raises(ValueError, match=message):
        write_landmarks(tmp_path / f"a{suffix}", Landmarks(["bl\udce9"], [[1.0, 2.0, 3.0]]))
    assert not list(tmp_path.iterdir())


def test_other_suffixes(tmp_path: Path) -> None:
    for call in (lambda: read_landmarks(tmp_path / "a.json"), lambda: write_landmarks(tmp_path / "a.json", [])):
        with pytest.raises(ValueError, match=r"the suffix must be one of \.mrk\.json, \.fcsv"):
            call()
