"""The release's layout: which files lie where in a root."""

import os
from collections.abc import Sequence
from pathlib import Path

from pcsa.datasets.files import existing
from pcsa.datasets.keypointnet.categories import CLASS_IDS


def check_category(root: Path, category: str) -> None:
    """Raise unless the root has the annotations of a category."""
    here = {path.stem for path in root.glob("annotations/*.json")}
    if category not in CLASS_IDS and category not in here:
        raise ValueError(f"`category` (={category!r}) must be one of {', '.join(sorted(here | set(CLASS_IDS)))}")
    if not root.is_dir():
        raise FileNotFoundError(f"`root` (={str(root)!r}) must be a folder: there is none")
    if category not in here:
        raise FileNotFoundError(
            f"`{root / 'annotations' / category}.json` is missing: `root` must have KeypointNet's release "
            f"layout; pcsa.datasets.keypointnet.download fetches it"
        )


def models_of_split(path: Path, class_id: str) -> list[str]:
    """List the model ids of one class in a split file, whose lines are ``<class_id>-<model_id>``."""
    prefix = f"{class_id}-"
    return [line.removeprefix(prefix) for line in existing(path).read_text().split() if line.startswith(prefix)]


def cloud_files(folder: Path) -> dict[str, os.DirEntry[str]]:
    """Return the clouds in a folder by their model ids; none where there is no folder."""
    try:
        with os.scandir(folder) as entries:
            return {entry.name[:-4]: entry for entry in entries if entry.name.endswith(".pcd")}
    except (FileNotFoundError, NotADirectoryError):
        return {}


def first_of(names: Sequence[str]) -> str:
    """Return the first three names, for a message."""
    return ", ".join(names[:3]) + ", …" * (len(names) > 3)
