from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from pcsa.datasets.oct import SURFACES, Mshc, OctScans, check_oct
from pcsa.datasets.vol import read_vol


def rows(width: int = 96, number: int = 3, height: int = 40) -> np.ndarray:
    """Surface k at 8 + 6 k, falling by a fiftieth of a pixel per column."""
    return 8 + 6.0 * np.arange(number)[:, None] + np.arange(width) / 50 + np.zeros((number, width))


def picture(width: int = 96, height: int = 40) -> np.ndarray:
    return np.random.default_rng(0).random((height, width)).astype(np.float32)


def save(root: Path, name: str = "a", **changes: Any) -> None:
    content = {"image": picture(), "boundaries": rows(), "scale_z_mm": 0.004, "scale_x_mm": [[0.014]]} | changes
    np.savez(root / f"{name}.npz", **{k: v for k, v in content.items() if v is not None})


def scans(root: Path, split: Any = "train", **arguments: Any) -> OctScans:
    return OctScans(root, split, **({"input_size": (40, 16)} | arguments))


def first_columns(dataset: OctScans) -> list[float]:
    return [round(float(dataset.source(i)["boundaries"][0, 0] - 8) * 50) for i in range(len(dataset))]


def test_one_scan_by_columns(tmp_path: Path) -> None:
    save(tmp_path)
    # 96 columns: 64, of which the last 16 are val, a gap of 8, and 24.
    for split, first, width, number in (("train", 0, 64, 4), ("val", 48, 16, 1), ("test", 72, 24, 2)):
        dataset = scans(tmp_path, split)
        source = dataset.source(0)
        assert source["image"].shape == (1, 40, width)
        np.testing.assert_array_equal(source["image"][0], picture()[:, first : first + width])
        np.testing.assert_allclose(source["boundaries"], rows()[:, first : first + width], rtol=1e-6)
        assert source["visible"].all()
        assert len(dataset) == number
    assert source["spacing"].tolist() == pytest.approx([0.004, 0.014])
    chosen = scans(tmp_path, "test", columns=(10, 42))
    np.testing.assert_allclose(chosen.source(0)["boundaries"], rows()[:, 10:42], rtol=1e-6)


def test_windows_meet_every_column_once(tmp_path: Path) -> None:
    save(tmp_path)
    for columns in ((0, 96), (0, 50), (3, 20), (5, 21), (0, 10)):
        dataset = scans(tmp_path, columns=columns)
        batch = default_collate([dataset[i] for i in range(len(dataset))])
        assert batch["image"].shape[1:] == (1, 40, 16)
        seen = [round(float(value - 8) * 50) for value in batch["boundaries"][:, 0][batch["visible"][:, 0]]]
        assert seen == list(range(*columns))
        assert batch["index"].tolist() == list(range(len(dataset)))
        assert (batch["boundaries"][~batch["visible"]] == 0).all()


def test_windows_show_what_the_scan_shows(tmp_path: Path) -> None:
    save(tmp_path)
    dataset = scans(tmp_path, columns=(0, 50))
    for i, start in enumerate((0, 16, 32, 34)):
        np.testing.assert_array_equal(dataset[i]["image"][0], picture()[:, start : start + 16])
    varied = [dataset.augmented(0, torch.Generator().manual_seed(seed)) for seed in range(20)]
    assert set(varied[0]) == set(dataset[0])
    assert len({round(float(sample["boundaries"][0, 0]), 3) for sample in varied}) > 10
    again = dataset.augmented(0, torch.Generator().manual_seed(3))
    assert torch.equal(again["image"], varied[3]["image"])
    assert all(sample["image"].min() >= 0 and sample["image"].max() <= 1 for sample in varied)


def test_several_scans(tmp_path: Path) -> None:
    for i in range(10):
        save(tmp_path, f"scan{i}", boundaries=rows() + i / 50)
    whole = {"input_size": (40, 96)}
    assert first_columns(scans(tmp_path, "train", **whole)) == list(range(7))
    assert first_columns(scans(tmp_path, "val", **whole)) == [7]
    assert first_columns(scans(tmp_path, "test", **whole)) == [8, 9]
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits" / "val.txt").write_text("scan5\nscan2.npz\n")
    assert first_columns(scans(tmp_path, "val", **whole)) == [5, 2]
    with pytest.raises(FileNotFoundError, match=r"splits/train\.txt"):
        scans(tmp_path, "train")
    (tmp_path / "splits" / "val.txt").write_text("scan11")
    with pytest.raises(FileNotFoundError, match=r"scan11\.npz"):
        scans(tmp_path, "val")
    # Columns are those of every scan.
    assert first_columns(scans(tmp_path, columns=(0, 16)))[:3] == [0, 1, 2]


