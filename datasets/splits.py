"""The splits of a dataset: their names, and which rows belong to which."""

import os
from pathlib import Path
from typing import Literal, get_args

from pcsa._core.checks import check_count, check_one_of
from pcsa.datasets.files import existing

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)


def check_split(split: str, *more: str) -> None:
    """Raise unless ``split`` is a split, or one of ``more``."""
    check_one_of("split", split, (*SPLITS, *more))


def checked_root(root: str | os.PathLike[str], split: str) -> Path:
    """Return a root that exists; raise unless it does and ``split`` is a split."""
    check_split(split)
    return existing(root)


def split_rows(num_train: int, num_test: int, split: Split, num_val: int | None) -> range:
    """Return the rows of a split of a dataset whose training rows come first and whose test rows follow.

    Args:
        num_train: Number of training rows.
        num_test: Number of test rows.
        split: The split.
        num_val: Number of rows at the end of the training part that are held out for validation. None holds out
            nothing: the last tenth of the training part is for watching, and the training uses it too.

    """
    check_split(split)
    if num_val is not None:
        check_count("num_val", num_val, most=num_train - 1)
    if split == "test":
        return range(num_train, num_train + num_test)
    start = num_train - (max(1, num_train // 10) if num_val is None else num_val)
    if split == "val":
        return range(start, num_train)
    return range(num_train if num_val is None else start)
