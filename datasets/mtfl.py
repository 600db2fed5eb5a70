"""Multi-Task Facial Landmarks: faces with five landmarks."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pcsa._core.checks import check_between, check_count
from pcsa.datasets.crops import CropAugment
from pcsa.datasets.faults import Problem, noting, reading, refuse
from pcsa.datasets.files import existing
from pcsa.datasets.images import KeypointImages, masked
from pcsa.datasets.limits import leads_out
from pcsa.datasets.lines import text_lines
from pcsa.datasets.plausible import check_first_pixel, check_in_pixels, check_inside, check_pictures
from pcsa.datasets.splits import Split, checked_root, split_rows
from pcsa.datasets.values import ValueRange

_LANDMARKS = 10  # numbers
_ATTRIBUTES = {"gender": 2, "smile": 2, "glasses": 2, "pose": 5}  # from 1 to that
# How far a landmark may lie outside of its picture, as a share of the longer side.
_OUTSIDE = 0.05


class Mtfl(KeypointImages):
    """MTFL, `"Facial Landmark Detection by Deep Multi-task Learning" <https://doi.org/10.1007/978-3-319-10599-4_7>`_.

    =================================  =================================  ==================================
    files                              train                              test
    =================================  =================================  ==================================
    ``training.txt``, ``testing.txt``  all of ``training.txt`` (10,000)   all of ``testing.txt`` (2,995)
    ``training.txt`` alone             all but the last ``num_test``      the last ``num_test``
    =================================  =================================  ==================================

    A line is ``path x1 … x5 y1 … y5 gender smile glasses pose``: left eye, right eye, nose, left and right corner of
    the mouth, where left and right are those of the picture. Paths may have backslashes and blanks, and the attributes
    may be left out. Refused are other numbers of landmarks or another order of them (x1 y1 … x5 y5; eyes that are not
    side by side above the mouth in most faces), and landmarks outside of their picture.

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
        value_range: What 0 and 1 stand for in the pictures. Default: see
            :func:`pcsa.datasets.values.unit_values`.

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
        value_range: ValueRange | None = None,
    ) -> None:
        default = CropAugment(flip=0.5, scale=0.1, rotation=15.0, shift=0.05)
        super().__init__(input_size, augment or default, value_range=value_range)
        check_between("share", share, 0, 1, "(]")
        self.root, self._share = checked_root(root, split), share
        self._items, problems = _read(existing(self.root / "training.txt"), one_based)
        num_train = len(self._items)
        if (self.root / "testing.txt").exists():
            testing, more = _read(self.root / "testing.txt", one_based)
            self._items, problems = self._items + testing, problems + more
        elif not problems:
            with reading(self.root / "training.txt", "a list of faces"):
                check_count("num_test", num_test, most=num_train - 1)
            num_train -= num_test
        refuse(problems)
        rows = split_rows(num_train, len(self._items) - num_train, split, num_val)
        self._items = [self._items[i] for i in rows]
        refuse(_picture_problems(self.root / "training.txt", self._items, all_files=False))

    def files(self, index: int) -> list[Path]:
        """Return the picture of a face, and the lists of landmarks."""
        lists = (self.root / name for name in ("training.txt", "testing.txt"))
        return [self._items[self._row(index)][0], *(file for file in lists if file.exists())]

    def source(self, index: int) -> dict[str, Any]:
        """Return the picture, the landmarks and the box of a face; see the class."""
        file, landmarks = self._items[self._row(index)]
        image = self.read(file)
        height, width = image.shape[1:]
        with reading(file, "a labeled picture"):
            check_inside(landmarks, self.names, (width, height), _OUTSIDE)
        side = self._share * min(height, width)
        box = torch.tensor([(width - side) / 2, (height - side) / 2, side, side])
        return {"image": image, **masked(landmarks, np.ones(5, dtype=bool)), "box": box}


def check_mtfl(
    root: str | os.PathLike[str], *, one_based: bool = True, value_range: ValueRange | None = None
) -> list[Problem]:
    """List everything that is missing or broken in a folder of :class:`Mtfl`, pictures included.

    Args:
        root: The folder.
        one_based: As for :class:`Mtfl`.
        value_range: As for :class:`Mtfl`.

    """
    root = Path(root)
    problems: list[Problem] = []
    for name in ("training.txt", "testing.txt"):
        if name == "testing.txt" and not (root / name).exists():
            continue
        with noting(problems, root / name):
            items, broken = _read(existing(root / name), one_based)
            problems += broken + _picture_problems(root / name, items, all_files=True, value_range=value_range)
    return problems


_Item = tuple[Path, NDArray[np.float64]]


def _picture_problems(path: Path, items: Sequence[_Item], **options: Any) -> list[Problem]:
    files, landmarks = [file for file, _ in items], [position for _, position in items]
    return check_pictures(files, landmarks, Mtfl.names, _OUTSIDE, of=path, **options)