def test_two_scans(tmp_path: Path) -> None:
    save(tmp_path, "a")
    save(tmp_path, "b", boundaries=rows() + 0.02)
    whole = {"input_size": (40, 96)}
    found = [first_columns(scans(tmp_path, split, **whole)) for split in ("train", "val", "test")]
    assert found == [[0], [0], [1]]


def test_names_of_the_arrays(tmp_path: Path) -> None:
    # `bscan` is raw, and `boundaries_manual` counts from 1; both come first.
    manual = rows(number=9) / 2
    save(tmp_path, bscan=picture() ** 4, boundaries_manual=manual, scale_z_mm=None, scale_x_mm=None)
    dataset = scans(tmp_path, columns=(0, 96))
    source = dataset.source(0)
    np.testing.assert_allclose(source["image"][0], picture(), atol=1e-6)
    np.testing.assert_allclose(source["boundaries"], manual - 1, rtol=1e-6)
    assert source["spacing"].tolist() == [1, 1]
    assert dataset.names == SURFACES
    assert dataset.num_keypoints == 9
    kept = scans(tmp_path, columns=(0, 96), one_based=False).source(0)
    np.testing.assert_allclose(kept["boundaries"], manual, rtol=1e-6)
    save(tmp_path)
    assert scans(tmp_path).names == ("surface 1", "surface 2", "surface 3")
    moved = scans(tmp_path, columns=(0, 96), one_based=True).source(0)
    np.testing.assert_allclose(moved["boundaries"], rows() - 1, rtol=1e-6)


def test_labels_that_are_not_or_cannot_be(tmp_path: Path) -> None:
    labels = rows()
    labels[1, :5] = np.nan
    labels[0, 10] = labels[1, 10] + 1  # the first below the second: both in doubt, the third is not
    labels[0, 20] = labels[2, 20] + 1  # the first below both others
    labels[2, 30] = 40
    labels[0, 31] = -1
    save(tmp_path, boundaries=labels)
    dataset = scans(tmp_path, columns=(0, 96))
    visible = dataset.source(0)["visible"]
    expected = torch.ones(3, 96, dtype=torch.bool)
    expected[1, :5] = False
    expected[:2, 10] = False
    expected[:, 20] = False
    expected[2, 30] = expected[0, 31] = False
    assert torch.equal(visible, expected)
    assert (dataset.source(0)["boundaries"][~visible] == 0).all()
    assert dataset.skipped == {"labels out of order": 5, "labels outside of the scan": 2}
    # Touching surfaces are in order.
    save(tmp_path, boundaries=np.full((3, 96), 7.0))
    assert scans(tmp_path).skipped == {}


def test_scans_without_labels(tmp_path: Path) -> None:
    save(tmp_path, "a")
    save(tmp_path, "b", boundaries=np.full((3, 96), np.nan))
    dataset = scans(tmp_path, columns=(0, 96))
    assert len(dataset) == 6
    assert dataset.skipped == {"scans without labels": 1}


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"image": None}, "image"),
        ({"boundaries": None}, "boundaries"),
        ({"image": picture()[None]}, r"image.*\[1, 40, 96\]"),
        ({"image": np.zeros((40, 96), dtype=np.int16)}, r"`image`: values \(int16, from 0 to 0\) must come with"),
        ({"image": picture() * 255}, r"`image`: values \(float32, from .* must be from 0 to 1"),
        ({"image": np.where(picture() < 0.5, np.nan, picture())}, "`image`: .*must be finite"),
        ({"bscan": picture() * 255}, r"`bscan`: values \(float32, from .* must be from 0 to 1"),
        ({"boundaries": rows(90)}, r"`boundaries` \(float64 \[3, 90\]\) must be numbers \[K, 96\]"),
        ({"boundaries": rows() * 4}, r"must be rows of the scan, from 0 to 39: 128 of 192 lie outside"),
        ({"boundaries": rows()[::-1]}, "the upper ones first: 192 of 192 are out of order"),
        ({"boundaries": rows() / 40}, r"surfaces \(from 0.2 to .*must be in pixels"),
        ({"scale_z_mm": 3.9}, r"`scale_z_mm` \(=3.9\) must be from 0.0001 to 0.5 millimeters per pixel"),
        ({"scale_x_mm": -1}, "`scale_x_mm`"),
        ({"scale_x_mm": []}, r"`scale_x_mm` \(float64 \[0\]\) must be one number"),
        ({"scale_x_mm": "a"}, "`scale_x_mm`.*must be one number"),
        ({"boundaries": np.full((3, 96), "x")}, "boundaries"),
    ],
)
def test_bad_arrays(tmp_path: Path, changes: dict, match: str) -> None:
    save(tmp_path, **changes)
    with pytest.raises(ValueError, match=rf"a\.npz.*{match}"):
        scans(tmp_path)


