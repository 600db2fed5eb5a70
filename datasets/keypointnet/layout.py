"""The release's layout: which files lie where in a root."""

import os
from pathlib import Path

from pcsa.datasets.keypointnet.categories import CLASS_IDS
from pcsa.datasets.lines import text_lines

ALL = "all"  # the release also comes with one file of all categories
MISALIGNED = "knife_misaligned.txt"


def annotation_files(root: Path) -> dict[str, Path]:
    """Return the annotation files of a root by their stems; hidden ones (``._bed.json``) are none."""
    paths = sorted(root.glob("annotations/*.json"))
    return {path.stem: path for path in paths if not path.name.startswith(".")}


def annotation_file(root: Path, category: str) -> tuple[Path, str | None]:
    """Return the file with the annotations of a category, and the class id to pick from it where it holds several.

    Raises:
        ValueError: If nobody knows the category.
        FileNotFoundError: If the root has no annotations of it.

    """
    here = annotation_files(root)
    if category not in CLASS_IDS and category not in here:
        raise ValueError(f"`category` (={category!r}) must be one of {', '.join(sorted(here | CLASS_IDS))}")
    if not root.is_dir():
        raise FileNotFoundError(f"`root` (={str(root)!r}) must be a folder: there is none")
    if category in here:
        return here[category], None
    if ALL in here:
        return here[ALL], CLASS_IDS[category]
    raise FileNotFoundError(
        f"`{root / 'annotations' / category}.json` is missing: `root` must have KeypointNet's release "
        f"layout; pcsa.datasets.keypointnet.download fetches it"
    )


def models_of_split(path: Path, class_id: str) -> list[str]:
    """List the model ids of one class in a split file, whose lines are ``<class_id>-<model_id>``."""
    prefix = f"{class_id}-"
    return [line.removeprefix(prefix) for _, line in text_lines(path) if line.startswith(prefix)]


def misaligned_file(root: Path, class_id: str) -> Path | None:
    """Return the list of the models of a class whose x axis is flipped, if the root has one; only knives have."""
    path = root / MISALIGNED
    return path if class_id == CLASS_IDS["knife"] and path.is_file() else None


def misaligned_models(root: Path, class_id: str) -> set[str]:
    """Return what :func:`misaligned_file` lists: model ids, with or without their class id, folder and ending."""
    path = misaligned_file(root, class_id)
    names = [line.replace("\\", "/").rsplit("/", 1)[-1] for _, line in text_lines(path)] if path else []
    return {name.removeprefix(f"{class_id}-").removesuffix(".pcd").removesuffix(".ply") for name in names}


def cloud_files(folder: Path) -> dict[str, os.DirEntry[str]]:
    """Return the clouds in a folder by their model ids, without hidden files; none where there is no folder."""
    try:
        with os.scandir(folder) as entries:
            found = [e for e in entries if e.name.lower().endswith(".pcd") and not e.name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return {entry.name[:-4]: entry for entry in sorted(found, key=lambda e: e.name) if entry.is_file()}
