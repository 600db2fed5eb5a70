"""Everything that is wrong with data in files, whatever their layout, in one list."""

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, get_args

from pcsa._core.checks import check_one_of
from pcsa._core.progress import progress
from pcsa.datasets.array_clouds import HDF5
from pcsa.datasets.arrays import read_arrays
from pcsa.datasets.coco import check_coco
from pcsa.datasets.faults import Problem
from pcsa.datasets.files import existing, find_files
from pcsa.datasets.hdf5_files import own_dataset
from pcsa.datasets.human36m import check_human36m
from pcsa.datasets.keypointnet.check import check_root
from pcsa.datasets.limits import check_regular, read_whole
from pcsa.datasets.lsp import check_lsp
from pcsa.datasets.mtfl import check_mtfl
from pcsa.datasets.oct import check_oct
from pcsa.datasets.points import CLOUDS, MESHES, UNNAMED, check_cloud
from pcsa.datasets.shapenet import check_hdf5, is_hdf5
from pcsa.datasets.values import ValueRange

Layout = Literal["human36m", "lsp", "mtfl", "keypointnet", "coco", "oct", "hdf5", "clouds"]


def check_data(
    root: str | os.PathLike[str],
    layout: Layout | None = None,
    *,
    images: str | os.PathLike[str] | None = None,
    detections: str | os.PathLike[str] | None = None,
    columns: str | None = None,
    value_range: ValueRange | None = None,
    one_based: bool | None = None,
    facts: list[str] | None = None,
) -> list[Problem]:
    """List everything that is missing or broken in a file or folder.

    The check reads every annotation and every cloud; pictures of 8 bits that are whole are not decoded. It goes on
    after a fault.

    Args:
        root: A root of one of :data:`LAYOUTS`, a folder of clouds and meshes (sub-folders too), or one such file.
        layout: A key of :data:`LAYOUTS`. Default: what the files in ``root`` say; see :func:`layout_of`.
        images: Folder of the pictures, for ``root`` being an annotation file of COCO.
        detections: File of detections, for COCO.
        columns: Names of the columns of clouds whose format has no names for them, as in ``pcsa predict``; see
            :func:`pcsa.datasets.points.read_cloud`.
        value_range: What 0 and 1 stand for in pictures and scans, see :func:`pcsa.datasets.values.unit_values`.
        one_based: Whether positions count from 1, for LSP, MTFL and OCT. Default: that of the dataset's class.
        facts: Gets what the check finds out and is no fault, in lines; see
            :func:`pcsa.datasets.keypointnet.check.check_root`.

    Returns:
        The problems. Where there are none, the dataset of the layout opens, and every item can be read.

    Raises:
        FileNotFoundError: If ``root`` does not exist.
        ValueError: If ``layout`` is unknown, or not given and not recognized, or an argument is not for it.

    """
    root = existing(root)
    if layout is None:
        layout = layout_of(root)
    check_one_of("layout", layout, get_args(Layout))
    given = {
        "images": None if images is None else os.fspath(images),
        "detections": None if detections is None else os.fspath(detections),
        "columns": columns,
        "value_range": value_range,
        "one_based": one_based,
    }
    for name, value in given.items():
        if value is not None and layout not in _TAKEN_BY[name]:
            layouts = " or ".join(repr(known) for known in _TAKEN_BY[name])
            raise ValueError(f"`{name}` (={value!r}) is for the layout {layouts}, not {layout!r}")
    if layout == "oct" and value_range is not None and (root / "vol").is_dir():
        raise ValueError(f"`value_range` (={value_range}) is for scans *.npz: the format of volumes has its own")
    based = {} if one_based is None else {"one_based": one_based}
    if layout == "coco":
        return _check_coco(root, images, detections, value_range)
    if layout == "clouds":
        return _check_clouds(root, columns)
    if layout == "oct":
        return check_oct(root, value_range=value_range, **based)
    if layout == "lsp":
        return check_lsp(root, value_range=value_range, **based)
    if layout == "mtfl":
        return check_mtfl(root, value_range=value_range, **based)
    if layout == "human36m":
        return check_human36m(root, value_range=value_range)
    if layout == "keypointnet":
        return check_root(root, facts)
    return LAYOUTS[layout](root)


def layout_of(root: Path) -> Layout:
    """Return the layout that the files of a root have: the first of :data:`LAYOUTS` that fits.

    Raises:
        ValueError: If none fits.

    """
    for layout, fits in _SIGNS.items():
        if fits(root):
            return layout
    known = ", ".join(get_args(Layout))
    raise ValueError(f"`{root}` has the files of no known layout: name one as `layout`, of {known}")


