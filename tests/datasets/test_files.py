import os
from pathlib import Path

import pytest

from pcsa.datasets.files import existing, find_files, picture_name, replacing


def lay(root: Path, *names: str) -> None:
    """Make empty files."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_files_and_folders(tmp_path: Path) -> None:
    lay(tmp_path, "b.PNG", "a.jpg", "c.txt", "folder/d.png")
    known = (".png", ".jpg")
    found = find_files([tmp_path], known)
    assert found.files == [tmp_path / "a.jpg", tmp_path / "b.PNG"]
    assert found.base == tmp_path
    assert str(found) == "skipped 1 file: 1 .txt; not looked into 1 sub-folder: see --recursive"
    found = find_files([tmp_path / "folder", tmp_path / "a.jpg"], known)
    assert found.files == [tmp_path / "folder/d.png", tmp_path / "a.jpg"]
    assert (found.base, str(found)) == (tmp_path, "")
    with pytest.raises(ValueError, match=r"c\.txt` must be a file of .png, .jpg"):
        find_files([tmp_path / "c.txt"], known)
    with pytest.raises(FileNotFoundError, match=r"none\.png` does not exist"):
        find_files([tmp_path / "none.png"], known)
    with pytest.raises(FileNotFoundError, match=r"folder` is a folder without any file of .obj$"):
        find_files([tmp_path / "folder"], (".obj",))
    with pytest.raises(ValueError, match="`inputs` must name at least one"):
        find_files([], known)


def test_subfolders_are_entered_when_asked_for(tmp_path: Path) -> None:
    lay(tmp_path, "z.ply", "a/b/x.ply", "a/x.ply", "a/x.mtl", "b.ply/x.PLY", "c/notes.txt", "c/README")
    with pytest.raises(FileNotFoundError, match="outside of its sub-folders: see --recursive"):
        find_files([tmp_path / "a" / "b" / ".."], (".obj",))
    found = find_files([tmp_path], (".ply",), recursive=True)
    names = [file.relative_to(tmp_path).as_posix() for file in found.files]
    # A folder may end as a file does.
    assert names == ["a/b/x.ply", "a/x.ply", "b.ply/x.PLY", "z.ply"]
    assert found.skipped == {".mtl": 1, ".txt": 1, "without an ending": 1}
    assert found.closed == 0


def test_what_is_hidden_is_never_taken(tmp_path: Path) -> None:
    lay(tmp_path, "a.ply", "._a.ply", ".b.ply", ".git/c.ply", "__MACOSX/d.ply", "e/._f.ply", "e/.hidden/g.ply")
    found = find_files([tmp_path], (".ply",), recursive=True)
    assert found.files == [tmp_path / "a.ply"]
    assert str(found) == ""
    with pytest.raises(FileNotFoundError, match="without any file"):
        find_files([tmp_path / "e"], (".ply",), recursive=True)


def test_links_are_followed_and_end(tmp_path: Path) -> None:
    lay(tmp_path, "in/a.ply", "in/z/b.ply", "out/c.ply")
    (tmp_path / "in" / "again.ply").symlink_to("a.ply")
    (tmp_path / "in" / "gone.ply").symlink_to("nowhere.ply")
    for name, target in {"loop": ".", "up": "..", "early": "z", "z/other": tmp_path / "out"}.items():
        (tmp_path / "in" / name).symlink_to(target, target_is_directory=True)
    found = find_files([tmp_path / "in"], (".ply",), recursive=True)
    names = [file.relative_to(tmp_path / "in").as_posix() for file in found.files]
    # A folder is entered once, by its own path if there is one; what a link alone leads to is taken too.
    assert names == ["a.ply", "again.ply", "gone.ply", "up/out/c.ply", "z/b.ply"]


def test_a_file_that_is_named_twice_is_taken_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay(tmp_path, "a/x.ply", "a/y.ply")
    monkeypatch.chdir(tmp_path)
    inputs = [Path("a/x.ply"), Path("a"), tmp_path / "a", Path("a/../a/y.ply")]
    assert find_files(inputs, (".ply",)).files == [tmp_path / "a/x.ply", tmp_path / "a/y.ply"]


def test_what_is_written_is_no_input(tmp_path: Path) -> None:
    lay(tmp_path, "a.npz", "p.npz", "pictures/a.npz.png", "pictures/b.npz")
    apart = [tmp_path / "p.npz", tmp_path / "pictures"]
    found = find_files([tmp_path], (".npz", ".png"), recursive=True, apart=apart)
    assert found.files == [tmp_path / "a.npz"]
    assert str(found) == ""


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_in_a_folder_is_no_file(tmp_path: Path) -> None:
    lay(tmp_path, "a.ply")
    os.mkfifo(tmp_path / "b.ply")
    assert find_files([tmp_path], (".ply",)).files == [tmp_path / "a.ply"]


def test_existing(tmp_path: Path) -> None:
    assert existing(str(tmp_path)) == tmp_path
    with pytest.raises(FileNotFoundError, match=r"none` is missing"):
        existing(tmp_path / "none")


def test_pictures_have_names_of_their_own() -> None:
    files = [Path("/s/a/x.obj"), Path("/s/b/x.obj"), Path("/s/y.ply")]
    names = ["a/x.obj.png", "b/x.obj.png", "y.ply.png"]
    assert [picture_name(file, Path("/s")) for file in files] == names
    # Whatever other inputs there are.
    assert picture_name(files[1], Path("/s"), names[:1]) == names[1]
    assert picture_name(files[1], Path("/s/b"), ["x.obj.png"]) == "b/x.obj.png"
    assert picture_name(files[1], Path("/s/b"), ["x.obj.png", "b/x.obj.png"]) == "s/b/x.obj.png"


def test_two_writers_do_not_meet(tmp_path):
    file = tmp_path / "a.txt"
    with replacing(file) as first, replacing(file) as second:
        first.write_text("first")
        second.write_text("second")
    # The block that ends last.
    assert file.read_text() == "first"