def test_pictures_as_integers(tmp_path: Path) -> None:
    for values, value_range in (
        ((255 * picture()).astype(np.uint8), None),
        ((65535 * picture()).astype(np.uint16), None),
        ((4095 * picture()).astype(np.uint16), (0, 4095)),
        (255 * picture(), (0, 255)),
    ):
        save(tmp_path, image=values)
        source = scans(tmp_path, columns=(0, 96), value_range=value_range).source(0)
        np.testing.assert_allclose(source["image"][0], picture(), atol=0.004)
        assert check_oct(tmp_path, value_range=value_range) == []


def test_lists_of_scans(tmp_path: Path) -> None:
    for name in ("a 1", "a 2", "b.c", "d"):
        save(tmp_path, name)
    (tmp_path / "._d.npz").write_text("what a file system leaves behind")
    (tmp_path / "splits").mkdir()
    lists = tmp_path / "splits"
    (lists / "train.txt").write_bytes("\ufeffa 1\r\n\r\na 2.npz\r\n".encode())
    (lists / "val.txt").write_text("b.c\n")
    (lists / "test.txt").write_text("d\n")
    whole = {"input_size": (40, 96)}
    assert [len(scans(tmp_path, split, **whole)) for split in ("train", "val", "test")] == [2, 1, 1]
    assert check_oct(tmp_path) == []
    (lists / "test.txt").write_text("d\na 2\n")
    for split in ("train", "test"):
        with pytest.raises(ValueError, match=r"test\.txt`: must have no scan of train\.txt: it has a 2\.npz"):
            scans(tmp_path, split, **whole)
    (lists / "test.txt").write_text("d\n")
    (lists / "val.txt").write_text("b.c\nb.c.npz\n")
    with pytest.raises(ValueError, match=r"val\.txt`: line 2: `b\.c\.npz` must be named once: line 1 has it too"):
        scans(tmp_path, "val", **whole)
    (lists / "train.txt").write_text("a\n")
    with pytest.raises(FileNotFoundError, match=r"train\.txt`: line 1: `.*a\.npz` is missing"):
        scans(tmp_path, "train", **whole)
    found = [(Path(p.path).name, p.message) for p in check_oct(tmp_path)]
    assert sorted({name for name, _ in found}) == ["train.txt", "val.txt"]


def test_check_lists_every_fault(tmp_path: Path) -> None:
    save(tmp_path, "a")
    save(tmp_path, "b", image=picture() * 255)
    labels = rows()
    labels[2, :7] = 60
    save(tmp_path, "c", boundaries=labels)
    save(tmp_path, "d", boundaries=rows(number=4))
    (tmp_path / "e.npz").write_text("nonsense")
    save(tmp_path, "f", boundaries=np.full((3, 96), np.nan))
    found = {Path(p.path).name: p.message for p in check_oct(tmp_path)}
    assert set(found) == {"b.npz", "c.npz", "e.npz", "f.npz", tmp_path.name}
    assert "must be from 0 to 1" in found["b.npz"]
    assert found["c.npz"] == "7 labels are outside of the scan, and are left out"
    assert "has no surface that is labeled" in found["f.npz"]
    assert found[tmp_path.name] == "scans must have equally many surfaces: a.npz 3, d.npz 4"
    assert "has no scans" in check_oct(tmp_path / "splits")[0].message or "missing" in str(check_oct(tmp_path / "x")[0])


