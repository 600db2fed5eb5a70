"""Leeds Sports Pose: one sportsperson per picture, 14 joints."""

import os
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from pcsa.datasets.arrays import read_arrays
from pcsa.datasets.crops import CropAugment
from pcsa.datasets.faults import Problem, noting, reading, refuse, some
from pcsa.datasets.files import existing, visible_files
from pcsa.datasets.images import IMAGES, KeypointImages, masked
from pcsa.datasets.matlab import read_matlab
from pcsa.datasets.plausible import check_first_pixel, check_in_pixels, check_inside, check_pictures
from pcsa.datasets.splits import Split, checked_root, split_rows
from pcsa.datasets.values import ValueRange

# The head reaches above its joint, and the hands beyond the wrists: a share of the larger side of the joints' box.
_MARGIN = 0.1
_SMALLEST = 20.0  # pixels, where all visible joints are one point
# How far a joint may lie outside of its picture, as a share of the longer side: a head may be cut off.
_OUTSIDE = 0.1


class Lsp(KeypointImages):
    """Leeds Sports Pose, `"Clustered Pose and Nonlinear Appearance Models" <https://doi.org/10.5244/C.24.12>`_.

    =====================  ======  ==================================================
    release                train   test
    =====================  ======  ==================================================
    ``lsp_dataset``        1,000   1,000: the first and the second half
    other numbers N        4/5 N   the rest, in the order of the files
    =====================  ======  ==================================================

    ``root`` has ``images/`` of pictures, which belong to the joints by the last number in their names (im1, im2, …,
    im10; from 0 or 1, none missing), and one of

    * ``joints.npz``: ``joints`` `[N, 14, 3]` of x, y, visible. What is not visible has no meaningful position.
    * ``joints.mat`` of ``lsp_dataset``: ``joints`` `[3, 14, N]`. The third row is **1 for occluded** joints: the
      release calls it "a binary value specifying joint visibility" without saying which way; users of the data read it
      as occlusion (they take one minus the row). All joints have positions there, occluded or not, and PCK on this
      dataset is over all of them, so all are visible here, whichever way the row goes; ``occluded`` keeps it.
    * ``joints.mat`` of ``lspet_dataset`` (extended): ``joints`` `[14, 3, N]`, the third column 1 for **visible**; the
      others were not labeled.

    MATLAB's files may be of any version, 7.3 too. Positions are used as they are, unless ``one_based`` says otherwise;
    whether they count from 0 or 1 is not documented. A visible joint more than a tenth of the picture outside of it is
    refused. The box is that of the visible joints with a tenth of its larger side all around.

    ``source(i)`` also has ``occluded`` `[14]`.

    Args:
        root: The folder.
        split: The split.
        input_size: (height, width) of the crops.
        augment: What ``augmented`` varies. Default: what :class:`~pcsa.datasets.crops.CropAugment` varies.
        num_val: Number of pictures at the end of the training part that are held out for validation. Default: none,
            see :func:`pcsa.datasets.splits.split_rows`.
        one_based: Whether positions count from 1.
        value_range: What 0 and 1 stand for in the pictures. Default: see
            :func:`pcsa.datasets.values.unit_values`.

    Raises:
        FileNotFoundError: If a file is missing; the message names it.
        ValueError: If a file or an argument is broken; the message names it and the rule.

    """

    names = (
        *("right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "right_wrist"),
        *("right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist", "neck", "head_top"),
    )
    pairs = ((0, 5), (1, 4), (2, 3), (6, 11), (7, 10), (8, 9))
    bones = (
        *((0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (6, 7), (7, 8), (9, 10), (10, 11), (8, 12), (9, 12), (12, 13)),
        *((2, 8), (3, 9)),
    )

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: Split,
        *,
        input_size: tuple[int, int] = (256, 192),
        augment: CropAugment | None = None,
        num_val: int | None = None,
        one_based: bool = False,
        value_range: ValueRange | None = None,
    ) -> None:
        super().__init__(input_size, augment, value_range=value_range)
        self.root = checked_root(root, split)
        files, labels = _read(self.root, one_based)
        refuse(_problems(self.root, files, labels, all_files=False))
        num_train = 1000 if len(files) == 2000 else round(0.8 * len(files))
        rows = split_rows(num_train, len(files) - num_train, split, num_val)
        positions, visible, occluded = labels
        self._items = [(files[i], positions[i], visible[i], occluded[i]) for i in rows if visible[i].any()]
        self._skip("no visible joint", len(rows) - len(self._items))

    def files(self, index: int) -> list[Path]:
        """Return the picture of a person, and the file of the joints."""
        return [self._items[self._row(index)][0], _joints_file(self.root)]

    def source(self, index: int) -> dict[str, Any]:
        """Return the picture, the joints and the box of a person; see the class."""
        file, positions, visible, occluded = self._items[self._row(index)]
        image = self.read(file)
        with reading(file, "a labeled picture"):
            check_inside(_nan(positions, visible), self.names, (image.shape[2], image.shape[1]), _OUTSIDE)
        low, high = positions[visible].min(0), positions[visible].max(0)
        side = max(float((high - low).max()), _SMALLEST)
        # Half a pixel from the pixel frame to the box's, in which the picture spans 0 to its width.
        size = np.maximum(high - low, _SMALLEST) + 2 * _MARGIN * side
        corner = (low + high) / 2 + 0.5 - size / 2
        return {
            "image": image,
            **masked(positions, visible),
            "box": torch.tensor([*corner, *size], dtype=torch.float32),
            "occluded": torch.from_numpy(occluded.copy()),
        }


def check_lsp(
    root: str | os.PathLike[str], *, one_based: bool = False, value_range: ValueRange | None = None
) -> list[Problem]:
    """List everything that is missing or broken in a folder of :class:`Lsp`, pictures included.

    Args:
        root: The folder.
        one_based: As for :class:`Lsp`.
        value_range: As for :class:`Lsp`.

    """
    root = Path(root)
    problems: list[Problem] = []
    with noting(problems, root):
        files, labels = _read(root, one_based)
        problems += _problems(root, files, labels, all_files=True, value_range=value_range)
    return problems


class _Labels(NamedTuple):
    positions: NDArray[np.float32]  # [N, 14, 2]
    visible: NDArray[np.bool_]  # [N, 14]
    occluded: NDArray[np.bool_]  # [N, 14]


def _nan(positions: NDArray[np.float32], visible: NDArray[np.bool_]) -> NDArray[np.float32]:
    shown: NDArray[np.float32] = np.where(visible[..., None], positions, np.float32(np.nan))
    return shown


def _problems(root: Path, files: list[Path], labels: _Labels, **options: Any) -> list[Problem]:
    positions = _nan(labels.positions, labels.visible)
    return check_pictures(files, list(positions), Lsp.names, _OUTSIDE, of=_joints_file(root), **options)


def _read(root: Path, one_based: bool) -> tuple[list[Path], _Labels]:
    """Return the pictures by their numbers, and the labels of each."""
    path = _joints_file(root)
    array = _joints(path)
    with reading(path, "joints"):
        given, of_occlusion = list(array.shape), path.suffix == ".mat" and array.shape[:1] == (3,)
        if path.suffix == ".mat" and array.ndim == 3:
            array = array.transpose((2, 1, 0) if of_occlusion else (2, 0, 1))
        if array.ndim != 3 or array.shape[1:] != (14, 3) or array.dtype.kind not in "bfiu":
            layouts = "[3, 14, N] or [14, 3, N]" if path.suffix == ".mat" else "[N, 14, 3]"
            raise ValueError(f"`joints` ({array.dtype} {given}) must be numbers {layouts}")
        third = array[:, :, 2]
        if not np.isin(third, (0, 1)).all():
            seen = third[~np.isin(third, (0, 1))][0]
            raise ValueError(f"`joints`: the third number of a joint (={seen:g}) must be 0 or 1")
        flag = third > 0
        visible, occluded = (np.ones_like(flag), flag) if of_occlusion else (flag, ~flag)
        positions = array[:, :, :2].astype(np.float32)
        if not np.isfinite(positions[visible]).all():
            person, joint = np.argwhere(visible & ~np.isfinite(positions).all(2))[0].tolist()
            value = ", ".join(f"{x:g}" for x in positions[person, joint].tolist())
            raise ValueError(f"`joints`: person {person + 1}: `{Lsp.names[joint]}` (={value}) must be finite")
        check_in_pixels(positions[visible])
        check_first_pixel(positions[visible], one_based)
    return _numbered(root / "images", len(positions)), _Labels(positions - np.float32(one_based), visible, occluded)


def _numbered(folder: Path, number: int) -> list[Path]:
    """Return the pictures of a folder in the order of the numbers in their names, which must be those of the joints.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If a picture has no number, two have the same, or one is missing; the message names them.

    """
    files: dict[int, Path] = {}
    for name in visible_files(existing(folder), IMAGES):
        digits = re.findall(r"\d+", Path(name).stem)
        if not digits:
            raise ValueError(f"`{folder / name}`: must have a number in its name, that of its joints")
        path = files.setdefault(int(digits[-1]), folder / name)
        if path.name != name:
            raise ValueError(f"`{folder / name}`: must have a number of its own: `{path.name}` has it too")
    first = min(files, default=1)
    missing = sorted(set(range(min(first, 1), min(first, 1) + number)) - set(files))
    if len(files) != number or missing:
        names = f", without those numbered {some(missing)}" if missing else ""
        raise ValueError(f"`{folder}`: pictures (={len(files)}{names}) must be one for each of the {number} joints")
    return [files[key] for key in sorted(files)]


def _joints_file(root: Path) -> Path:
    npz, mat = root / "joints.npz", root / "joints.mat"
    if not npz.exists() and not mat.exists():
        raise FileNotFoundError(f"`{npz}` and `{mat}` are missing")
    return npz if npz.exists() else mat


def _joints(path: Path) -> NDArray[Any]:
    return (read_arrays if path.suffix == ".npz" else read_matlab)(path, ["joints"])["joints"]
