from pathlib import Path

import pytest

from pcsa.datasets.files import existing, files_of, picture_names


def test_files_and_folders(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for name in ("b.PNG", "a.jpg", "c.txt", "folder/d.png"):
        (tmp_path / name).touch()
    known = (".png", ".jpg")
    assert files_of([tmp_path], known) == [tmp_path / "a.jpg", tmp_path / "b.PNG"]
    assert files_of([tmp_path / "folder", tmp_path / "a.jpg"], known) == [tmp_path / "folder/d.png", tmp_path / "a.jpg"]
    with pytest.raises(ValueError, match=r"c\.txt` must be a file of .png, .jpg"):
        files_of([tmp_path / "c.txt"], known)
    with pytest.raises(FileNotFoundError, match=r"none\.png` does not exist"):
        files_of([tmp_path / "none.png"], known)
    with pytest.raises(FileNotFoundError, match=r"folder` is a folder without any file of .obj"):
        files_of([tmp_path / "folder"], (".obj",))
    with pytest.raises(ValueError, match="`inputs` must name at least one"):
        files_of([], known)


def test_existing(tmp_path: Path) -> None:
    assert existing(str(tmp_path)) == tmp_path
    with pytest.raises(FileNotFoundError, match=r"none` is missing"):
        existing(tmp_path / "none")


def test_pictures_have_different_names() -> None:
    files = [Path("a/x.obj"), Path("b/x.obj"), Path("y.ply"), Path("c/x.obj")]
    assert picture_names(files) == ["x.obj.png", "x.obj-2.png", "y.ply.png", "x.obj-3.png"]