def test_bad_arguments(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="has no scans"):
        scans(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        scans(tmp_path / "nowhere")
    save(tmp_path)
    for columns in ((5, 5), (-1, 4), (0, 97), (1,)):
        with pytest.raises(ValueError, match=r"`columns`.*a\.npz"):
            scans(tmp_path, columns=columns)
    with pytest.raises(ValueError, match="`input_size`"):
        scans(tmp_path, input_size=(40, 0))
    with pytest.raises(ValueError, match="`split`"):
        scans(tmp_path, "all")
    with pytest.raises(IndexError, match="`index`"):
        scans(tmp_path)[4]
    save(tmp_path, "b", boundaries=rows(number=4))
    with pytest.raises(ValueError, match=r"b\.npz`: surfaces \(=4\) must be as many as before it: 3"):
        scans(tmp_path, columns=(0, 9))
    (tmp_path / "b.npz").write_text("nonsense")
    with pytest.raises(ValueError, match=r"b\.npz.*cannot be read"):
        scans(tmp_path, columns=(0, 9))


# Heidelberg volumes with delineations

WIDTH, NUM_SCANS, HEIGHT = 48, 3, 64


def write_vol(path: Path, seed: int = 0) -> np.ndarray:
    """Write a volume byte by byte, at the offsets that the format's descriptions give; return its intensities."""
    raw = np.random.default_rng(seed).random((NUM_SCANS, HEIGHT, WIDTH)).astype("<f4")
    header = bytearray(2048)
    header[0:12] = b"HSF-OCT-103\0"
    struct.pack_into("<III", header, 12, WIDTH, NUM_SCANS, HEIGHT)
    struct.pack_into("<ddd", header, 24, 0.0058, 0.12, 0.0039)
    struct.pack_into("<II", header, 48, 10, 7)
    struct.pack_into("<I", header, 100, 256)
    content = bytes(header) + bytes(10 * 7)
    for scan in raw:
        content += b"HSF-BS-103\0\0" + bytes(244) + scan.tobytes()
    path.write_bytes(content)
    return raw


def surfaces() -> np.ndarray:
    """`[scans, 9, columns]`, counted from 0: straight lines."""
    return (5 + 5 * np.arange(9)[None, :, None] + np.arange(NUM_SCANS)[:, None, None] + np.arange(WIDTH) / 16.0).astype(
        np.float64
    )


def control_points() -> np.ndarray:
    cells = np.empty((NUM_SCANS, 11), dtype=object)
    used = [k for k in range(11) if k not in (2, 10)]
    for i in range(NUM_SCANS):
        for k in range(11):
            cells[i, k] = np.zeros((0, 0))
        for surface, k in enumerate(used):
            x = np.array([40, 4, 20, 30])  # in no order
            cells[i, k] = np.stack([x + 1, surfaces()[i, surface, x] + 1], 1)
    return cells


@pytest.fixture
def mshc(tmp_path: Path) -> Path:
    from scipy.io import savemat

    (tmp_path / "vol").mkdir()
    (tmp_path / "delineation").mkdir()
    for name in [f"hc{i:02d}" for i in range(1, 11)] + [f"ms{i:02d}" for i in range(1, 15)]:
        write_vol(tmp_path / "vol" / f"{name}_s1_R.vol", int(name[2:]))
        dense = {"bd_pts": surfaces().transpose(2, 0, 1) + 1}
        sparse = {"control_pts": control_points(), "segmode": 1}
        savemat(tmp_path / "delineation" / f"{name}_s1_R.mat", dense if name == "hc09" else sparse)
    return tmp_path


def test_volumes(mshc: Path) -> None:
    raw = write_vol(mshc / "vol" / "hc09_s1_R.vol", 5)
    for number in range(NUM_SCANS):
        np.testing.assert_allclose(read_vol(mshc / "vol" / "hc09_s1_R.vol", number) ** 4, raw[number], atol=1e-6)
    path = mshc / "vol" / "hc10_s1_R.vol"
    content = bytearray(path.read_bytes())
    content[-4:] = struct.pack("<f", np.finfo(np.float32).max)
    path.write_bytes(content)
    assert read_vol(path, 2)[-1, -1] == 0
    with pytest.raises(ValueError, match=r"`number` \(=3\)"):
        read_vol(path, 3)
    path.write_bytes(content[:-1])
    with pytest.raises(ValueError, match=r"hc10_s1_R\.vol.*bytes and needs"):
        read_vol(path, 0)
    path.write_bytes(b"nonsense" * 1000)
    with pytest.raises(ValueError, match=r"hc10_s1_R\.vol`: must begin with HSF-OCT-"):
        read_vol(path, 0)
    with pytest.raises(FileNotFoundError, match=r"none\.vol"):
        read_vol(mshc / "none.vol", 0)


def test_mshc(mshc: Path) -> None:
    counts = {split: len(Mshc(mshc, split, input_size=(64, 48))) for split in ("train", "val", "test")}  # type: ignore[arg-type]
    assert counts == {"train": 4 * NUM_SCANS, "val": 2 * NUM_SCANS, "test": 20 * NUM_SCANS}
    dataset = Mshc(mshc, "train", input_size=(64, 24))
    assert dataset.names == SURFACES
    assert len(dataset) == 24
    dense, sparse = dataset.source(0), dataset.source(8)
    np.testing.assert_allclose(dense["boundaries"], surfaces()[0], rtol=1e-6)
    assert dense["visible"].all()
    assert dense["spacing"].tolist() == pytest.approx([0.0039, 0.0058])
    # Between the control points only, and there on the line.
    expected = torch.zeros(9, WIDTH, dtype=torch.bool)
    expected[:, 4:41] = True
    assert torch.equal(sparse["visible"], expected)
    np.testing.assert_allclose(sparse["boundaries"][:, 4:41], surfaces()[1, :, 4:41], atol=1e-5)
    np.testing.assert_array_equal(sparse["image"][0], read_vol(mshc / "vol" / "hc10_s1_R.vol", 1))
    assert default_collate([dataset[0], dataset[9]])["image"].shape == (2, 1, 64, 24)


def test_bad_delineations(mshc: Path) -> None:
    from scipy.io import savemat

    path = mshc / "delineation" / "ms14_s1_R.mat"
    for content, match in (
        ({"bd_pts": np.zeros((WIDTH, NUM_SCANS, 8))}, r"`bd_pts` \(float64 \[48, 3, 8\]\) must be numbers"),
        ({"control_pts": control_points()[:2]}, r"`control_pts` \(object \[2, 11\]\) must be cells \[3, 11\]"),
        ({"control_pts": control_points()[:, :8]}, r"`control_pts` \(with 7 surfaces\) must have 9"),
        ({"control_pts": np.zeros((NUM_SCANS, 11))}, "must be cells"),
        ({"other": np.zeros(3)}, "must hold bd_pts or control_pts: it has other"),
    ):
        savemat(path, content)
        with pytest.raises(ValueError, match=rf"ms14_s1_R\.mat.*{match}"):
            Mshc(mshc, "train")
    path.write_bytes(b"nonsense" * 100)
    with pytest.raises(ValueError, match=r"ms14_s1_R\.mat.*MATLAB"):
        Mshc(mshc, "train")
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"ms14_s1_R\.mat"):
        Mshc(mshc, "train")
    for file in (mshc / "vol").iterdir():
        file.unlink()
    with pytest.raises(FileNotFoundError, match="no volumes"):
        Mshc(mshc, "train")


