from pathlib import Path

import h5py
import numpy as np
import pytest

from pcsa.datasets.array_clouds import read_array_cloud

CLOUD = np.random.default_rng(0).normal(size=(50, 3))


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4", ">f8", "<i2", ">i4", "<u1"])
def test_arrays_of_every_number(tmp_path: Path, dtype: str) -> None:
    cloud = (CLOUD * 10).clip(0, 100).astype(dtype)
    np.save(tmp_path / "a.npy", cloud)
    np.save(tmp_path / "f.npy", np.asfortranarray(cloud))
    np.savez_compressed(tmp_path / "a.npz", others=np.zeros((5, 4)), points=cloud)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["scan/points"] = cloud
        file["scan/normal"] = cloud
        file["label"] = file["scan/label"] = 3
        file["name"] = "a bed"
    for name in ("a.npy", "f.npy", "a.npz", "a.h5"):
        read = read_array_cloud(tmp_path / name).points
        assert read.dtype == np.float64
        np.testing.assert_array_equal(read, cloud.astype(np.float64))


@pytest.mark.parametrize(
    ("array", "rule"),
    [
        (CLOUD.T, r"float64 \[3, 50\]: three rows may be x, y and z. Transpose it"),
        (np.eye(3), r"\[3, 3\]: three rows may be x, y and z"),
        (np.zeros((3, 6)), r"\[3, 6\]: three rows"),
        (np.zeros((6, 2048)), r"\[6, 2048\]: .* transpose it"),
        (np.zeros((50, 4)), r"4 columns without names.*columns='x y z nx'"),
        (np.zeros((50, 2)), r"\[50, 2\], must be numbers \[N, 3\]"),
        (np.zeros((2, 50, 3)), r"\[2, 50, 3\]: several clouds\?"),
        (np.zeros(3), r"\[3\], must be numbers \[N, 3\]"),
        (np.array(3.0), r"float64 \[\]"),
        (np.zeros((0, 3)), r"\[0, 3\], must be numbers \[N, 3\] with N at least 1"),
        (np.zeros((50, 3), complex), "complex128"),
        (np.zeros((50, 3), bool), "bool"),
        (np.array([["a", "b", "c"]]), "<U1"),
        (np.array([[1.0, np.nan, 0.0]] * 5), "5 points are not finite, of 5"),
    ],
)
def test_shapes_that_say_nothing(tmp_path: Path, array: np.ndarray, rule: str) -> None:
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "a.npz", pos=array)
    names = ["a.npy", "a.npz"]
    if array.dtype.kind != "U":
        names.append("a.hdf5")
        with h5py.File(tmp_path / "a.hdf5", "w") as file:
            file["data"] = array
    for name in names:
        with pytest.raises(ValueError, match=rf"{name}`: .*{rule}"):
            read_array_cloud(tmp_path / name)


def test_columns_by_name(tmp_path: Path) -> None:
    labels = np.arange(50)[:, None]
    np.save(tmp_path / "a.npy", np.concatenate([labels, CLOUD], axis=1))
    np.testing.assert_array_equal(read_array_cloud(tmp_path / "a.npy", "label x y z").points, CLOUD)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["data"] = np.concatenate([CLOUD, CLOUD], axis=1)
    np.testing.assert_array_equal(read_array_cloud(tmp_path / "a.h5", "x y z nx ny nz").points, CLOUD)
    with pytest.raises(ValueError, match=r"`columns` \(='x y z'\) names 3 columns, the array has 6"):
        read_array_cloud(tmp_path / "a.h5", "x y z")
    np.save(tmp_path / "three.npy", np.eye(3))
    np.testing.assert_array_equal(read_array_cloud(tmp_path / "three.npy", "z y x").points, np.eye(3)[:, ::-1])
    np.save(tmp_path / "colors.npy", np.concatenate([CLOUD, np.full((50, 3), 0.2)], axis=1))
    colors = read_array_cloud(tmp_path / "colors.npy", "x y z r g b").colors
    assert colors is not None
    assert (colors == 51).all()


