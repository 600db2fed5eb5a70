import re

import numpy as np
import pytest
import torch

from pcsa.datasets.shapenet import ShapeNetPoints, check_hdf5, hdf5_files, is_hdf5

h5py = pytest.importorskip("h5py")


def _write(path, data, label=None, name="data"):
    with h5py.File(path, "w") as file:
        file[name] = data
        if label is not None:
            file["label"] = label
    return path


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    _write(tmp_path / "train0.h5", rng.random((5, 20, 3)), np.array([[1], [4], [4], [2], [4]]))
    _write(tmp_path / "train1.h5", rng.random((2, 30, 3), dtype=np.float32), np.array([4, 1]))
    _write(tmp_path / "val0.h5", rng.random((1, 20, 3)), np.array([[4]]))
    return tmp_path


def test_clouds_of_a_label(folder):
    dataset = ShapeNetPoints(folder, 4, "train")
    assert dataset.model_ids == ["train0-1", "train0-2", "train0-4", "train1-0"]
    assert len(dataset) == 4
    with h5py.File(folder / "train0.h5") as file:
        expected = file["data"][2].astype(np.float32)
    np.testing.assert_array_equal(dataset[1].pos.numpy(), expected)
    assert dataset[3].pos.shape == (30, 3)
    assert len(ShapeNetPoints(folder, None, "train")) == 7
    assert len(ShapeNetPoints(folder, 4, "all")) == 5
    # What a user does to an item stays with the user.
    dataset[0].pos.zero_()
    assert dataset[0].pos.abs().max() > 0


def test_files_of_a_split(folder, tmp_path):
    assert [p.name for p in hdf5_files(folder, "train")] == ["train0.h5", "train1.h5"]
    assert [p.name for p in hdf5_files(folder, "val")] == ["val0.h5"]
    assert hdf5_files(folder / "val0.h5", "val") == [folder / "val0.h5"]
    with pytest.raises(FileNotFoundError, match="split 'test'"):
        hdf5_files(folder, "test")
    with pytest.raises(FileNotFoundError, match="split 'train'"):
        hdf5_files(folder / "val0.h5", "train")
    by_folder = tmp_path / "by_folder"
    (by_folder / "Testing").mkdir(parents=True)
    _write(by_folder / "Testing" / "chairs.HDF5", np.zeros((1, 4, 3)))
    (by_folder / "Testing" / "._chairs.hdf5").write_text("")
    assert [p.name for p in hdf5_files(by_folder, "test")] == ["chairs.HDF5"]
    assert is_hdf5(by_folder)
    assert is_hdf5(folder / "train0.h5")
    assert not is_hdf5(folder / "nothing")


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("ply_data_train0.h5", "train"),  # ModelNet40, ShapeNetPart
        ("ply_data_val0.h5", "val"),
        ("ply_data_test1.h5", "test"),
        ("training_objectdataset_augmentedrot_scale75.h5", "train"),  # ScanObjectNN
        ("test_objectdataset.h5", "test"),
        ("MVP_Train_CP.h5", "train"),
        ("validation-2.h5", "val"),
        ("train.val.h5", None),
        ("latest0.h5", None),
        ("constraint.h5", None),
        ("evaluate0.h5", None),
        ("trainval0.h5", None),
        ("chairs.h5", None),
    ],
)
def test_the_split_is_a_whole_word_of_the_name(tmp_path, name, split):
    path = _write(tmp_path / name, np.random.default_rng(0).random((1, 4, 3)))
    for root in (tmp_path, path):
        assert hdf5_files(root, "all") == [path]
        for asked in ("train", "val", "test"):
            if asked == split:
                assert hdf5_files(root, asked) == [path]
            else:
                with pytest.raises((FileNotFoundError, ValueError), match=name):
                    hdf5_files(root, asked)


def test_one_unknown_file_stops_the_folder(folder):
    _write(folder / "extra.h5", np.zeros((1, 4, 3)))
    for split in ("train", "val", "test"):
        with pytest.raises(FileNotFoundError, match=r"no split: extra\.h5"):
            hdf5_files(folder, split)
    assert len(hdf5_files(folder, "all")) == 4
    problems = [str(problem) for problem in check_hdf5(folder)]
    assert any(line.startswith("extra.h5: its split is not known") for line in problems)