def test_delineations_of_matlab_7_3(mshc: Path, save_73: Any) -> None:
    before = [Mshc(mshc, "train", input_size=(64, 48)).source(i) for i in range(12)]
    for name in ("hc09", "hc10"):
        dense = {"bd_pts": surfaces().transpose(2, 0, 1) + 1}
        save_73(
            mshc / "delineation" / f"{name}_s1_R.mat", dense if name == "hc09" else {"control_pts": control_points()}
        )
    after = Mshc(mshc, "train", input_size=(64, 48))
    for i, source in enumerate(before):
        for name in ("boundaries", "visible"):
            assert torch.equal(after.source(i)[name], source[name])
    assert check_oct(mshc) == []


def test_missing_volumes_change_no_split(mshc: Path) -> None:
    for name in ("hc03_s1_R.vol", "ms01_s1_R.vol"):
        (mshc / "vol" / name).unlink()
    (mshc / "vol" / "._hc04_s1_R.vol").write_text("what a file system leaves behind")
    write_vol(mshc / "vol" / "other.vol")
    datasets = {split: Mshc(mshc, split, input_size=(64, 48)) for split in ("train", "val", "test")}  # type: ignore[arg-type]
    counts = {split: len(dataset) // NUM_SCANS for split, dataset in datasets.items()}
    assert counts == {"train": 4, "val": 2, "test": 18}
    assert datasets["train"].skipped["files that are neither hc… nor ms…"] == 1


def test_volumes_whose_header_lies(mshc: Path) -> None:
    path = mshc / "vol" / "hc09_s1_R.vol"
    content = bytearray(path.read_bytes())
    struct.pack_into("<II", content, 48, 10, 6)  # a smaller fundus: every scan would begin ten bytes too early
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match=r"hc09_s1_R\.vol`: B-scan 2 must begin with HSF-BS- where the header's sizes put it"
    ):
        Mshc(mshc, "train")
    assert [Path(p.path).name for p in check_oct(mshc)] == ["hc09_s1_R.vol"]
    write_vol(path)
    for value, rule in ((1.5, "must be from 0 to 1"), (float("nan"), "must be finite")):
        content = bytearray(path.read_bytes())
        content[-4:] = struct.pack("<f", value)
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"hc09_s1_R\.vol`: B-scan 2: .*{rule}"):
            read_vol(path, 2)
        assert read_vol(path, 1).max() <= 1


