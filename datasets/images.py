"""Pictures from files, and the base of all datasets of pictures with keypoints."""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pcsa._core.checks import check_interval
from pcsa.datasets.crops import CropAugment, crop
from pcsa.datasets.faults import reading
from pcsa.datasets.files import existing
from pcsa.datasets.limits import check_pixels
from pcsa.datasets.samples import Samples
from pcsa.datasets.tiff import declared_bits, is_tiff, may_have_more, needs_tifffile, num_pages, read_tiff
from pcsa.datasets.values import ValueRange, unit_values

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
_ORIENTATION = 0x0112  # EXIF's tag: 1 is upright
#: Formats that are read, by Pillow's names.
_FORMATS = ("PNG", "JPEG", "JPEG2000", "BMP", "DIB", "GIF", "TIFF", "WEBP", "PPM", "TGA", "PCX", "SGI")
_ENDS = {"JPEG": b"\xff\xd9", "MPO": b"\xff\xd9", "PNG": b"IEND"}  # what whole files end with
TURNED = (5, 6, 7, 8)  # orientations that exchange width and height


def read_image(path: str | os.PathLike[str], value_range: ValueRange | None = None, *, labeled: bool = False) -> Tensor:
    """Read a picture as RGB, `[3, H, W]` float32 from 0 to 1.

    The picture is turned as its EXIF orientation says. Gray, two-valued, CMYK and palettes are converted (color
    profiles are not applied), and transparent parts lie on black. Values follow the rule of
    :func:`pcsa.datasets.values.unit_values`; colors of 16 bits keep 8 of them in PNG, all in TIFF. A file of several
    pictures (pages, frames) is refused; a JPEG with further pictures behind its own (MPO) is that one.

    Args:
        path: A PNG, JPEG, BMP, GIF, WebP or another of Pillow's formats of pixels, or a TIFF of integers or floats.
        value_range: What 0 and 1 stand for in the file. Default: see the rule.
        labeled: Whether labels belong to the picture. One that EXIF turns is then refused: whether its labels are
            in pixels as they are stored or as they are shown is not known.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no picture, is cut off, holds several, is too large (:mod:`pcsa.datasets.limits`),
            or has values that the rule refuses; the message names the file.

    """
    path = existing(path)
    with reading(path, "a picture"):
        values, alpha, bits = _decoded(path, value_range, labeled)
        unit = unit_values(values, value_range, bits=bits)
        if unit.ndim == 2:
            unit = np.broadcast_to(unit[:, :, None], (*unit.shape, 3))
        if alpha is not None:
            unit = unit * alpha[:, :, None]
        return torch.from_numpy(np.ascontiguousarray(unit.transpose(2, 0, 1)))


def check_readable(path: str | os.PathLike[str], value_range: ValueRange | None = None) -> None:
    """Raise as :func:`read_image` does, without decoding the pictures of 8 bits that are whole to their end."""
    from PIL import UnidentifiedImageError

    path = existing(path)
    with reading(path, "a picture"):
        try:
            with _opened(path) as file:
                plain = file.format in _ENDS and file.mode[0] not in "IF" and value_range is None
                if plain and not (file.format == "PNG" and _png_bits(path) == 16) and _is_whole(path, str(file.format)):
                    return
        except UnidentifiedImageError:
            if not is_tiff(path):
                raise
        read_image(path, value_range)


def _opened(path: Path) -> Any:
    """Open a picture of a known format, none that another program would be started for, and none too large."""
    from PIL import Image

    file = Image.open(path, formats=_FORMATS)
    try:
        check_pixels(path, file.width, file.height)
    except ValueError:
        file.close()
        raise
    return file


def _is_whole(path: Path, format: str) -> bool:
    with open(path, "rb") as stream:
        stream.seek(max(0, path.stat().st_size - 64))
        return _ENDS[format] in stream.read()


class PictureHeader(NamedTuple):
    """What the header of a picture says."""

    size: tuple[int, int]  # (width, height) as it is shown, that is as read_image returns it
    orientation: int  # EXIF's, 1 where there is none


def picture_header(path: str | os.PathLike[str]) -> PictureHeader:
    """Read the header of a picture alone: its size and its orientation.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no picture, or holds several; the message names the file.

    """
    from PIL import UnidentifiedImageError

    path = existing(path)
    with reading(path, "a picture"):
        try:
            with _opened(path) as file:
                turned = _check_header(path, file)
                # Pillow gives the size of a TIFF as it is shown, and of all others as they are stored.
                swapped = turned in TURNED and file.format != "TIFF"
                return PictureHeader((file.height, file.width) if swapped else (file.width, file.height), turned)
        except UnidentifiedImageError:
            if not is_tiff(path):
                raise
            height, width = read_tiff(path)[0].shape[:2]
            return PictureHeader((width, height), 1)