def _check_clouds(root: Path, columns: str | None) -> list[Problem]:
    problems: list[Problem] = []
    for file in progress(find_files([root], (*CLOUDS, *MESHES), recursive=True).files, "checking"):
        name = file.name if root.is_file() else str(file.relative_to(root.absolute()))
        problems += [
            Problem(name, problem.message)
            for problem in check_cloud(file, columns if file.suffix.lower() in UNNAMED else None)
        ]
    return problems


def _check_coco(
    root: Path,
    images: str | os.PathLike[str] | None,
    detections: str | os.PathLike[str] | None,
    value_range: ValueRange | None,
) -> list[Problem]:
    files = list(_annotation_files(root))
    if not files:
        return [Problem(str(root), "no annotation file of COCO (JSON with images, annotations and categories)")]
    problems: list[Problem] = []
    for file in files:
        folder = _pictures_of(file) if images is None else images
        problems += check_coco(file, folder, detections, value_range=value_range)
    return problems


def _pictures_of(annotations: Path) -> Path:
    """Return the folder of an annotation file's pictures: the official one, or its own."""
    official = annotations.parent.parent / annotations.stem.split("_")[-1]
    return official if annotations.parent.name == "annotations" and official.is_dir() else annotations.parent


def _annotation_files(root: Path) -> Iterable[Path]:
    if root.is_file():
        yield root
        return
    for folder in (root, root / "annotations"):
        for path in sorted(folder.glob("*.json")):
            if not path.name.startswith(".") and _has_images(path):
                yield path


def _has_images(path: Path) -> bool:
    try:
        content: Any = json.loads(read_whole(path))
    except (ValueError, RecursionError):
        return False
    return isinstance(content, dict) and "images" in content and "annotations" in content


def _is_scans(root: Path) -> bool:
    if any(root.glob("vol/*.vol")):
        return True
    for path in sorted(root.glob("*.npz")):
        try:
            return bool({"bscan", "boundaries", "boundaries_manual"} & set(read_arrays(path)))
        except ValueError:
            continue
    return False


def _is_batches(root: Path) -> bool:
    """Whether HDF5 files hold many clouds each, and no other clouds lie among them; text may be their lists."""
    if not is_hdf5(root):
        return False
    files = [root] if root.is_file() else [path for path in root.rglob("*") if not path.name.startswith(".")]
    others = set(CLOUDS + MESHES) - {*HDF5, ".txt", ".csv"}
    if any(path.suffix.lower() in others for path in files):
        return False
    return any(_has_batch(path) for path in files if path.suffix.lower() in HDF5)


def _has_batch(path: Path) -> bool:
    import h5py

    try:
        check_regular(path)
        with h5py.File(path, "r") as file:
            return getattr(own_dataset(file, "data"), "ndim", 0) == 3
    except Exception:  # whatever is wrong with it, the check of its layout says so
        return False


def _is_clouds(root: Path) -> bool:
    if root.is_file():
        return root.suffix.lower() in (*CLOUDS, *MESHES)
    return any(path.suffix.lower() in (*CLOUDS, *MESHES) for path in root.rglob("*"))


LAYOUTS: dict[Layout, Callable[[Path], list[Problem]]] = {
    "human36m": check_human36m,
    "lsp": check_lsp,
    "mtfl": check_mtfl,
    "keypointnet": check_root,
    "coco": lambda root: _check_coco(root, None, None, None),
    "oct": check_oct,
    "hdf5": check_hdf5,
    "clouds": lambda root: _check_clouds(root, None),
}
"""The check of each layout, by the name of the layout."""

_SIGNS: dict[Layout, Callable[[Path], bool]] = {
    "human36m": lambda root: (root / "frames.npz").exists(),
    "lsp": lambda root: any((root / name).exists() for name in ("joints.npz", "joints.mat")),
    "mtfl": lambda root: (root / "training.txt").exists(),
    "keypointnet": lambda root: (root / "pcds").is_dir() and (root / "annotations").is_dir(),
    "coco": lambda root: any(_annotation_files(root)) if root.is_dir() else root.suffix.lower() == ".json",
    "oct": _is_scans,
    "hdf5": _is_batches,
    "clouds": _is_clouds,
}

_TAKEN_BY: dict[str, tuple[Layout, ...]] = {
    "images": ("coco",),
    "detections": ("coco",),
    "columns": ("clouds",),
    "value_range": ("coco", "human36m", "lsp", "mtfl", "oct"),
    "one_based": ("lsp", "mtfl", "oct"),
}
