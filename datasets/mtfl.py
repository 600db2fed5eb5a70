"""Multi-Task Facial Landmarks: faces with five landmarks."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pcsa._core.checks import check_between, check_count
from pcsa.datasets.crops import CropAugment
from pcsa.datasets.files import existing
from pcsa.datasets.images import KeypointImages, masked, read_image
from pcsa.datasets.splits import Split, checked_root, split_rows


class Mtfl(KeypointImages):
    """MTFL, `"Facial Landmark Detection by Deep Multi-task Learning" <https://doi.org/10.1007/978-3-319-10599-4_7>`_.

    =================================  =================================  ==================================
    files                              train                              test
    =================================  =================================  ==================================
    ``training.txt``, ``testing.txt``  all of ``training.txt`` (10,000)   all of ``testing.txt`` (2,995)
    ``training.txt`` alone             all but the last ``num_test``      the last ``num_test``
    =================================  =================================  ==================================

    A line is ``path x1 … x5 y1 … y5 gender smile glasses pose``: left eye, right eye, nose, left and right corner of
    the mouth, where left and right are those of the picture. Paths may have backslashes.

    **Counted from 1.** Positions are taken for those of MATLAB, where the first pixel's center is 1, and 1 is
    subtracted. Measured on 700 pictures: the dark center of the pupil is, counted from 0, 0.9 (LFW) and 0.8 (net)
    pixels to the left of the label in the median, mean of both eyes (standard error 0.1), that is 0.1 to 0.2 to the
    right of it if the label counts from 1. A cruder estimate, which leans towards the label, says 0.5 to the left. The
    release says nothing; ``one_based=False`` leaves the positions as they are.

    **The box** is the middle square of the picture, ``share`` of its shorter side: the release has no boxes, its
    pictures are centered on the face, and a box around the landmarks would tell where they are.

    Args:
        root: The folder of ``training.txt`` and the pictures.
        split: The split.
        input_size: (height, width) of the crops.
        num_val: Number of pictures at the end of the training part that are held out for validation. Default: none,
            see :func:`pcsa.datasets.splits.split_rows`.
        num_test: Number of test faces where there is no ``testing.txt``.
        augment: What ``augmented`` varies. Default: flips, and up to a tenth of scale, 15 degrees and a twentieth of
            shift.
        share: Side of the box, as a share of the picture's shorter side. The crop is 1.25 times as large.
        one_based: Whether positions count from 1.

    Raises:
        FileNotFoundError: If a file is missing; the message names it.
        ValueError: If a file or an argument is broken; the message names it, the line and the rule.

    """

    names = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
    pairs = ((0, 1), (3, 4))
    bones = ((0, 2), (1, 2), (2, 3), (2, 4), (3, 4))

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: Split,
        *,
        input_size: tuple[int, int] = (64, 64),
        num_val: int | None = None,
        num_test: int = 100,
        augment: CropAugment | None = None,
        share: float = 0.6,
        one_based: bool = True,
    ) -> None:
        super().__init__(input_size, augment or CropAugment(flip=0.5, scale=0.1, rotation=15.0, shift=0.05))
        check_between("share", share, 0, 1, "(]")
        self.root, self._share, self._one_based = checked_root(root, split), share, one_based
        items = _read(existing(self.root / "training.txt"))
        num_train = len(items)
        if (self.root / "testing.txt").exists():
            items += _read(self.root / "testing.txt")
        else:
            check_count("num_test", num_test, most=len(items) - 1)
            num_train -= num_test
        self._items = [items[i] for i in split_rows(num_train, len(items) - num_train, split, num_val)]

    def source(self, index: int) -> dict[str, Any]:
        """Return the picture, the landmarks and the box of a face; see the class."""
        name, landmarks = self._items[self._row(index)]
        image = read_image(self.root / name)
        height, width = image.shape[1:]
        side = self._share * min(height, width)
        box = torch.tensor([(width - side) / 2, (height - side) / 2, side, side])
        return {"image": image, **masked(landmarks - self._one_based, np.ones(5, dtype=bool)), "box": box}


def _read(path: Path) -> list[tuple[str, np.ndarray]]:
    items = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        fields = line.split()
        if not fields:
            continue
        try:
            values = np.array([float(field) for field in fields[1:11]])
        except ValueError as error:
            raise ValueError(f"`{path}`, line {number}: {error}") from error
        if len(values) != 10 or not np.isfinite(values).all():
            raise ValueError(f"`{path}`, line {number}: must be a path and ten finite numbers, x1 … x5 y1 … y5")
        items.append((fields[0].replace("\\", "/"), values.reshape(2, 5).T))
    return items