def test_check_lists_every_fault_of_volumes(mshc: Path) -> None:
    from scipy.io import savemat

    assert check_oct(mshc) == []
    (mshc / "vol" / "hc01_s1_R.vol").write_bytes(b"nonsense")
    savemat(mshc / "delineation" / "hc02_s1_R.mat", {"other": np.zeros(3)})
    (mshc / "delineation" / "ms01_s1_R.mat").unlink()
    cells = control_points()
    cells[0, 0] = cells[0, 0] * [10, 1]
    savemat(mshc / "delineation" / "ms02_s1_R.mat", {"control_pts": cells})
    found = {Path(p.path).name: p.message for p in check_oct(mshc)}
    assert set(found) == {"hc01_s1_R.vol", "hc02_s1_R.mat", "ms01_s1_R.mat", "ms02_s1_R.mat"}
    assert "scan 1, surface 1: points (columns 50 to 410) must lie in the 48 columns" in found["ms02_s1_R.mat"]


# The real data


@pytest.fixture(scope="module")
def real(real_data: Path) -> Path:
    return real_data / "oct"


def test_real_columns(real: Path) -> None:
    train, test = OctScans(real, "train", columns=(0, 512)), OctScans(real, "test", columns=(576, 768))
    assert (len(train), len(test)) == (8, 3)
    assert check_oct(real) == []
    assert train.skipped == test.skipped == {}
    assert train.names == SURFACES
    assert all(dataset[i]["visible"].all() for dataset in (train, test) for i in range(len(dataset)))
    assert train.source(0)["spacing"].tolist() == pytest.approx([0.0038717, 0.0142414], rel=1e-4)
    # Without `columns`, the same.
    assert torch.equal(OctScans(real, "train").source(0)["image"], train.source(0)["image"])
    assert torch.equal(OctScans(real, "test").source(0)["boundaries"], test.source(0)["boundaries"])


def test_real_labels_count_from_one(real: Path) -> None:
    # The steepest rise of the light at the ILM, to a fraction of a pixel by a parabola.
    from scipy.ndimage import gaussian_filter

    source = OctScans(real, "train", columns=(0, 768)).source(0)
    slope = np.gradient(gaussian_filter(source["image"][0].numpy().astype(np.float64), (1.5, 4)), axis=0)
    gaps = []
    for column, row in enumerate(source["boundaries"][0].tolist()):
        near = np.arange(int(row) - 6, int(row) + 8)
        peak = int(near[slope[near, column].argmax()])
        before, at, after = slope[peak - 1 : peak + 2, column]
        gaps.append(peak + 0.5 * (before - after) / (before - 2 * at + after) - row)
    assert abs(float(np.median(gaps))) < 0.3
    # Going down, the light falls at four of the nine and rises at four; at IS-OS it does neither much.
    at_labels = [
        float(np.mean(slope[source["boundaries"][k].round().long().numpy(), np.arange(768)])) for k in range(9)
    ]
    falls = {SURFACES[k] for k in range(9) if at_labels[k] < -0.01}
    rises = {SURFACES[k] for k in range(9) if at_labels[k] > 0.002}
    assert falls == {"RNFL-GCL", "IPL-INL", "OPL-ONL", "BM"}
    assert rises == {"ILM", "INL-OPL", "ELM", "OS-RPE"}