def test_lists_say_which_split(tmp_path, caplog):
    for name in ("part0.h5", "part1.h5", "part2.h5"):
        _write(tmp_path / name, np.random.default_rng(0).random((1, 4, 3)))
    (tmp_path / "train_files.txt").write_bytes(b"data/modelnet40/part0.h5\r\ndata/modelnet40/part1.h5\r\n")
    (tmp_path / "test_hdf5_file_list.txt").write_text("part2.h5\npart3.h5\n")
    (tmp_path / "shape_names.txt").write_text("airplane\n")
    (tmp_path / "train_names.txt").write_text("airplane\n")
    assert [p.name for p in hdf5_files(tmp_path, "train")] == ["part0.h5", "part1.h5"]
    assert [p.name for p in hdf5_files(tmp_path, "test")] == ["part2.h5"]
    assert hdf5_files(tmp_path / "part0.h5", "train") == [tmp_path / "part0.h5"]
    assert "test_hdf5_file_list.txt: 1 listed files are not there: part3.h5" in caplog.text
    assert [p.path for p in check_hdf5(tmp_path)] == ["test_hdf5_file_list.txt", *["part0.h5", "part1.h5", "part2.h5"]]
    # A name that contradicts its list.
    _write(tmp_path / "test0.h5", np.zeros((1, 4, 3)))
    (tmp_path / "train_files.txt").write_text("part0.h5\npart1.h5\ntest0.h5\n")
    with pytest.raises(ValueError, match=r"test0\.h5: .*several splits: test, train"):
        hdf5_files(tmp_path, "train")
    assert len(hdf5_files(tmp_path, "all")) == 4
    (tmp_path / "train_files.txt").write_text("part0.h5\npart1.h5\n", encoding="utf-16")
    assert [p.name for p in hdf5_files(tmp_path, "train")] == ["part0.h5", "part1.h5"]


@pytest.mark.parametrize(
    ("data", "label", "name", "message"),
    [
        (np.zeros((2, 4, 3)), [4, 4], "points", r"bad\.h5.*no dataset `data`, only label \[2\], points \[2, 4, 3\]"),
        (np.zeros((2, 4, 3)), None, "group/data", r"no dataset `data`, only group \[\], group/data \[2, 4, 3\]"),
        (np.zeros((2, 4, 3)), None, "data/inside", r"no dataset `data`, only"),
        (np.zeros((2, 4, 3)), None, "data", r"bad\.h5.*no dataset `label`"),
        (np.zeros((2, 4)), [4, 4], "data", r"bad\.h5`: `data` \[2, 4\].*\[n, N, 3\]"),
        (np.zeros((2, 0, 3)), [4, 4], "data", r"bad\.h5`: `data` \[2, 0, 3\]"),
        (np.zeros((2, 3, 9)), [4, 4], "data", r"bad\.h5`: `data` \[2, 3, 9\].*axes are exchanged"),
        (np.full((2, 4, 6), 0.3), [4, 4], "data", r"bad\.h5`: `data` \[2, 4, 6\] has six columns.*no normals"),
        (np.zeros((2, 4, 3)), [4], "data", r"bad\.h5`: `label` \[1\].*2 clouds"),
        (np.zeros((2, 4, 3)), [0.5, 4.0], "data", r"bad\.h5`: `label`.*whole numbers"),
        (np.zeros((2, 4, 3)), [np.nan, 4.0], "data", r"bad\.h5`: `label`.*whole numbers"),
        (np.zeros((2, 4, 3)), [b"chair", b"bed"], "data", r"bad\.h5`: `label`.*must be numbers"),
        (np.zeros((2, 4, 3)), [1, 2], "data", r"no cloud with `label` \(=4\), only \[1, 2\]"),
        (np.array([b"a"]), [4], "data", r"bad\.h5`: `data`.*must be numbers"),
        (np.array([np.zeros((4, 3)), np.full((4, 3), np.nan)]), [1, 4], "data", r"bad\.h5`: 1 clouds.*row 1"),
    ],
)
def test_bad_files_are_named(tmp_path, data, label, name, message):
    path = _write(tmp_path / "bad.h5", data, label, name)
    with pytest.raises(ValueError, match=message):
        ShapeNetPoints(path, 4, "all")
    if "no cloud with" not in message:
        assert re.search(message.partition("`: ")[2] or message.removeprefix(r"bad\.h5.*"), str(check_hdf5(path)[0]))


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32, ">i4"])
def test_labels_of_any_number_format(tmp_path, dtype):
    path = _write(tmp_path / "x.h5", np.random.default_rng(0).random((3, 4, 3)), np.array([[4], [1], [4]], dtype))
    assert ShapeNetPoints(path, np.int64(4), "all").model_ids == ["x-0", "x-2"]


