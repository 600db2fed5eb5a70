"""Pictures as PNG, SVG and PDF: the same pixels, and a title that says it all."""

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from pcsa.viz import Scene, save_png
from pcsa.viz.files import short_ids, write_picture

ID = "70637361ce74408201945ae87d45dd32"


def test_long_ids_lose_their_middle_and_nothing_else_does():
    assert short_ids(f"chair/{ID}, left") == "chair/7063…dd32, left"
    for text in ("", "deadbeef", "a cloud of 2048 points", f"x{ID}", ID.upper()):
        assert short_ids(text) == text


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (40, 70, 3), dtype=np.uint8)


def test_svg_holds_the_pixels_and_the_title(pixels, tmp_path):
    path = tmp_path / "deep" / "a.svg"
    write_picture(path, Image.fromarray(pixels), ID)
    text = path.read_text()
    assert ID in text
    (found,) = re.findall(r'data:image/png;base64,\s*([^"]+)"', text)
    drawn = np.asarray(Image.open(io.BytesIO(base64.b64decode(found))).convert("RGB"))
    # The file turns it upside down, twice.
    np.testing.assert_array_equal(drawn[::-1], pixels)
    again = tmp_path / "b.svg"
    write_picture(again, Image.fromarray(pixels), ID)
    assert re.sub(r'id="\w+"|#\w+', "", again.read_text()) == re.sub(r'id="\w+"|#\w+', "", text)


def test_pdf_and_png_of_the_same_size(pixels, tmp_path):
    for name in ("a.pdf", "a.png", "without ending"):
        write_picture(tmp_path / name, Image.fromarray(pixels), ID)
    content = (tmp_path / "a.pdf").read_bytes()
    assert content.startswith(b"%PDF")
    assert b"/Width 70" in content
    assert b"/Height 40" in content
    assert ID.encode() in content
    for name in ("a.png", "without ending"):
        with Image.open(tmp_path / name) as picture:
            assert picture.text["Title"] == ID
            np.testing.assert_array_equal(np.asarray(picture), pixels)


def test_a_picture_shows_the_short_id_and_keeps_the_whole(tmp_path):
    for name, title in (("a.png", ID), ("b.png", short_ids(ID))):
        save_png(tmp_path / name, Scene(np.eye(3), title=title), size=(200, 100), backend="matplotlib")
    first, second = (Image.open(tmp_path / name) for name in ("a.png", "b.png"))
    np.testing.assert_array_equal(np.asarray(first), np.asarray(second))
    assert first.text["Title"] == ID
