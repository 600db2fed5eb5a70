"""Pictures that EXIF turns, read in the frame in which they have the size that is written down."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from pcsa.datasets.sized import read_sized, size_fault

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def save(path: Path, orientation: int, size: tuple[int, int] = (30, 20)) -> Path:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(PIXELS[: size[1], : size[0]]).save(path, exif=exif)
    return path


def as_tensor(image: Image.Image | None) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


@pytest.mark.parametrize("ending", ["png", "tiff"])
@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_the_size_tells_whether_annotations_are_of_the_turned_picture(
    tmp_path: Path, orientation: int, ending: str
) -> None:
    path = save(tmp_path / f"a.{ending}", orientation)
    with Image.open(save(tmp_path / "a.png", orientation)) as file:
        shown = as_tensor(ImageOps.exif_transpose(file))
    torch.testing.assert_close(read_sized(path, 20, 30), shown)
    torch.testing.assert_close(read_sized(path, 30, 20), as_tensor(Image.fromarray(PIXELS)))
    assert size_fault(path, 20, 30) is size_fault(path, 30, 20) is None
    with pytest.raises(ValueError, match=r"a\.\w+`: size \(=20 x 30, stored as 30 x 20\) must be the 40 x 60 pixels"):
        read_sized(path, 40, 60)


@pytest.mark.parametrize("orientation", [0, 1, 9])
def test_no_turn(tmp_path: Path, orientation: int) -> None:
    path = save(tmp_path / "a.png", orientation)
    torch.testing.assert_close(read_sized(path, 30, 20), as_tensor(Image.fromarray(PIXELS)))
    assert size_fault(path, 30, 20) is None
    # Sides that are exchanged without EXIF saying so: somebody turned the pixels.
    with pytest.raises(ValueError, match=r"size \(=30 x 20\) must be the 20 x 30 pixels of the annotations: was"):
        read_sized(path, 20, 30)


@pytest.mark.parametrize(("orientation", "size"), [(2, (30, 20)), (3, (30, 20)), (4, (30, 20)), (6, (20, 20))])
def test_what_the_size_does_not_tell_is_refused(tmp_path: Path, orientation: int, size: tuple[int, int]) -> None:
    path = save(tmp_path / "a.png", orientation, size)
    message = rf"EXIF orientation \(={orientation}\) must be 1 here: the size does not tell"
    with pytest.raises(ValueError, match=rf"a\.png`: {message}"):
        read_sized(path, *size)
    fault = size_fault(path, *size)
    assert fault is not None
    assert fault.startswith(f"EXIF orientation (={orientation})")


def test_no_picture(tmp_path: Path) -> None:
    assert size_fault(tmp_path / "none.png", 1, 1) == "is missing"
    with pytest.raises(FileNotFoundError, match=r"none\.png"):
        read_sized(tmp_path / "none.png", 1, 1)
    (tmp_path / "text.png").write_text("text")
    fault = size_fault(tmp_path / "text.png", 1, 1)
    assert fault is not None
    assert fault.startswith("cannot be read as a picture")
