from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from pcsa.datasets.scans import ScanAugment, read_scan_file, window

STILL = ScanAugment(flip=0, shift=0, brightness=0)


def ramp(height: int, width: int, slope: float = 0.01) -> dict:
    """A scan whose pixels say where they are: value (row + column / 1000) / 100, and two straight surfaces."""
    rows, columns = torch.arange(height)[:, None].float(), torch.arange(width).float()
    boundaries = torch.stack([height / 4 + slope * columns, height / 2 + slope * columns])
    return {
        "image": ((rows + columns / 1000) / 100)[None],
        "boundaries": boundaries,
        "visible": torch.ones(2, width, dtype=torch.bool),
        "spacing": torch.tensor([0.25, 0.5]),
    }


def places(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Row and column in the source of every pixel of a window of a ramp."""
    rows = (image[0].double() * 100 + 1e-4).floor()
    return rows, ((image[0].double() * 100 - rows) * 1000).round()


def test_central_columns_and_handing_on():
    source = ramp(16, 11)
    before = {name: value.clone() for name, value in source.items()}
    sample = window(source, (16, 4))
    rows, columns = places(sample["image"])
    assert columns[0].tolist() == [3, 4, 5, 6]  # 11 - 4 = 7 columns to leave, 3 of them on the left
    assert rows[:, 0].tolist() == list(range(16))
    torch.testing.assert_close(sample["boundaries"][0], torch.tensor([4.03, 4.04, 4.05, 4.06]))
    assert sample["visible"].all()
    assert sample["spacing"].tolist() == [0.25, 0.5]
    assert all(torch.equal(source[name], before[name]) for name in before)


def test_start():
    _, columns = places(window(ramp(16, 11), (16, 4), start=7)["image"])
    assert columns[0].tolist() == [7, 8, 9, 10]


def test_augmented_windows_keep_pixels_and_boundaries_together():
    source = ramp(64, 40, slope=0.3)
    generator = torch.Generator().manual_seed(0)
    augment = ScanAugment(flip=0.5, shift=4, brightness=0)
    starts, tops, turned = set(), set(), 0
    for _ in range(200):
        sample = window(source, (64, 12), augment=augment, generator=generator)
        rows, columns = places(sample["image"])
        middle = rows[30]  # far from what is continued at the rims
        assert (middle == middle[0]).all()
        top = middle[0].item() - 30
        expected = source["boundaries"][:, columns[30].long()] - top
        torch.testing.assert_close(sample["boundaries"], expected)
        assert sample["visible"].all()
        steps = columns[30].diff()
        assert (steps == steps[0]).all()
        turned += int(steps[0] == -1)
        starts.add(columns[30].min().item())
        tops.add(top)
    assert starts == set(range(29))
    assert tops == set(range(-4, 5))
    assert 70 < turned < 130


def test_boundary_outside_the_window_is_not_visible():
    source = ramp(32, 6, slope=0)
    source["boundaries"] = torch.tensor([0.0, 31.4])[:, None].repeat(1, 6)
    generator = torch.Generator().manual_seed(0)
    augment = ScanAugment(flip=0, shift=2, brightness=0)
    found = set()
    for _ in range(40):
        sample = window(source, (32, 6), augment=augment, generator=generator)
        top = places(sample["image"])[0][16, 0].item() - 16
        seen = sample["visible"][:, 0].tolist()
        # The window shows rows top - 1/2 to top + 31.5.
        assert seen == [top <= 0, top >= 0]
        assert (sample["boundaries"][~sample["visible"]] == 0).all()
        found.add(top)
    assert found == {-2, -1, 0, 1, 2}


def test_what_was_not_visible_stays_so():
    source = ramp(16, 11)
    source["visible"][1, 4] = False
    sample = window(source, (16, 4))
    assert sample["visible"].tolist() == [[True] * 4, [True, False, True, True]]


def test_small_scan_is_continued_and_its_padding_not_visible():
    sample = window(ramp(8, 3, slope=0), (12, 8))
    rows, columns = places(sample["image"])
    # 4 rows more, 2 of them above; 5 columns more, 3 of them to the left.
    assert rows[:, 0].tolist() == [0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 7, 7]
    assert columns[0].tolist() == [0, 0, 0, 0, 1, 2, 2, 2]
    assert sample["visible"][0].tolist() == [False, False, False, True, True, True, False, False]
    assert sample["boundaries"][0].tolist() == [0, 0, 0, 4, 4, 4, 0, 0]  # row 8 / 4 and two above


def test_padding_of_a_flipped_scan():
    sample = window(
        ramp(8, 3, slope=1.0),
        (8, 6),
        augment=ScanAugment(flip=1, shift=0, brightness=0),
        generator=torch.Generator().manual_seed(0),
    )
    assert places(sample["image"])[1][0].tolist() == [2, 2, 1, 0, 0, 0]
    assert sample["visible"][0].tolist() == [False, True, True, True, False, False]
    assert sample["boundaries"][0].tolist() == [0, 4, 3, 2, 0, 0]


def test_high_scan_shows_the_rows_with_the_most_light():
    image = torch.zeros(1, 40, 5)
    image[:, 22:28] = 1.0
    boundaries = torch.full((1, 5), 22.5)
    source = {"image": image, "boundaries": boundaries, "visible": torch.ones(1, 5, dtype=torch.bool)}
    sample = window(source, (6, 5))
    assert (sample["image"] == 1).all()
    assert (sample["boundaries"] == 0.5).all()
    assert "spacing" not in sample


def test_brightness_and_noise():
    source = {
        "image": torch.full((1, 50, 50), 0.5),
        "boundaries": torch.zeros(1, 50),
        "visible": torch.ones(1, 50, dtype=torch.bool),
    }
    generator = torch.Generator().manual_seed(0)
    augment = ScanAugment(flip=0, shift=0, brightness=0.2)
    values = [window(source, (50, 50), augment=augment, generator=generator)["image"] for _ in range(50)]
    assert all((value == value[0, 0, 0]).all() for value in values)
    means = torch.stack([value.mean() for value in values])
    assert means.min() >= 0.4 - 1e-6
    assert means.max() <= 0.6 + 1e-6
    assert means.max() - means.min() > 0.15
    noisy = window(
        source, (50, 50), augment=ScanAugment(flip=0, shift=0, brightness=0, noise=0.05), generator=generator
    )
    assert noisy["image"].std().item() == pytest.approx(0.05, rel=0.1)
    bright = window({**source, "image": torch.ones(1, 50, 50)}, (50, 50), augment=augment, generator=generator)
    assert bright["image"].max() <= 1


def test_all_randomness_is_the_generators():
    source = ramp(32, 40)
    augment = ScanAugment(noise=0.1)
    first, second = (
        window(source, (32, 16), augment=augment, generator=torch.Generator().manual_seed(5)) for _ in range(2)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"flip": 1.5}, r"`flip` \(=1.5\) must be from 0 to 1"),
        ({"shift": -1}, r"`shift` \(=-1\) must be at least 0 and finite"),
        ({"brightness": 2}, r"`brightness` \(=2\) must be from 0 to 1"),
        ({"noise": float("nan")}, r"`noise` \(=nan\) must be at least 0 and finite"),
        ({"shift": float("inf")}, r"`shift` \(=inf\) must be at least 0 and finite"),
    ],
)
def test_bad_augmentation(change, message):
    with pytest.raises(ValueError, match=message):
        ScanAugment(**change)


def test_bad_input():
    source = ramp(8, 10)
    with pytest.raises(ValueError, match=r"`size` \(=\(0, 4\)\) must be"):
        window(source, (0, 4))
    with pytest.raises(ValueError, match=r"`start` \(=7\) must be from 0 to 6"):
        window(source, (8, 4), start=7)
    with pytest.raises(ValueError, match=r"`generator` \(=None\) must be given"):
        window(source, (8, 4), augment=STILL)
    with pytest.raises(ValueError, match=r"must have visible too"):
        window({name: source[name] for name in ("image", "boundaries")}, (8, 4))
    with pytest.raises(ValueError, match=r"`image` \[8, 10\] must be \[1, H, W\]"):
        window({**source, "image": source["image"][0]}, (8, 4))
    with pytest.raises(ValueError, match=r"`boundaries` \[2, 9\] must be \[K, 10\]"):
        window({**source, "boundaries": source["boundaries"][:, 1:]}, (8, 4))
    with pytest.raises(ValueError, match=r"`visible` \[2, 10\] \(torch.float32\) must be bool"):
        window({**source, "visible": source["visible"].float()}, (8, 4))


def test_scans_of_every_format(tmp_path: Path):
    values = np.random.default_rng(0).integers(0, 256, (6, 5), dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / "scan.png")
    np.save(tmp_path / "scan.npy", values / 255)
    np.savez(tmp_path / "scan.npz", image=values / 255)
    np.savez(tmp_path / "raw.npz", bscan=(values / 255) ** 4, image=np.zeros((6, 5)))
    for name in ("scan.png", "scan.npy", "scan.npz", "raw.npz"):
        scan = read_scan_file(tmp_path / name)
        assert scan.shape == (1, 6, 5)
        assert scan.dtype == torch.float32
        np.testing.assert_allclose(scan[0], values / 255, atol=1e-6)


def test_what_is_no_scan(tmp_path: Path):
    np.save(tmp_path / "a.npy", np.zeros((2, 3, 4)))
    with pytest.raises(ValueError, match=r"a\.npy`: `array` \(float64 \[2, 3, 4\]\) must be numbers of 2 axes"):
        read_scan_file(tmp_path / "a.npy")
    np.savez(tmp_path / "a.npz", image=np.full((3, 4), 7.0))
    with pytest.raises(ValueError, match=r"a\.npz`: `image`: values \(float64, from 7 to 7\) must be from 0 to 1"):
        read_scan_file(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", other=np.zeros((3, 4)))
    with pytest.raises(ValueError, match=r"a\.npz`: must hold bscan or image, has other"):
        read_scan_file(tmp_path / "a.npz")


def test_one_rule_for_the_values_of_scans(tmp_path: Path):
    """A scan of floats from 0 to 255, 12 bits in 16 and others: refused in every format, and right with the range."""
    unit = np.random.default_rng(0).integers(0, 256, (6, 5)) / 255
    unit[0, :2] = 0, 1
    for values, high in (
        ((unit * 255).astype(np.float32), 255),
        ((unit * 4095).round().astype(np.uint16), 4095),
        ((unit * 4095).round().astype(np.int32), 4095),
        ((unit * 1e6).round().astype(np.uint32), 1e6),
    ):
        tifffile.imwrite(tmp_path / "a.tif", values, photometric="minisblack")
        np.save(tmp_path / "a.npy", values)
        np.savez(tmp_path / "a.npz", image=values)
        for name in ("a.tif", "a.npy", "a.npz"):
            with pytest.raises(ValueError, match=rf"{name}`: .*`value_range`"):
                read_scan_file(tmp_path / name)
            np.testing.assert_allclose(read_scan_file(tmp_path / name, (0, high))[0], unit, atol=2e-4)
    # What the types say.
    for values in ((unit * 255).round().astype(np.uint8), (unit * 65535).round().astype(np.uint16), unit):
        tifffile.imwrite(tmp_path / "a.tif", values, photometric="minisblack")
        np.save(tmp_path / "a.npy", values)
        np.savez(tmp_path / "a.npz", image=values)
        for name in ("a.tif", "a.npy", "a.npz"):
            np.testing.assert_allclose(read_scan_file(tmp_path / name)[0], unit, atol=1e-5)


def test_raw_intensities(tmp_path: Path):
    raw = np.array([[0, 0.0016, 1]], np.float32)
    for dtype in (np.float32, np.float64):
        marked = raw.astype(dtype)
        marked[0, 0] = np.finfo(np.float32).max  # Heidelberg's mark of no value
        np.savez(tmp_path / "a.npz", bscan=marked)
        np.testing.assert_allclose(read_scan_file(tmp_path / "a.npz")[0], [[0, 0.2, 1]], rtol=1e-5)
    np.savez(tmp_path / "a.npz", bscan=(raw * 1e4).astype(np.uint16))
    with pytest.raises(ValueError, match=r"a\.npz`: `bscan` \(uint16\) must be floats, or `value_range`"):
        read_scan_file(tmp_path / "a.npz")
    np.testing.assert_allclose(read_scan_file(tmp_path / "a.npz", (0, 10000))[0], [[0, 0.2, 1]], rtol=1e-5)
    for bad, rule in ((1.5, "from 0.0016 to 1.5"), (-0.1, "from -0.1 to 1"), (np.nan, "finite"), (np.inf, "finite")):
        changed = raw.copy()
        changed[0, 0] = bad
        np.savez(tmp_path / "a.npz", bscan=changed)
        with pytest.raises(ValueError, match=rf"a\.npz`: `bscan`: .*{rule}"):
            read_scan_file(tmp_path / "a.npz")