def test_structured_arrays(tmp_path: Path) -> None:
    kinds = [("Z", "<f8"), ("intensity", "<u2"), ("X", "<f4"), ("Y", ">f4"), ("rgb", "<f4")]
    table = np.zeros((5, 10), kinds)  # organized
    for axis, values in zip("XYZ", CLOUD.T, strict=True):
        table[axis] = values.reshape(5, 10)
    table["rgb"] = np.array([0x102030], np.uint32).view(np.float32)
    np.save(tmp_path / "a.npy", table)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["points"] = table
    for name in ("a.npy", "a.h5"):
        cloud = read_array_cloud(tmp_path / name)
        np.testing.assert_allclose(cloud.points, CLOUD, rtol=1e-6)
        assert cloud.colors is not None
        assert (cloud.colors == [16, 32, 48]).all()
        with pytest.raises(ValueError, match=r"`columns` .* is for columns without names: Z, intensity, X, Y, rgb"):
            read_array_cloud(tmp_path / name, "x y z")
    packed = np.zeros(50, [("xyz", "<f4", (3,)), ("color", "u1", (3,))])
    packed["xyz"], packed["color"] = CLOUD, 9
    np.save(tmp_path / "a.npy", packed)
    cloud = read_array_cloud(tmp_path / "a.npy")
    np.testing.assert_allclose(cloud.points, CLOUD, rtol=1e-6)
    assert cloud.colors is not None
    assert (cloud.colors == 9).all()
    np.save(tmp_path / "a.npy", np.zeros(5, [("x", "f4"), ("y", "f4")]))
    with pytest.raises(
        ValueError, match="has the fields x, y: x, y and z, or points of three values, must be among them"
    ):
        read_array_cloud(tmp_path / "a.npy")


def test_which_array_is_the_cloud(tmp_path: Path) -> None:
    others = np.ones((5, 4))
    path = tmp_path / "a.npz"
    np.savez(path, others=others, xyz=CLOUD, colors=np.full((50, 3), 7, np.uint8))
    cloud = read_array_cloud(path)
    np.testing.assert_array_equal(cloud.points, CLOUD)
    assert cloud.colors is not None
    assert (cloud.colors == 7).all()
    np.savez(path, others=others, points=CLOUD, xyz=2 * CLOUD)
    np.testing.assert_array_equal(read_array_cloud(path).points, CLOUD)
    np.savez(path, x=CLOUD[:, 0], y=CLOUD[:, 1], z=CLOUD[:, 2])
    np.testing.assert_array_equal(read_array_cloud(path).points, CLOUD)
    np.savez(path, others=others, more=CLOUD)
    with pytest.raises(ValueError, match=r"a\.npz`: holds others \[5, 4\], more \[50, 3\]: one array, or one that is"):
        read_array_cloud(path)
    np.savez(path)
    with pytest.raises(ValueError, match=r"a\.npz`: holds no array"):
        read_array_cloud(path)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["one/points"] = CLOUD
        file["two/points"] = CLOUD
    with pytest.raises(ValueError, match=r"holds /one/points, /two/points: one cloud per file"):
        read_array_cloud(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "w") as file:  # ModelNet40's files of many clouds
        file["data"], file["normal"], file["label"] = np.zeros((4, 9, 3)), np.zeros((4, 9, 3)), np.zeros((4, 1), int)
    with pytest.raises(ValueError, match=r"holds float64 \[4, 9, 3\]: several clouds\?"):
        read_array_cloud(tmp_path / "a.h5")
    (tmp_path / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n and no more")
    with pytest.raises(ValueError, match=r"a\.h5`: cannot be read as arrays of points"):
        read_array_cloud(tmp_path / "a.h5")


@pytest.mark.parametrize("name", ["coord", "coords", "position", "positions", "vertices", "XYZ", "Points"])
def test_other_names_of_points(tmp_path: Path, name: str) -> None:
    np.savez(tmp_path / "a.npz", normals=-CLOUD, **{name: CLOUD})
    array = np.zeros(50, [(name, "f8", 3), ("label", "i4")])
    array[name] = CLOUD
    np.save(tmp_path / "a.npy", array)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file[name], file["normals"] = CLOUD, -CLOUD
    for file in ("a.npz", "a.npy", "a.h5"):
        np.testing.assert_array_equal(read_array_cloud(tmp_path / file).points, CLOUD)


def test_what_arrays_are_no_cloud(tmp_path: Path) -> None:
    np.savez(tmp_path / "mesh.npz", vertices=CLOUD, faces=np.array([[0, 1, 2]]))
    with pytest.raises(ValueError, match=r"mesh\.npz`: holds a mesh, vertices and faces: save it as \.ply"):
        read_array_cloud(tmp_path / "mesh.npz")
    np.save(tmp_path / "fields.npy", np.zeros(5, [("place", "f4", 3), ("label", "i4")]))
    with pytest.raises(ValueError, match=r"has the fields place, label: x, y and z, or points of three values"):
        read_array_cloud(tmp_path / "fields.npy")
