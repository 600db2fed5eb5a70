from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from pcsa.datasets.images import clipped_box, labeled_size, picture_header, read_image

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


DEEP = np.array([[0, 16384, 65535], [1000, 2000, 3000]], dtype=np.uint16)


@pytest.mark.parametrize(
    ("values", "options", "expected"),
    [
        (DEEP, {}, DEEP / 65535),
        (DEEP, {"byteorder": ">"}, DEEP / 65535),
        (DEEP, {"compression": "deflate"}, DEEP / 65535),
        (DEEP, {"photometric": "miniswhite"}, 1 - DEEP / 65535),
        ((DEEP // 257).astype(np.uint8), {"photometric": "miniswhite"}, 1 - DEEP // 257 / 255),
        (DEEP.astype(np.uint32) * 65537, {}, DEEP / 65535),  # above 2**31, where Pillow's numbers are negative
        (DEEP.astype(np.uint64) * (2**48 + 2**32 + 2**16 + 1), {}, DEEP / 65535),
        (DEEP / np.float32(65535), {}, DEEP / 65535),
        (DEEP / np.float64(65535), {}, DEEP / 65535),
        (np.array([[0, 0.25, 1]], np.float16), {}, [[0, 0.25, 1]]),
    ],
)
def test_tiff_of_every_type(tmp_path: Path, values: np.ndarray, options: dict, expected: np.ndarray) -> None:
    tifffile.imwrite(tmp_path / "a.tif", values, **({"photometric": "minisblack"} | options))
    image = read_image(tmp_path / "a.tif")
    assert image.dtype == torch.float32
    for channel in image:
        np.testing.assert_allclose(channel, expected, rtol=1e-6, atol=1e-7)
    assert picture_header(tmp_path / "a.tif").size == values.shape[::-1]


def test_tiff_of_colors(tmp_path: Path) -> None:
    colors = np.random.default_rng(0).integers(0, 65536, (4, 5, 3)).astype(np.uint16)
    expected = colors.transpose(2, 0, 1) / 65535
    path = tmp_path / "a.tif"
    for options in ({}, {"planarconfig": "contig"}):
        tifffile.imwrite(path, colors, photometric="rgb", **options)
        np.testing.assert_allclose(read_image(path), expected, rtol=1e-6)
    tifffile.imwrite(path, colors.transpose(2, 0, 1), photometric="rgb", planarconfig="separate")
    np.testing.assert_allclose(read_image(path), expected, rtol=1e-6)
    tifffile.imwrite(path, (colors / 65535).astype(np.float32), photometric="rgb")
    np.testing.assert_allclose(read_image(path), expected, rtol=1e-6)
    # On black: colors times their opacity, unless the file has multiplied them already.
    alpha = np.full((4, 5, 1), 13107, np.uint16)
    for kind, factor in (("unassalpha", 0.2), ("assocalpha", 1), ("unspecified", 1)):
        tifffile.imwrite(path, np.concatenate([colors, alpha], 2), photometric="rgb", extrasamples=[kind])
        np.testing.assert_allclose(read_image(path), factor * expected, rtol=1e-5)
    premultiplied = np.full((4, 5, 4), 100, np.uint8)
    tifffile.imwrite(path, premultiplied, photometric="rgb", extrasamples=["assocalpha"])
    np.testing.assert_allclose(read_image(path), 100 / 255, rtol=1e-6)


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        (DEEP[1:], {}, r"a\.tif`: values \(uint16, from 1000 to 3000\) use less than a quarter of 16 bits"),
        (DEEP[1:].astype(np.int32), {}, r"values \(int32, from 1000 to 3000\) must come with `value_range`"),
        (DEEP[1:].astype(np.uint32), {}, "less than a quarter of 32 bits"),
        (DEEP[1:].astype(np.int16), {}, r"int16"),
        (np.array([[-5, 7]], np.int8), {}, r"values \(int8, from -5 to 7\) must come with"),
        (DEEP.astype(np.float32), {}, r"values \(float32, from 0 to 65535\) must be from 0 to 1"),
        (np.full((2, 3), np.nan, np.float32), {}, "must be finite: 6 are NaN"),
        (np.zeros((3, 4, 5), np.uint8), {}, "must hold one picture: it has 3"),
        (np.zeros((3, 4, 5), np.float32), {}, "must hold one picture: it has 3"),
        (np.zeros((3, 4, 5), np.float64), {}, "must hold one picture: it has 3"),
        (np.zeros((4, 5, 4), np.uint16), {"photometric": "separated", "planarconfig": "contig"}, "must be gray or RGB"),
    ],
)
def test_tiff_that_does_not_say_what_is_seen(tmp_path: Path, values: np.ndarray, options: dict, message: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", values, **({"photometric": "minisblack"} | options))
    with pytest.raises(ValueError, match=message):
        read_image(tmp_path / "a.tif")


def test_a_compression_that_tifffile_lacks(tmp_path: Path) -> None:
    Image.fromarray(DEEP.astype(np.int32)).save(tmp_path / "a.tif", compression="tiff_lzw")
    with pytest.raises(ValueError, match=r"a\.tif`: compression \(LZW\) of int32 must be none, packed bits or deflate"):
        read_image(tmp_path / "a.tif", (0, 65535))
    # What Pillow reads rightly may be compressed so.
    for values in (DEEP, (DEEP / 65535).astype(np.float32)):
        Image.fromarray(values).save(tmp_path / "a.tif", compression="tiff_lzw")
        np.testing.assert_allclose(read_image(tmp_path / "a.tif")[0], DEEP / 65535, rtol=1e-6)


def test_a_smaller_copy_is_no_second_picture(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(DEEP, photometric="minisblack")
        writer.write(DEEP[:1], photometric="minisblack", subfiletype=1)
    np.testing.assert_allclose(read_image(tmp_path / "a.tif")[0], DEEP / 65535, rtol=1e-6)


def test_stacks_of_imagej(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((7, 4, 5), np.uint16), imagej=True)
    with pytest.raises(ValueError, match=r"a\.tif`: must hold one picture: it has 7"):
        read_image(tmp_path / "a.tif")
    # Stacks too large for pages have one page, and say in a text how many pictures follow it.
    description = "ImageJ=1.53\nimages=5\nslices=5\n"
    tifffile.imwrite(tmp_path / "b.tif", np.zeros((4, 5), np.uint16), description=description, metadata=None)
    with pytest.raises(ValueError, match="it has 5"):
        read_image(tmp_path / "b.tif")


def write_png(path: Path, values: np.ndarray, color: int, chunks: bytes = b"") -> None:
    """Write a PNG of 16 bits, which Pillow cannot; the format's number for gray is `color` 0, for RGB 2."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, color, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    content = chunk(b"IHDR", header) + chunks + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)


def test_png_of_16_bits(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write_png(path, DEEP, 0)
    np.testing.assert_allclose(read_image(path)[2], DEEP / 65535, rtol=1e-6)
    colors = np.random.default_rng(0).integers(0, 65536, (4, 5, 3)).astype(np.uint16)
    write_png(path, colors, 2)
    np.testing.assert_allclose(read_image(path), colors.transpose(2, 0, 1) / 65535, atol=1 / 255)
    with pytest.raises(ValueError, match=r"a\.png`: colors of 16 bits.*without `value_range`.*as TIFF"):
        read_image(path, (0, 65535))
    # 12 bits in 16: in colors nearly nothing is left of them.
    write_png(path, colors // 16, 2)
    with pytest.raises(ValueError, match=r"colors of 16 bits \(the largest from 3\d+ to 4095\) must use more"):
        read_image(path)
    write_png(path, colors[:, :, 0] // 16, 0)
    with pytest.raises(ValueError, match=r"less than a quarter of 16 bits.*\(0, 4095\) for 12 bits"):
        read_image(path)
    np.testing.assert_allclose(read_image(path, (0, 4095))[0], colors[:, :, 0] // 16 / 4095, rtol=1e-6)


def test_palettes_and_two_values(tmp_path: Path) -> None:
    values = np.array([[0, 1], [1, 0]], dtype=bool)
    Image.fromarray(values).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png")[0], values)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="minisblack")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif")[0], values)
    palette = Image.fromarray(np.array([[0, 1, 2]], dtype=np.uint8), "P")
    palette.putpalette([255, 0, 0, 0, 51, 0, 0, 0, 102])
    for name in ("a.png", "a.gif", "a.bmp", "a.tif"):
        palette.save(tmp_path / name)
        expected = torch.tensor([[1, 0, 0], [0, 0.2, 0], [0, 0, 0.4]])
        torch.testing.assert_close(read_image(tmp_path / name)[:, 0].T, expected)
    palette.save(tmp_path / "a.png", transparency=0)
    assert read_image(tmp_path / "a.png")[:, 0, 0].tolist() == [0, 0, 0]
    both = np.array([[[200, 255], [200, 51]]], dtype=np.uint8)
    Image.fromarray(both, "LA").save(tmp_path / "a.png")
    torch.testing.assert_close(read_image(tmp_path / "a.png")[0, 0], torch.tensor([200 / 255, 40 / 255]))


@pytest.mark.parametrize("ending", ["gif", "png", "webp"])
def test_an_animation_is_no_picture(tmp_path: Path, ending: str) -> None:
    frames = [Image.fromarray(np.full((4, 5, 3), 60 * i, dtype=np.uint8)) for i in range(3)]
    frames[0].save(tmp_path / f"a.{ending}", save_all=True, append_images=frames[1:])
    for read in (read_image, picture_header):
        with pytest.raises(ValueError, match=rf"a\.{ending}`: must hold one picture: it has 3"):
            read(tmp_path / f"a.{ending}")


def test_a_phone_s_jpeg_is_its_first_picture(tmp_path: Path) -> None:
    frames = [Image.fromarray(np.full((8, 8, 3), value, dtype=np.uint8)) for value in (200, 10)]
    frames[0].save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=frames[1:])
    torch.testing.assert_close(read_image(tmp_path / "a.jpg"), torch.full((3, 8, 8), 200 / 255), rtol=0, atol=0.01)


def test_exif_orientation(tmp_path: Path) -> None:
    exif = Image.Exif()
    for orientation in range(10):
        exif[0x0112] = orientation
        for name in ("a.png", "a.jpg", "a.tif"):
            Image.fromarray(np.repeat(np.repeat(RAMP, 8, 0), 8, 1)).save(tmp_path / name, exif=exif)
            image, header = read_image(tmp_path / name), picture_header(tmp_path / name)
            turned = orientation in range(5, 9)
            assert image.shape[1:] == ((48, 32) if turned else (32, 48))
            assert header.size == (image.shape[2], image.shape[1])
            # Orientations that EXIF does not have turn nothing.
            assert header.orientation == (orientation if orientation in range(2, 9) else 1)
    exif[0x0112] = 6  # to be turned a quarter clockwise
    Image.fromarray(RAMP).save(tmp_path / "turned.png", exif=exif)
    expected = np.rot90(RAMP, -1)
    np.testing.assert_allclose(read_image(tmp_path / "turned.png").permute(1, 2, 0).numpy() * 255, expected, atol=1e-4)


def test_a_labeled_picture_is_not_turned(tmp_path: Path) -> None:
    exif = Image.Exif()
    for orientation in range(1, 9):
        exif[0x0112] = orientation
        Image.fromarray(RAMP).save(tmp_path / "a.png", exif=exif)
        if orientation == 1:
            assert read_image(tmp_path / "a.png", labeled=True).shape == (3, 4, 6)
            assert labeled_size(tmp_path / "a.png") == (6, 4)
            continue
        for read in (lambda path: read_image(path, labeled=True), labeled_size):
            with pytest.raises(ValueError, match=rf"a\.png`: EXIF orientation \(={orientation}\) must be 1"):
                read(tmp_path / "a.png")


def test_what_is_no_picture(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.png"):
        read_image(tmp_path / "none.png")
    (tmp_path / "text.jpg").write_text("hello")
    with pytest.raises(ValueError, match=r"text\.jpg`: cannot be read as a picture"):
        read_image(tmp_path / "text.jpg")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(tmp_path / "cut.jpg")
    whole = (tmp_path / "cut.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"cut\.jpg`: cannot be read as a picture"):
        read_image(tmp_path / "cut.jpg")
    tifffile.imwrite(tmp_path / "cut.tif", np.zeros((64, 64)))
    whole = (tmp_path / "cut.tif").read_bytes()
    (tmp_path / "cut.tif").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "none.tif").write_bytes(b"II*\0" + bytes(50))
    with pytest.raises(ValueError, match=r"none\.tif`: must hold one picture: it has 0"):
        read_image(tmp_path / "none.tif")
    for file in ("cut.tif", "empty.png"):
        with pytest.raises(ValueError, match=file.replace(".", r"\.")):
            read_image(tmp_path / file)


def test_clipped_box() -> None:
    assert clipped_box([-5, 2, 10, 4], 20, 20) == [0, 2, 5, 4]
    assert clipped_box([15, 18, 10, 4], 20, 20) == [15, 18, 5, 2]
    for box in ([20, 0, 5, 5], [-5, 0, 5, 5], [1, 1, 0, 5], [1, 1, 5, -1], [float("nan"), 0, 1, 1], [1, 2, 3]):
        assert clipped_box(box, 20, 20) is None