def _read(path: Path, one_based: bool) -> tuple[list[_Item], list[Problem]]:
    """Return the picture and the landmarks `[5, 2]`, from 0, of each line, and what is wrong with the others."""
    items: list[_Item] = []
    problems: list[Problem] = []
    for number, line in text_lines(path):
        with noting(problems, path):
            try:
                name, landmarks = _line(line)
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from error
            items.append((path.parent / name.replace("\\", "/"), landmarks))
    if not items and not problems:
        problems.append(Problem(str(path), "must have a line for each face: it has none"))
    if items:
        landmarks = np.stack([position for _, position in items])
        with noting(problems, path):
            check_in_pixels(landmarks)
            _check_layout(landmarks)
            check_first_pixel(landmarks, one_based)
    return [(file, position - one_based) for file, position in items], problems


def _line(line: str) -> tuple[str, NDArray[np.float64]]:
    """Return the picture and the landmarks `[5, 2]` of a line as they are."""
    fields = line.split()
    first = len(fields)
    while first > 0 and _number(fields[first - 1]) is not None:
        first -= 1
    # From the line itself: the path may have blanks.
    name = line if first == len(fields) else line[: _start(line, fields[first:])].strip()
    values = np.array([_number(field) for field in fields[first:]], dtype=np.float64)
    if not name or len(values) not in (_LANDMARKS, _LANDMARKS + len(_ATTRIBUTES)):
        raise ValueError(
            f"must be a path, x1 … x5 y1 … y5 and {', '.join(_ATTRIBUTES)}: it has {len(values)} numbers after "
            f"`{name if len(name) < 100 else '… ' + name[-80:]}`"
        )
    if leads_out(name):
        raise ValueError(f"`{name[:120]}` must lead to a picture below the folder of the list")
    if not np.isfinite(values).all():
        raise ValueError(f"landmarks (={', '.join(f'{v:g}' for v in values)}) must be finite")
    for (attribute, most), value in zip(_ATTRIBUTES.items(), values[_LANDMARKS:].tolist(), strict=False):
        if value not in range(1, most + 1):
            raise ValueError(
                f"`{attribute}` (={value:g}) must be a whole number from 1 to {most}: it follows x1 … x5 y1 … y5"
            )
    return name, values[:_LANDMARKS].reshape(2, 5).T


def _start(line: str, fields: Sequence[str]) -> int:
    """Return where the last fields of a line begin."""
    end = len(line)
    for field in reversed(fields):
        end = line.rindex(field, 0, end)
    return end


def _number(field: str) -> float | None:
    try:
        return float(field)
    except ValueError:
        return None


def _upright(landmarks: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Say which faces, of `[N, 5, 2]`, have their eyes side by side above the mouth, left being the picture's left."""
    (left, right, _, left_mouth, right_mouth), (up, up_too, _, down, down_too) = landmarks.transpose(2, 1, 0)
    above: NDArray[np.bool_] = np.maximum(up, up_too) < np.minimum(down, down_too)
    return above & (left < right) & (left_mouth < right_mouth)


def _frontal(landmarks: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Say which faces, of `[N, 5, 2]`, also look ahead: the nose in the middle, nothing far out of level."""
    (left, right, nose, left_mouth, right_mouth), (up, up_too, middle, down, down_too) = landmarks.transpose(2, 1, 0)
    eyes, mouth = (up + up_too) / 2, (down + down_too) / 2
    level = (abs(up - up_too) <= 0.5 * (right - left)) & (abs(down - down_too) <= 0.7 * (right_mouth - left_mouth))
    central = (np.minimum(left, left_mouth) <= nose) & (nose <= np.maximum(right, right_mouth))
    frontal: NDArray[np.bool_] = _upright(landmarks) & level & central & (eyes < middle) & (middle < mouth)
    return frontal


def _check_layout(landmarks: NDArray[np.float64]) -> None:
    """Raise if most faces, of `[N, 5, 2]`, make sense in another layout only: one may be in profile, most are not."""
    number = len(landmarks)
    # x1 y1 … x5 y5, were that the layout of the lines.
    pairs = landmarks.transpose(0, 2, 1).reshape(number, 5, 2)
    num_pairs = int((_frontal(pairs) & ~_frontal(landmarks)).sum())
    if 2 * num_pairs > number:
        raise ValueError(
            f"landmarks must be x1 … x5 y1 … y5: {num_pairs} of {number} lines make a face only as x1 y1 … x5 y5"
        )
    num_mirrored = int(_upright(landmarks[:, [1, 0, 2, 4, 3]]).sum())
    if 2 * num_mirrored > number:
        raise ValueError(
            f"left eye and left corner of the mouth must be those on the left of the picture: in {num_mirrored} of "
            f"{number} faces they are on the right"
        )
    num_wrong = int((~_upright(landmarks)).sum())
    if 2 * num_wrong > number:
        raise ValueError(
            "landmarks must be left eye, right eye, nose, left and right corner of the mouth, as x1 … x5 y1 … y5: "
            f"{num_wrong} of {number} faces have their eyes not side by side above the mouth"
        )
