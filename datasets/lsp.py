"""Leeds Sports Pose: one sportsperson per picture, 14 joints."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pcsa.datasets.arrays import read_arrays
from pcsa.datasets.crops import CropAugment
from pcsa.datasets.files import existing
from pcsa.datasets.images import KeypointImages, masked, read_image
from pcsa.datasets.splits import Split, checked_root, split_rows

# The head reaches above its joint, and the hands beyond the wrists: a share of the larger side of the joints' box.
_MARGIN = 0.1
_SMALLEST = 20.0  # pixels, where all visible joints are one point


class Lsp(KeypointImages):
    """Leeds Sports Pose, `"Clustered Pose and Nonlinear Appearance Models" <https://doi.org/10.5244/C.24.12>`_.

    =====================  ======  ==================================================
    release                train   test
    =====================  ======  ==================================================
    ``lsp_dataset``        1,000   1,000: the first and the second half
    other numbers N        4/5 N   the rest, in the order of the files
    =====================  ======  ==================================================

    ``root`` has ``images/*.jpg``, numbered, and one of

    * ``joints.npz``: ``joints`` `[N, 14, 3]` of x, y, visible. What is not visible has no meaningful position.
    * ``joints.mat`` of ``lsp_dataset``: ``joints`` `[3, 14, N]`. The third row is **1 for occluded** joints: the
      release calls it "a binary value specifying joint visibility" without saying which way; users of the data read it
      as occlusion (they take one minus the row). All joints have positions there, occluded or not, and PCK on this
      dataset is over all of them, so all are visible here, whichever way the row goes; ``occluded`` keeps it.
    * ``joints.mat`` of ``lspet_dataset`` (extended): ``joints`` `[14, 3, N]`, the third column 1 for **visible**; the
      others were not labeled.

    Positions are used as they are; whether they count from 0 or 1 is not documented. The box is that of the visible
    joints with a tenth of its larger side all around.

    ``source(i)`` also has ``occluded`` `[14]`.

    Args:
        root: The folder.
        split: The split.
        input_size: (height, width) of the crops.
        augment: What ``augmented`` varies. Default: what :class:`~pcsa.datasets.crops.CropAugment` varies.
        num_val: Number of pictures at the end of the training part that are held out for validation. Default: none,
            see :func:`pcsa.datasets.splits.split_rows`.

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
    ) -> None:
        super().__init__(input_size, augment)
        self.root = checked_root(root, split)
        positions, visible, occluded = _read(self.root)
        files = sorted(existing(self.root / "images").glob("*.jpg"))
        if len(files) != len(positions):
            raise ValueError(f"`{self.root}` has {len(files)} pictures in images/ and joints of {len(positions)}")
        num_train = 1000 if len(files) == 2000 else round(0.8 * len(files))
        rows = split_rows(num_train, len(files) - num_train, split, num_val)
        self._items = [(files[i], positions[i], visible[i], occluded[i]) for i in rows if visible[i].any()]
        self._skip("no visible joint", len(rows) - len(self._items))

    def source(self, index: int) -> dict[str, Any]:
        """Return the picture, the joints and the box of a person; see the class."""
        file, positions, visible, occluded = self._items[self._row(index)]
        low, high = positions[visible].min(0), positions[visible].max(0)
        side = max(float((high - low).max()), _SMALLEST)
        # Half a pixel from the pixel frame to the box's, in which the picture spans 0 to its width.
        size = np.maximum(high - low, _SMALLEST) + 2 * _MARGIN * side
        corner = (low + high) / 2 + 0.5 - size / 2
        return {
            "image": read_image(file),
            **masked(positions, visible),
            "box": torch.tensor([*corner, *size], dtype=torch.float32),
            "occluded": torch.from_numpy(occluded.copy()),
        }


def _read(root: Path) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return positions `[N, 14, 2]`, visible and occluded `[N, 14]`."""
    npz, mat = root / "joints.npz", root / "joints.mat"
    if not npz.exists() and not mat.exists():
        raise FileNotFoundError(f"`{npz}` and `{mat}` are missing")
    path = npz if npz.exists() else mat
    array = _joints(path)
    given, of_occlusion = list(array.shape), path == mat and array.shape[:1] == (3,)
    if path == mat and array.ndim == 3:
        array = array.transpose((2, 1, 0) if of_occlusion else (2, 0, 1))
    if array.ndim != 3 or array.shape[1:] != (14, 3):
        layouts = "[N, 14, 3]" if path == npz else "[3, 14, N] or [14, 3, N]"
        raise ValueError(f"`{path}` has joints of shape {given}, not {layouts}")
    flag = array[:, :, 2] > 0
    visible, occluded = (np.ones_like(flag), flag) if of_occlusion else (flag, ~flag)
    positions = array[:, :, :2].astype(np.float32)
    if not np.isfinite(positions[visible]).all():
        raise ValueError(f"`{path}` has visible joints that are not finite")
    return positions, visible, occluded


def _joints(path: Path) -> NDArray[Any]:
    if path.suffix == ".npz":
        return read_arrays(path, ["joints"])["joints"]
    from scipy.io import loadmat

    try:
        return np.asarray(loadmat(path)["joints"])
    except (ValueError, OSError, KeyError, TypeError) as error:
        raise ValueError(f"`{path}` must hold an array joints ({error})") from error
