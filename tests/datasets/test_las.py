import struct
from pathlib import Path

import numpy as np
import pytest

from pcsa.datasets.las import read_las

laspy = pytest.importorskip("laspy")

POINTS = np.random.default_rng(0).integers(0, 100_000, (500, 3)) / 1000 + [691000, 4600000, 10]
NUM_POINTS = {"1.2": (107, "<I"), "1.4": (247, "<Q")}  # where the header has it


def written(file: Path, point_format: int, version: str, colors: np.ndarray | None = None) -> Path:
    header = laspy.LasHeader(point_format=point_format, version=version)
    header.offsets, header.scales = [691000, 4600000, 0], [0.001] * 3
    cloud = laspy.LasData(header)
    cloud.x, cloud.y, cloud.z = POINTS.T
    if colors is not None:
        cloud.red, cloud.green, cloud.blue = colors.T
    cloud.write(file)
    return file


@pytest.mark.parametrize("suffix", ["las", "laz"])
@pytest.mark.parametrize(("point_format", "version"), [(0, "1.2"), (3, "1.2"), (6, "1.4"), (7, "1.4")])
def test_far_points_are_kept(tmp_path: Path, suffix: str, point_format: int, version: str) -> None:
    cloud = read_las(written(tmp_path / f"a.{suffix}", point_format, version))
    assert cloud.points.dtype == np.float64
    np.testing.assert_allclose(cloud.points, POINTS, rtol=0, atol=1e-8)
    assert (cloud.colors is not None) == (point_format in (3, 7))


@pytest.mark.parametrize("suffix", ["las", "laz"])
@pytest.mark.parametrize(("stored", "color"), [([0, 32768, 65535], [0, 128, 255]), ([0, 128, 255], [0, 128, 255])])
def test_colors_of_16_and_of_8_bits(tmp_path: Path, suffix: str, stored: list[int], color: list[int]) -> None:
    cloud = read_las(written(tmp_path / f"a.{suffix}", 2, "1.2", np.tile(stored, (500, 1))))
    assert cloud.colors is not None
    assert cloud.colors.dtype == np.uint8
    assert (cloud.colors == color).all()


def test_padding_is_no_point(tmp_path: Path) -> None:
    file = written(tmp_path / "a.las", 0, "1.2")
    file.write_bytes(file.read_bytes() + bytes(200))
    assert len(read_las(file).points) == 500


@pytest.mark.parametrize("version", ["1.2", "1.4"])
@pytest.mark.parametrize(
    ("suffix", "declared", "message"),
    [
        ("las", 501, "declares 501 points, the file holds 500"),
        ("las", 400, "declares 400 points, the file holds 500"),
        ("las", 0, "declares 0 points, the file holds 500"),
        ("las", 4_000_000_000, "declares 4000000000 points, the file holds 500"),
        ("laz", 4_000_000_000, "4000000000 points are declared and cannot be unpacked"),
        ("laz", 0, "holds no points"),
    ],
)
def test_declared_counts(tmp_path: Path, version: str, suffix: str, declared: int, message: str) -> None:
    file = written(tmp_path / f"a.{suffix}", 0 if version == "1.2" else 6, version)
    raw = bytearray(file.read_bytes())
    place, form = NUM_POINTS[version]
    struct.pack_into(form, raw, place, declared)
    file.write_bytes(raw)
    with pytest.raises(ValueError, match=message):
        read_las(file)


@pytest.mark.parametrize(
    ("suffix", "keep", "message"),
    [
        ("las", -1, "declares 500 points, the file holds 499"),
        ("laz", -1, "500 points are declared and cannot be unpacked"),
        ("las", 100, "cannot be read as a LAS file"),
        ("laz", 300, "cannot be "),
        ("las", 0, "must begin with `LASF`"),
    ],
)
def test_cut_off(tmp_path: Path, suffix: str, keep: int, message: str) -> None:
    file = written(tmp_path / f"a.{suffix}", 3, "1.2")
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(ValueError, match=message) as error:
        read_las(file)
    assert str(error.value).startswith(f"`{file}`: ")


def test_a_scale_of_zero_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path / "a.las", 0, "1.2")
    raw = bytearray(file.read_bytes())
    struct.pack_into("<d", raw, 131, 0.0)
    file.write_bytes(raw)
    with pytest.raises(ValueError, match="no scale 0"):
        read_las(file)


def test_without_a_package_that_unpacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path / "a.laz", 0, "1.2")
    monkeypatch.setattr(laspy.LazBackend, "detect_available", classmethod(lambda _: ()))
    with pytest.raises(ValueError, match="pip install lazrs"):
        read_las(file)


def test_a_missing_file_stays_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_las(tmp_path / "none.las")