def test_normals_are_left_out(tmp_path):
    rng = np.random.default_rng(0)
    points, normals = rng.random((2, 5, 3)), rng.normal(size=(2, 5, 3))
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    path = _write(tmp_path / "six.h5", np.concatenate([points, normals], -1), [4, 4])
    np.testing.assert_array_equal(ShapeNetPoints(path, 4, "all")[1].pos.numpy(), points[1].astype(np.float32))


@pytest.mark.parametrize("dtype", ["<f8", ">f8", "<f4", ">f4", "<i4", "<f2"])
def test_points_keep_their_shape_far_from_the_origin(tmp_path, dtype):
    near = np.random.default_rng(0).integers(0, 2000, (2, 50, 3)) * (1 if dtype == "<i4" else 2.0**-10)
    far = near + np.array([500_000, 4_600_000, 100]) * (dtype[1:] in ("f8", "i4"))
    path = _write(tmp_path / "far.h5", far.astype(dtype))
    dataset = ShapeNetPoints(path, None, "all")
    np.testing.assert_array_equal(dataset[1].pos.numpy(), far[1].astype(dtype))
    assert dataset[1].pos.dtype == (torch.float64 if dtype[1:] == "f8" else torch.float32)


def test_check_of_a_whole_folder(folder):
    assert check_hdf5(folder) == []
    assert check_hdf5(folder / "train0.h5") == []
    data = np.random.default_rng(0).random((3, 20, 3))
    data[1, 5:9] = 0
    _write(folder / "test0.h5", data, [1, 2, 3])
    (folder / "val1.h5").write_text("version https://git-lfs.github.com/spec/v1")
    problems = check_hdf5(folder)
    assert [p.path for p in problems] == ["test0.h5", "val1.h5"]
    assert "1 clouds have points that are copies of others, the most in row 1: 3 of 20" in problems[0].message
    assert "cannot be read as an HDF5 file" in problems[1].message
    assert [p.message for p in check_hdf5(folder / "nothing")] == ["no file of .h5, .hdf5"]


def test_no_file_and_no_hdf5(tmp_path):
    with pytest.raises(FileNotFoundError, match="none found"):
        ShapeNetPoints(tmp_path, 4)
    (tmp_path / "train.h5").write_text("no HDF5")
    with pytest.raises(ValueError, match=r"train\.h5`: cannot be read as an HDF5 file"):
        ShapeNetPoints(tmp_path, 4)
    with pytest.raises(ValueError, match=r"`split` \(='dev'\)"):
        ShapeNetPoints(tmp_path, 4, "dev")


def test_training_reads_them(folder, tmp_path):
    from pcsa.tasks import get_task
    from pcsa.tasks.common.config import OptimizerConfig, TrainerConfig
    from pcsa.tasks.unsupervised import SkeletonConfig, UnsupervisedConfig, UnsupervisedData, open_clouds

    config = UnsupervisedConfig(
        data=UnsupervisedData(root=folder, category="4"),
        model=SkeletonConfig(num_keypoints=3, out_channels=16),
        optimizer=OptimizerConfig(steps=2, batch_size=2),
        trainer=TrainerConfig(accelerator="cpu", progress=False, validate_every=1),
        out=tmp_path / "run",
    )
    assert torch.load(get_task("unsupervised").train(config), weights_only=True)["global_step"] == 2
    assert "val_loss" in (tmp_path / "run" / "log" / "version_0" / "metrics.csv").read_text()
    with pytest.raises(ValueError, match=r"`data.category` \(='chair'\) must be a label"):
        open_clouds(UnsupervisedData(root=folder, category="chair"), "train")
    assert len(open_clouds(UnsupervisedData(root=folder, category="all"), "train")) == 7