def labeled_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Return (width, height) of a picture that labels belong to, by its header; raise as :func:`read_image` does."""
    header = picture_header(path)
    with reading(path, "a picture"):
        _check_upright(header.orientation)
    return header.size


def _check_upright(orientation: int) -> None:
    if orientation != 1:
        raise ValueError(
            f"EXIF orientation (={orientation}) must be 1: whether the labels are in pixels of the picture as it is "
            "stored or as it is shown is not known. Turn the pixels and remove the tag"
        )


def _check_header(path: Path, file: Any) -> int:
    """Return the orientation of an open picture; raise if there are several."""
    number = getattr(file, "n_frames", 1)
    if file.format == "TIFF" and (number > 1 or may_have_more(file.tag_v2)):
        number = num_pages(path)
    # The further pictures of a phone's JPEG are depths and small copies.
    if number > 1 and file.format != "MPO":
        raise ValueError(f"must hold one picture: it has {number}")
    orientation = file.getexif().get(_ORIENTATION, 1)
    return orientation if orientation in range(2, 9) else 1


def _decoded(
    path: Path, value_range: ValueRange | None, labeled: bool
) -> tuple[NDArray[Any], NDArray[np.float32] | None, int | None]:
    """Return the values of a picture `[H, W]` or `[H, W, 3]`, its opacity `[H, W]`, and its declared bits."""
    from PIL import ImageOps, UnidentifiedImageError

    try:
        with _opened(path) as file:
            orientation = _check_header(path, file)
            if labeled:
                _check_upright(orientation)
            if file.format == "TIFF" and needs_tifffile(file.tag_v2):
                return (*read_tiff(path), None)
            image: Any = ImageOps.exif_transpose(file)
            if image.mode.startswith(("I", "F")):
                return _deep(file, image)
            if file.format == "PNG" and _png_bits(path) == 16:
                _check_upper_bits(image, value_range)
            if image.mode.upper() in ("LA", "PA", "RGBA") or "transparency" in image.info:
                array = np.asarray(image.convert("RGBA"))
                return array[:, :, :3], array[:, :, 3].astype(np.float32) / np.float32(255), None
            return np.asarray(image if image.mode in ("1", "L") else image.convert("RGB")), None, None
    except UnidentifiedImageError:
        if not is_tiff(path):
            raise
        return (*read_tiff(path), None)


def _deep(file: Any, image: Any) -> tuple[NDArray[Any], None, int | None]:
    """Return the values of a picture of more than 8 bits, as :func:`_decoded` does."""
    array = np.asarray(image)
    if image.mode == "F":
        return array, None, None
    # PGM: Pillow brings them to 16 bits, whatever the largest value that the file declares.
    scaled = file.format == "PPM"
    return array.astype(np.uint16), None, 16 if scaled else declared_bits(getattr(file, "tag_v2", {}))


def _png_bits(path: Path) -> int:
    with open(path, "rb") as stream:
        return stream.read(25)[24]


def _check_upper_bits(image: Any, value_range: ValueRange | None) -> None:
    """Raise unless the upper 8 of 16 bits, which are all that Pillow reads of a PNG's colors, say what is seen."""
    most = max(high for _, high in image.convert("RGB").getextrema())
    if value_range is not None or 0 < most < 64:
        raise ValueError(
            f"colors of 16 bits (the largest from {256 * most} to {256 * most + 255}) must use more than a quarter of "
            "them, without `value_range`: only their upper 8 bits are read. Save the picture as TIFF"
        )


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

    def __init__(
        self,
        input_size: Sequence[int],
        augment: CropAugment | None,
        axes: int = 2,
        value_range: ValueRange | None = None,
    ) -> None:
        super().__init__(input_size, axes)
        if value_range is not None:
            check_interval("value_range", value_range)
        self.value_range = value_range
        self.augment = CropAugment() if augment is None else augment

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._crop(index)

    def augmented(self, index: int, generator: torch.Generator) -> dict[str, Any]:
        """Return the item randomly varied; all randomness is the generator's."""
        return self._crop(index, augment=self.augment, generator=generator)

    def read(self, path: str | os.PathLike[str]) -> Tensor:
        """Read a picture of the dataset, `[3, H, W]` from 0 to 1; one that EXIF turns is refused."""
        return read_image(path, self.value_range, labeled=True)

    def _crop(self, index: int, **arguments: Any) -> dict[str, Any]:
        index, size = self._row(index), (self.input_size[-2], self.input_size[-1])
        return crop(self.source(index), size, padding=self.padding, pairs=self.pairs, **arguments) | {"index": index}


def masked(keypoints: np.ndarray, visible: np.ndarray) -> dict[str, Tensor]:
    """Return ``keypoints`` and ``visible`` of a sample; keypoints that are not visible become 0."""
    shown = np.where(visible[:, None], keypoints, 0).astype(np.float32)
    return {"keypoints": torch.from_numpy(shown), "visible": torch.from_numpy(np.asarray(visible, dtype=bool).copy())}


def clipped_box(box: Sequence[float], width: int, height: int) -> list[float] | None:
    """Return the part of a box that is in the picture; None if no area of it is."""
    if len(box) != 4 or not all(math.isfinite(value) for value in box):
        return None
    left, top = max(box[0], 0.0), max(box[1], 0.0)
    right, bottom = min(box[0] + box[2], width), min(box[1] + box[3], height)
    return [left, top, right - left, bottom - top] if right > left and bottom > top else None
