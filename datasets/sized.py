"""Pictures whose size someone else has written down: it says whether positions in them are what they were."""

from pathlib import Path

from torch import Tensor

from pcsa.datasets.faults import reading
from pcsa.datasets.images import read_image

_ORIENTATION = 0x0112  # EXIF's tag
_TURNED = (5, 6, 7, 8)  # orientations that exchange width and height


def read_sized(path: Path, width: int, height: int) -> Tensor:
    """Read a picture in the frame in which it has a declared size, `[3, height, width]` from 0 to 1.

    Programs that write down positions in pictures either turn them as EXIF says, or take them as they are stored. The
    declared size tells which where width and height change places; where it does not, the picture is refused.

    Args:
        path: The picture.
        width: Its declared width.
        height: Its declared height.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read, has another size, or may have been turned or not; the message names the file.

    """
    image = read_image(path)
    shown, orientation = (image.shape[2], image.shape[1]), _header(path)[1]
    if fault := _fault(shown, orientation, (width, height)):
        raise ValueError(f"`{path}`: {fault}")
    if shown == (width, height):
        return image
    # What EXIF asked for is undone: a turn, or mirroring in a diagonal, which is its own reverse.
    if orientation in (6, 8):
        return image.rot90(1 if orientation == 6 else -1, (1, 2)).contiguous()
    mirrored = image.transpose(1, 2)
    return (mirrored if orientation == 5 else mirrored.flip(1, 2)).contiguous()


def size_fault(path: Path, width: int, height: int) -> str | None:
    """Return what :func:`read_sized` would raise, as far as the header of the file tells; None if nothing."""
    if not path.is_file():
        return "is missing"
    try:
        return _fault(*_header(path), (width, height))
    except (OSError, ValueError) as error:
        return str(error).removeprefix(f"`{path}`: ")


def _fault(shown: tuple[int, int], orientation: int, declared: tuple[int, int]) -> str | None:
    stored = shown[::-1] if orientation in _TURNED else shown
    if declared not in (stored, shown):
        seen = f"{shown[0]} x {shown[1]}" + (f", stored as {stored[0]} x {stored[1]}" if stored != shown else "")
        rule = f"must be the {declared[0]} x {declared[1]} pixels of the annotations"
        return f"size (={seen}) {rule}: was the picture resized or turned after it was annotated?"
    if orientation != 1 and stored == shown:
        rule = "must be 1 here: the size does not tell if annotations are for the picture as stored or as turned"
        return f"EXIF orientation (={orientation}) {rule}. Turn the pixels and remove the tag"
    return None


def _header(path: Path) -> tuple[tuple[int, int], int]:
    """Return (width, height) as shown, and the EXIF orientation, 1 where there is none."""
    from PIL import Image

    with reading(path, "a picture"), Image.open(path) as file:
        orientation = file.getexif().get(_ORIENTATION, 1)
        # Of a TIFF, Pillow gives the size as shown, and of all others as stored.
        swapped = orientation in _TURNED and file.format != "TIFF"
        return file.size[::-1] if swapped else file.size, orientation if orientation in range(2, 9) else 1
