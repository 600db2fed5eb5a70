"""One list for all that is wrong, whatever the layout; what each layout can have wrong is tested beside its reader."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import h5py
import numpy as np
import pytest
from PIL import Image

from pcsa.datasets.check import LAYOUTS, Layout, check_data, layout_of
from pcsa.datasets.coco import NAMES
from pcsa.datasets.custom import write_labeled
from pcsa.datasets.pcd import write_pcd

POINTS = np.random.default_rng(0).random((40, 3))


def pcd(fields: str, body: bytes, *, count: int, kind: str = "binary", size: str = "4 4 4") -> bytes:
    header = f"VERSION 0.7\nFIELDS {fields}\nSIZE {size}\nTYPE F F F\nCOUNT 1 1 1\nWIDTH {count}\nHEIGHT 1\n"
    return f"{header}VIEWPOINT 0 0 0 1 0 0 0\nPOINTS {count}\nDATA {kind}\n".encode() + body


def clouds(root: Path) -> dict[str, str]:
    """Write a good cloud and many bad ones, and return what must be said of each of these."""
    write_pcd(root / "good.pcd", POINTS)
    zeros = np.vstack([POINTS, np.zeros((4, 3))])
    write_pcd(root / "zeros.pcd", zeros)
    np.save(root / "transposed.npy", POINTS.T)
    np.save(root / "labeled.npy", np.hstack([np.ones((40, 1)), POINTS]))
    np.save(root / "nan.npy", np.vstack([POINTS, [[np.nan, 0, 1]]]))
    (root / "short.pcd").write_bytes(pcd("x y z", bytes(24), count=3))
    lines = "".join(f"{x} {y} {z}\n" for x, y, z in POINTS[:3])
    header = (
        "ply\nformat ascii 1.0\nelement vertex 5\nproperty float x\nproperty float y\nproperty float z\nend_header\n"
    )
    (root / "short.ply").write_text(header + lines)
    (root / "short.off").write_text("OFF\n5 1 0\n" + lines + "3 0 1 2\n")
    (root / "short.pts").write_text("5\n" + lines)
    (root / "unnamed.txt").write_text("1,2,3,0,0,1\n2,3,4,0,1,0\n")
    (root / "commas.csv").write_text("1,5;2,5;3,5\n")
    (root / "beyond.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 4\n")
    (root / "cut.stl").write_bytes(bytes(80) + struct.pack("<I", 9) + bytes(50))
    (root / "sub").mkdir()
    (root / "sub/text.pcd").write_text("not a cloud\n")
    (root / "._good.pcd").write_text("what a Mac leaves behind\n")
    return {
        "zeros.pcd": "3 of 44 points repeat another one exactly, 4 lie at (0, 0, 0)",
        "transposed.npy": "[3, 40]",
        "labeled.npy": "[40, 4]",
        "nan.npy": "1 points are not finite",
        "short.pcd": "24 bytes",
        "short.ply": "5",
        "short.off": "5",
        "short.pts": "declares 5 points and holds 3",
        "unnamed.txt": "`columns`",
        "commas.csv": "decimal commas",
        "beyond.obj": "4",
        "cut.stl": "9",
        "sub/text.pcd": "PCD",
    }


def test_all_faults_of_a_folder_of_clouds_in_one_list(tmp_path: Path) -> None:
    expected = clouds(tmp_path)
    problems = check_data(tmp_path)
    assert sorted(problem.path for problem in problems) == sorted(expected)
    for problem in problems:
        assert expected[problem.path] in problem.message, problem
        assert str(tmp_path) not in problem.message


def keypointnet(root: Path) -> None:
    write_labeled(root, "fish", [(POINTS + i, POINTS[:2] + i, ["nose", "tail"]) for i in range(4)])


def coco(root: Path) -> None:
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(root / "a.png")
    person = {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": 50.0, "bbox": [1, 1, 10, 10]}
    person |= {"keypoints": [5, 5, 2] * 17, "num_keypoints": 17}
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 30, "height": 20}],
        "annotations": [person],
        "categories": [{"id": 1, "name": "person", "keypoints": list(NAMES), "skeleton": []}],
    }
    (root / "truth.json").write_text(json.dumps(content))


def hdf5(root: Path) -> None:
    for name in ("ply_data_train0.h5", "ply_data_test0.h5"):
        with h5py.File(root / name, "w") as file:
            file["data"] = np.random.default_rng(1).random((3, 20, 3), np.float32)
            file["label"] = np.zeros((3, 1), np.uint8)


def oct_scans(root: Path) -> None:
    rows = np.array([[4.0], [8.0]]) * np.ones((1, 30))
    np.savez(root / "scan.npz", bscan=np.full((20, 30), 0.5, np.float32), boundaries=rows)


def one_cloud(root: Path) -> None:
    np.save(root / "a.npy", POINTS)


@pytest.mark.parametrize(
    ("layout", "make"),
    [("keypointnet", keypointnet), ("coco", coco), ("hdf5", hdf5), ("oct", oct_scans), ("clouds", one_cloud)],
)
def test_what_the_files_look_like(tmp_path: Path, layout: Layout, make: Callable[[Path], None]) -> None:
    make(tmp_path)
    assert layout_of(tmp_path) == layout
    assert check_data(tmp_path) == []


@pytest.mark.parametrize(
    ("make", "spoil", "fault"),
    [
        (keypointnet, lambda root: (root / "splits/val.txt").write_text("fish-none\n"), "in no split"),
        (coco, lambda root: Image.new("RGB", (20, 30)).save(root / "a.png"), "20"),
        (hdf5, lambda root: (root / "ply_data_test0.h5").rename(root / "more.h5"), "split is not known"),
        (oct_scans, lambda root: np.savez(root / "scan.npz", bscan=np.full((20, 30), 99.0), boundaries=[[4.0]]), "99"),
    ],
)
def test_faults_of_other_layouts(
    tmp_path: Path, make: Callable[[Path], None], spoil: Callable[[Path], object], fault: str
) -> None:
    make(tmp_path)
    spoil(tmp_path)
    assert fault in "\n".join(map(str, check_data(tmp_path)))


def test_layouts_are_named_once() -> None:
    assert tuple(LAYOUTS) == get_args(Layout)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": "voc"}, "`layout` \\(='voc'\\) must be one of"),
        ({"images": "pictures"}, "`images` \\(='pictures'\\) is for the layout 'coco', not 'hdf5'"),
        ({"columns": "x y z"}, "`columns` \\(='x y z'\\) is for the layout 'clouds', not 'hdf5'"),
        ({"one_based": True}, "`one_based` \\(=True\\) is for the layout 'lsp' or 'mtfl' or 'oct', not 'hdf5'"),
        ({"value_range": (0, 255)}, "`value_range` \\(=\\(0, 255\\)\\) is for the layout 'coco' or .* not 'hdf5'"),
    ],
)
def test_bad_input(tmp_path: Path, options: dict[str, str], message: str) -> None:
    hdf5(tmp_path)
    with pytest.raises(ValueError, match=message):
        check_data(tmp_path, **options)  # type: ignore[arg-type]


def test_nothing_known(tmp_path: Path) -> None:
    (tmp_path / "readme.md").write_text("nothing")
    with pytest.raises(ValueError, match="no known layout"):
        check_data(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        check_data(tmp_path / "nowhere")


def test_clouds_of_many_formats(tmp_path: Path) -> None:
    # One HDF5 file among other clouds is no dataset of splits, and columns are those of formats without names.
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["xyz"] = POINTS
    assert layout_of(tmp_path) == layout_of(tmp_path / "scan.h5") == "clouds"
    hdf5(tmp_path)
    (tmp_path / "train_files.txt").write_text("ply_data_train0.h5\n")
    (tmp_path / "._scan.ply").write_bytes(b"")
    assert layout_of(tmp_path) == "hdf5"
    write_pcd(tmp_path / "scan.pcd", POINTS)
    assert layout_of(tmp_path) == "clouds"


def test_columns_are_for_formats_without_names(tmp_path: Path) -> None:
    write_pcd(tmp_path / "scan.pcd", POINTS)
    np.savetxt(tmp_path / "scan.txt", np.hstack([POINTS, POINTS]))
    np.savetxt(tmp_path / "three.txt", POINTS)
    problems = check_data(tmp_path, columns="x y z nx ny nz")
    assert [problem.path for problem in problems] == ["three.txt"]
    assert "names 6 columns, the file has 3" in problems[0].message


def test_ranges_and_first_numbers_reach_the_check(tmp_path: Path) -> None:
    boundaries = np.full((1, 8), 3.0)
    np.savez(tmp_path / "scan.npz", bscan=np.full((16, 8), 200.0), boundaries=boundaries)
    assert "value_range" in str(check_data(tmp_path))
    assert check_data(tmp_path, value_range=(0, 255), one_based=False) == []
    np.savez(tmp_path / "scan.npz", bscan=np.full((16, 8), 200.0), boundaries=0 * boundaries)
    assert "1" in str(check_data(tmp_path, value_range=(0, 255), one_based=True))


def test_pictures_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    landmarks = " 22 42 32 24 40 18 18 30 44 44 1 1 1 1\n"
    names = ["good.jpg", "deep.png", "cut.jpg", "cut.png"]
    (tmp_path / "training.txt").write_text("".join(name + landmarks for name in names))
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for name in ("good.jpg", "cut.jpg", "cut.png"):
        Image.fromarray(noise).save(tmp_path / name)
        if name.startswith("cut"):
            (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:1500])
    Image.fromarray(noise[:, :, 0].astype(np.uint16) * 16).save(tmp_path / "deep.png")
    problems = {Path(problem.path).name: problem.message for problem in check_data(tmp_path)}
    assert problems.keys() == {"deep.png", "cut.jpg", "cut.png"}
    assert "`value_range`" in problems["deep.png"]
    (tmp_path / "training.txt").write_text("deep.png" + landmarks)
    assert check_data(tmp_path, value_range=(0, 4095)) == []
