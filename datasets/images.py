"""Pictures from files, and the base of all datasets of pictures with keypoints."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pcsa.datasets.crops import CropAugment, crop
from pcsa.datasets.files import existing
from pcsa.datasets.samples import Samples

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")


def read_image(path: str | os.PathLike[str]) -> Tensor:
    """Read a picture as RGB, `[3, H, W]` float32 from 0 to 1.

    The picture is turned as its EXIF orientation says; gray, CMYK and palettes are converted, transparent parts lie on
    black, and 16 bits keep their range.

    Args:
        path: Any file that Pillow reads.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no picture or is cut off; the message names the file.

    """
    from PIL import Image, ImageOps

    path = existing(path)
    try:
        with Image.open(path) as file:
            image: Any = ImageOps.exif_transpose(file)
            if image.mode.startswith(("I", "F")):
                values = np.asarray(image, dtype=np.float32) / (65535 if image.mode.startswith("I") else 1)
                return torch.from_numpy(values).clamp(0, 1).expand(3, -1, -1).contiguous()
            if "A" in image.mode or "transparency" in image.info:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
            array = np.asarray(image.convert("RGB"))
    # Pillow has no one class for what can be wrong with a file.
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise ValueError(f"`{path}` cannot be decoded as a picture ({error})") from error
    return torch.from_numpy(array.transpose(2, 0, 1).astype(np.float32) / 255)


class KeypointImages(Samples):
    """Pictures with keypoints; a subclass says what the source sample of an item is.

    The source sample, ``source(i)``, is in the frame of the file: ``image`` `[3, H, W]` from 0 to 1, ``keypoints``
    `[K, D]` in pixels whose centers are integers (0 where they are not visible), ``visible`` `[K]`, ``box`` `[4]` (x,
    y, width, height; the picture spans 0 to its width) and extras. ``dataset[i]`` is the crop that a network takes,
    with ``to_source`` and ``index``, and ``augmented(i, generator)`` a randomly varied one: see
    :func:`pcsa.datasets.crops.crop`.
    """

    pairs: tuple[tuple[int, int], ...]
    bones: tuple[tuple[int, int], ...]
    padding: float = 1.25

    def __init__(self, input_size: Sequence[int], augment: CropAugment | None, axes: int = 2) -> None:
        super().__init__(input_size, axes)
        self.augment = CropAugment() if augment is None else augment

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._crop(index)

    def augmented(self, index: int, generator: torch.Generator) -> dict[str, Any]:
        """Return the item randomly varied; all randomness is the generator's."""
        return self._crop(index, augment=self.augment, generator=generator)

    def _crop(self, index: int, **arguments: Any) -> dict[str, Any]:
        index, size = self._row(index), (self.input_size[-2], self.input_size[-1])
        return crop(self.source(index), size, padding=self.padding, pairs=self.pairs, **arguments) | {"index": index}


def masked(keypoints: np.ndarray, visible: np.ndarray) -> dict[str, Tensor]:
    """Return ``keypoints`` and ``visible`` of a sample; keypoints that are not visible become 0."""
    shown = np.where(visible[:, None], keypoints, 0).astype(np.float32)
    return {"keypoints": torch.from_numpy(shown), "visible": torch.from_numpy(np.asarray(visible, dtype=bool).copy())}


def clipped_box(box: Sequence[float], width: int, height: int) -> list[float] | None:
    """Return the part of a box that is in the picture; None if no area of it is."""
    if len(box) != 4 or not all(np.isfinite(box)):
        return None
    left, top = max(box[0], 0.0), max(box[1], 0.0)
    right, bottom = min(box[0] + box[2], width), min(box[1] + box[3], height)
    return [left, top, right - left, bottom - top] if right > left and bottom > top else None
