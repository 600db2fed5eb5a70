from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pcsa.datasets.images import clipped_box, read_image

RAMP = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3) * 3


def test_rgb(tmp_path: Path) -> None:
    Image.fromarray(RAMP).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert image.dtype == torch.float32
    assert image.shape == (3, 4, 6)
    np.testing.assert_allclose(image.permute(1, 2, 0).numpy() * 255, RAMP, atol=1e-4)


def test_other_kinds_of_pictures(tmp_path: Path) -> None:
    Image.fromarray(RAMP[:, :, 0]).save(tmp_path / "gray.png")
    gray = read_image(tmp_path / "gray.png")
    assert gray.shape == (3, 4, 6)
    for channel in gray:
        np.testing.assert_allclose(channel.numpy() * 255, RAMP[:, :, 0], atol=1e-4)
    # 200 of 255, and nothing where it is transparent.
    rgba = np.full((2, 2, 4), 200, dtype=np.uint8)
    rgba[0, :, 3], rgba[1, :, 3] = 255, 0
    Image.fromarray(rgba).save(tmp_path / "alpha.png")
    torch.testing.assert_close(read_image(tmp_path / "alpha.png")[0, :, 0], torch.tensor([200 / 255, 0.0]))
    # No ink is white; full cyan has no red.
    cmyk = np.zeros((8, 8, 4), dtype=np.uint8)
    Image.frombytes("CMYK", (8, 8), cmyk.tobytes()).save(tmp_path / "white.jpg")
    assert read_image(tmp_path / "white.jpg").min() > 0.98
    cmyk[:, :, 0] = 255
    Image.frombytes("CMYK", (8, 8), cmyk.tobytes()).save(tmp_path / "cyan.jpg")
    cyan = read_image(tmp_path / "cyan.jpg").mean((1, 2))
    assert cyan[0] < 0.05
    assert cyan[1:].min() > 0.9
    deep = np.array([[0, 65535], [32768, 0]], dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    torch.testing.assert_close(read_image(tmp_path / "deep.png")[1], torch.tensor([[0.0, 1.0], [32768 / 65535, 0.0]]))


def test_exif_orientation(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    Image.fromarray(RAMP).save(tmp_path / "turned.png", exif=exif)
    expected = np.rot90(RAMP, -1)
    np.testing.assert_allclose(read_image(tmp_path / "turned.png").permute(1, 2, 0).numpy() * 255, expected, atol=1e-4)


def test_what_is_no_picture(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.png"):
        read_image(tmp_path / "none.png")
    (tmp_path / "text.jpg").write_text("hello")
    with pytest.raises(ValueError, match=r"text\.jpg.*cannot be decoded"):
        read_image(tmp_path / "text.jpg")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(tmp_path / "cut.jpg")
    whole = (tmp_path / "cut.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"cut\.jpg.*cannot be decoded"):
        read_image(tmp_path / "cut.jpg")
    (tmp_path / "empty.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"empty\.png"):
        read_image(tmp_path / "empty.png")


def test_clipped_box() -> None:
    assert clipped_box([-5, 2, 10, 4], 20, 20) == [0, 2, 5, 4]
    assert clipped_box([15, 18, 10, 4], 20, 20) == [15, 18, 5, 2]
    for box in ([20, 0, 5, 5], [-5, 0, 5, 5], [1, 1, 0, 5], [1, 1, 5, -1], [float("nan"), 0, 1, 1], [1, 2, 3]):
        assert clipped_box(box, 20, 20) is None
