"""What is validated on, held against what is trained on, before the first step."""

from __future__ import annotations

import filecmp
import logging
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset
from torch_geometric.data import Data

from pcsa.datasets.clouds import UnlabeledClouds
from pcsa.datasets.folds import content_digest
from pcsa.datasets.keypointnet import KeypointNet

log = logging.getLogger(__name__)


def check_same_names(where: str, train: Sequence[Hashable], val: Sequence[Hashable]) -> None:
    """Raise unless the items to validate on have the keypoints, joints or surfaces that are trained on.

    Args:
        where: The argument that names the data, and its value: "`data.root` (='…')".
        train: What each column is called in the items to train on.
        val: The same of the items to validate on.

    """
    if list(train) != list(val):
        raise ValueError(
            f"{where} must have the same {len(train)} to find in its splits 'train' and 'val': 'train' has "
            f"{_shown(train)}, 'val' has {_shown(val)}"
        )


def check_held_out(where: str, train: Iterable[Hashable], val: Iterable[Hashable], what: str = "") -> None:
    """Raise if something to validate on is trained on, too; each is known by its id or file.

    Args:
        where: The argument that names the data, and its value.
        train: What is trained on.
        val: What is validated on.
        what: What they are, for the message.
    """
    named = f"{what} " * bool(what)
    shared = dict.fromkeys(val).keys() & set(train)
    if shared:
        raise ValueError(
            f"{where} must validate on what is not trained on: {len(shared)} {named}are both in 'train' and in 'val': "
            f"{_shown(sorted(map(str, shared)))}"
        )


def check_clouds_held_out(where: str, train: Dataset[Data], val: Dataset[Data]) -> None:
    """Raise if clouds to validate on are trained on, too, or others of their groups.

    Those that are the same under another name, point by point, are counted in the log.
    """
    if isinstance(train, KeypointNet) and isinstance(val, KeypointNet):
        check_same_names(where, train.semantic_ids, val.semantic_ids)
    # In HDF5 files clouds have no names but their rows.
    if isinstance(train, KeypointNet | UnlabeledClouds) and isinstance(val, KeypointNet | UnlabeledClouds):
        check_held_out(where, train.model_ids, val.model_ids)
    if isinstance(train, KeypointNet) and isinstance(val, KeypointNet):
        known = ([s.groups[name] for name in s.model_ids if name in s.groups] for s in (train, val))
        check_held_out(where, *known, what="groups of clouds")
    digests = set(_digests(train))
    _warn_of_twins(sum(digest in digests for digest in _digests(val)), "clouds")


def warn_of_twin_files(train: Iterable[Path], val: Iterable[Path]) -> None:
    """Log how many files to validate on have, in another folder, the name and content of one to train on."""
    named = defaultdict(list)
    for path in dict.fromkeys(train):
        named[path.name].append(path)

    def equal(path: Path, other: Path) -> bool:
        # A file that is missing is refused where it is read.
        return path.is_file() and other.is_file() and filecmp.cmp(path, other, shallow=False)

    twins = [path for path in dict.fromkeys(val) if any(equal(path, other) for other in named[path.name])]
    _warn_of_twins(len(twins), "files")


def _warn_of_twins(count: int, what: str) -> None:
    if count:
        log.warning(
            "%d %s to validate on are also among those to train on, under another name: they say nothing of new ones",
            count,
            what,
        )


def _digests(clouds: Any) -> Iterator[bytes]:
    for i in range(len(clouds)):
        yield content_digest(clouds[i].pos)


def _shown(names: Sequence[Hashable]) -> str:
    return ", ".join(str(name) for name in names[:8]) + ", …" * (len(names) > 8)
