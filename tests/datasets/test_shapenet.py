import numpy as np
import pytest

from pcsa.datasets.shapenet import ShapeNetPoints, hdf5_files, is_hdf5

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
    assert hdf5_files(folder / "val0.h5", "train") == [folder / "val0.h5"]
    with pytest.raises(FileNotFoundError, match="split 'test'"):
        hdf5_files(folder, "test")
    by_folder = tmp_path / "by_folder"
    (by_folder / "test").mkdir(parents=True)
    _write(by_folder / "test" / "chairs.hdf5", np.zeros((1, 4, 3)))
    assert [p.name for p in hdf5_files(by_folder, "test")] == ["chairs.hdf5"]
    assert is_hdf5(by_folder)
    assert is_hdf5(folder / "train0.h5")
    assert not is_hdf5(folder / "nothing")


@pytest.mark.parametrize(
    ("data", "label", "name", "message"),
    [
        (np.zeros((2, 4, 3)), [4, 4], "points", r"bad\.h5.*no `data`, only \['label', 'points'\]"),
        (np.zeros((2, 4, 3)), None, "data", r"bad\.h5.*no `label`"),
        (np.zeros((2, 4)), [4, 4], "data", r"bad\.h5`: `data` \[2, 4\].*\[n, N, 3\]"),
        (np.zeros((2, 0, 3)), [4, 4], "data", r"bad\.h5`: `data` \[2, 0, 3\]"),
        (np.zeros((2, 4, 3)), [4], "data", r"bad\.h5`: `label` \[1\].*2 clouds"),
        (np.zeros((2, 4, 3)), [0.5, 4.0], "data", r"bad\.h5`: `label`.*whole numbers"),
        (np.zeros((2, 4, 3)), [1, 2], "data", r"no cloud with `label` \(=4\), only \[1, 2\]"),
        (np.array([np.zeros((4, 3)), np.full((4, 3), np.nan)]), [1, 4], "data", r"bad\.h5`: 1 clouds.*row 1"),
        (np.full((1, 4, 3), 1e300), [4], "data", r"bad\.h5`: 1 clouds.*row 0"),
    ],
)
def test_bad_files_are_named(tmp_path, data, label, name, message):
    path = _write(tmp_path / "bad.h5", data, label, name)
    with pytest.raises(ValueError, match=message):
        ShapeNetPoints(path, 4)


def test_no_file_and_no_hdf5(tmp_path):
    with pytest.raises(FileNotFoundError, match="none found"):
        ShapeNetPoints(tmp_path, 4)
    (tmp_path / "text.h5").write_text("no HDF5")
    with pytest.raises(ValueError, match=r"text\.h5` cannot be read"):
        ShapeNetPoints(tmp_path, 4)
    with pytest.raises(ValueError, match=r"`split` \(='dev'\)"):
        ShapeNetPoints(tmp_path, 4, "dev")


def test_training_reads_them(folder, tmp_path):
    import torch

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
