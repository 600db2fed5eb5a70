import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from pcsa.viz import Overlay, keypoint_colors, save_overlay, save_overlays
from pcsa.viz.overlay import _colors, draw

GRAY = np.full((64, 48), 0.5)


def found(pixels, color, near=30):
    """Middle (x, y) of the pixels that have a color, in whole-number centers, and how many they are."""
    rows, columns = np.nonzero(np.abs(pixels.astype(float) - 255 * np.asarray(color)).max(2) < near)
    return (columns.mean(), rows.mean()) if len(rows) else None, len(rows)


def read(path):
    with Image.open(path) as picture:
        return np.asarray(picture)


@pytest.mark.parametrize("image", [GRAY, GRAY[None], np.stack([GRAY] * 3), torch.from_numpy(GRAY).half()])
@pytest.mark.parametrize("size", [(480, 640), (96, 500), (24, 32)])
def test_a_keypoint_is_where_it_belongs(image, size, tmp_path):
    # One in the middle of the first pixel, which lies half a scale inside of the picture's edge, at -1/2; others
    # between pixels.
    pos = np.array([[0.0, 0.0], [30.25, 12.5], [40.0, 59.75]])
    save_overlay(tmp_path / "dots.png", Overlay(image, predicted=pos[1:], ids=[1, 2]), size=size, legend=False)
    pixels = read(tmp_path / "dots.png")
    scale = min(size[0] / 48, size[1] / 64)
    assert pixels.shape == (64 * scale, 48 * scale, 3)
    for (x, y), color in zip(pos[1:], keypoint_colors([1, 2]), strict=True):
        place, count = found(pixels, color, near=30 if scale > 1 else 80)
        assert count > (5 if scale > 1 else 0)
        assert place == pytest.approx(((x + 0.5) * scale - 0.5, (y + 0.5) * scale - 0.5), abs=0.3 if scale > 1 else 0.8)
    if scale == 10:
        # Its dot reaches to 4 pixels from its middle at 4.5, and not beyond the picture.
        (x, y), _ = found(draw(Overlay(image, predicted=pos[:1]), size), keypoint_colors(1)[0])
        assert (x, y) == pytest.approx((4.5, 4.5), abs=0.3)


def test_marks_lie_on_what_they_mark():
    # The one white pixel of the image is below the middle of its dot, whatever the picture's size.
    image = np.zeros((20, 30))
    image[13, 7] = 1
    for size in ((300, 200), (440, 440), (95, 99)):
        bare, marked = draw(Overlay(image), size), draw(Overlay(image, predicted=[[7.0, 13.0]]), size)
        weight = bare[..., 0].astype(float)
        center = [(weight * at).sum() / weight.sum() for at in np.indices(weight.shape)[::-1]]
        assert found(marked, keypoint_colors(1)[0])[0] == pytest.approx(center, abs=0.3)


def test_rings_and_lines_are_drawn_where_there_are_annotations():
    pos = np.array([[10.0, 10.0], [10.0, 40.0]])
    true = np.array([[30.0, 10.0], [np.nan, np.nan]])
    pixels = draw(Overlay(GRAY, predicted=pos, annotated=true, visible=[True, False], bones=[(0, 1)]), (480, 640))
    first, second = keypoint_colors(2)
    # Second: a dot alone, at its place.
    assert found(pixels, second)[0] == pytest.approx((104.5, 404.5), abs=0.3)
    # First: dot at 104.5, ring at 304.5 with a hole in it, and a line between them.
    like = np.abs(pixels - 255 * first).max(2) < 30
    assert like[104, 104]
    assert not like[[101, 108], [304, 304]].any()
    assert like[104, 290:320].sum() > 3
    assert like[95:115, 200].any()
    # A bone: white with black edges.
    assert (pixels[250, 95:115] > 250).all(1).any()
    assert (pixels[250, 95:115] < 100).all(1).any()
    # Nothing of it without.
    bare = draw(Overlay(GRAY, predicted=pos), (480, 640))
    assert not (np.abs(bare - 255 * first).max(2) < 30)[:, 200:].any()
    assert np.ptp(bare[250].astype(int)) == 0
    # All annotations are missing: the predictions alone.
    hidden = Overlay(GRAY, predicted=pos, annotated=true, visible=[False, False])
    np.testing.assert_array_equal(draw(hidden, (480, 640)), bare)


def test_annotations_alone_have_bones():
    overlay = Overlay(
        GRAY, annotated=[[10.0, 10.0], [10.0, 40.0], [40.0, 40.0]], visible=[True, True, False], bones=[(0, 1), (1, 2)]
    )
    pixels = draw(overlay, (480, 640))
    assert (pixels[250, 95:115] > 250).all(1).any()
    assert np.ptp(pixels[400, 200:].astype(int)) == 0
    assert found(pixels, keypoint_colors(3)[2])[1] == 0


def test_depth_of_keypoints_is_not_looked_at_on_an_image():
    flat = draw(Overlay(GRAY, predicted=[[10.0, 10.0]]), (100, 100))
    np.testing.assert_array_equal(draw(Overlay(GRAY, predicted=[[10.0, 10.0, 1e9]]), (100, 100)), flat)


@pytest.mark.parametrize("axes", [3, 4])
def test_volumes_are_seen_from_the_front_and_from_the_side(axes):
    volume = np.zeros((8, 20, 10)[-3:])
    volume[6, 15, 2] = 1  # z, y, x
    image = volume.reshape((1,) * (axes - 3) + volume.shape)
    size = (186, 200)  # 10 pixels a voxel, and a gap of 6
    bare = draw(Overlay(image), size)
    assert bare.shape == (200, 186, 3)
    front, side = bare[:, :100, 0].astype(float), bare[:, 106:, 0].astype(float)
    for weight, place in ((front, (24.5, 154.5)), (side, (64.5, 154.5))):
        assert [(weight * at).sum() / weight.sum() for at in np.indices(weight.shape)[::-1]] == pytest.approx(
            place, abs=0.2
        )
    marked = draw(Overlay(image, predicted=[[2.0, 15.0, 6.0]], annotated=[[8.0, 3.0, 1.0]], visible=[False]), size)
    color = keypoint_colors(1)[0]
    assert found(marked[:, :100], color)[0] == pytest.approx((24.5, 154.5), abs=0.3)
    assert found(marked[:, 106:], color)[0] == pytest.approx((64.5, 154.5), abs=0.3)


def test_surfaces_are_drawn_at_their_rows():
    rows = np.stack([np.full(48, 10.0), np.linspace(20, 40, 48)])
    overlay = Overlay(GRAY, surfaces=rows)
    pixels = draw(overlay, (480, 640))
    first, second = (np.array(c) / 255 for c in _colors(overlay))
    like = np.abs(pixels - 255 * first).max(2) < 30
    assert like[104, 5:-5].all()
    assert not like[:100].any()
    assert not like[110:].any()
    for column in (4, 24, 44):
        (_, y), _ = found(pixels[:, 10 * column + 4 : 10 * column + 6], second)
        assert y == pytest.approx(10 * rows[1, column] + 4.5, abs=1)


def test_annotated_surfaces_are_white_and_dashed_where_visible():
    rows, true = np.full((1, 48), 10.0), np.full((1, 48), 30.0)
    true[:, 20:30] = np.nan
    pixels = draw(Overlay(GRAY, surfaces=rows, annotated_surfaces=true, visible=np.isfinite(true)), (480, 640))
    white = (pixels > 180).all(2).any(0)
    assert not white[205:295].any()
    assert 0.3 < white[:200].mean() < 0.7
    # From edge to edge of the columns: the last that is there ends at 20 columns, the next begin at 30.
    assert white[300:320].any()
    rest = np.delete(pixels, range(300, 310), 0)
    assert not (rest > 180).all(2).any()
    # Alone, it has its color and no gaps but that.
    alone = Overlay(GRAY, annotated_surfaces=true, visible=np.isfinite(true))
    like = (np.abs(draw(alone, (480, 640)) - np.array(_colors(alone)[0], float)).max(2) < 30).any(0)
    assert like[:199].all()
    assert not like[202:298].any()
    assert like[301:].all()


def test_surfaces_on_dark_scans_are_light_enough():
    for color in _colors(Overlay(np.zeros((4, 5)), surfaces=np.zeros((24, 5)))):
        assert np.dot(color, [0.3, 0.59, 0.11]) > 0.44 * 255


def test_a_map_tints_the_image_below_it():
    prob = np.zeros((16, 12))
    prob[10, 3] = 0.2
    pixels = draw(Overlay(np.zeros((64, 48)), prob=prob), (480, 640)).astype(float)
    red = pixels[..., 0] * (pixels[..., 0] > 40)
    # The cell's middle is at 3.5 of 12 cells, 40 pixels each.
    assert [(red * at).sum() / red.sum() for at in np.indices(red.shape)[::-1]] == pytest.approx((139.5, 419.5), abs=1)
    assert (draw(Overlay(GRAY, prob=0 * prob), (48, 64)) == 128).all()
    volume = Overlay(np.zeros((8, 20, 10)), prob=np.ones((2, 5, 5)))
    assert (draw(volume, (186, 200))[..., 0] > 20).all()


def test_files_have_titles_and_one_legend(tmp_path):
    one = Overlay(GRAY, predicted=[[9.0, 9.0]], annotated=[[9.0, 9.0]], names=["nose"], title="one", note="small print")
    other = Overlay(np.zeros((3, 20, 60)), predicted=[[9.0, 9.0], [20.0, 5.0]], ids=[0, 7], names=["nose", "tail"])
    save_overlays(tmp_path / "new" / "sheet.png", [one, other, other], 2, size=(300, 300))
    sheet = read(tmp_path / "new" / "sheet.png")
    # Panels are as wide as the widest picture and as high as the highest, 300 x 300, and 3 pixels around.
    assert sheet.shape[1] > 2 * 306 + 50
    height = sheet.shape[0] / 2
    assert height > 306 + 20
    legend = sheet[:, 2 * 306 :]
    places = [found(legend, color)[0] for color in keypoint_colors([0, 7])]
    assert places[0][1] < places[1][1]
    assert found(legend, keypoint_colors([1])[0])[1] == 0
    assert (legend[:, -3:] == 255).all()
    # The same pixels as alone, below its title.
    alone = draw(other, (300, 300))
    assert alone.shape == (100, 300, 3)
    rows = np.nonzero((sheet[: int(height), 306 + 3 : 612 - 3] != 255).any((1, 2)))[0]
    assert len(rows) == 100
    np.testing.assert_array_equal(sheet[rows[0] + 1 : rows[-1], 310:608], alone[1:-1, 1:-1])
    # One of them with neither title nor note nor legend is the picture itself.
    save_overlay(tmp_path / "bare.png", other, size=(300, 300), legend=False)
    np.testing.assert_array_equal(read(tmp_path / "bare.png"), alone)


def test_large_images_are_made_smaller_and_their_legend_keeps_its_size(tmp_path):
    rng = np.random.default_rng(0)
    large = Overlay(rng.random((3, 1500, 2000)).astype(np.float32), predicted=rng.uniform(0, 1500, (68, 2)))
    save_overlay(tmp_path / "large.png", large)
    height, width, _ = read(tmp_path / "large.png").shape
    assert height == 600
    assert 800 < width < 1300


def test_what_lies_outside_is_cut_off():
    outside = draw(Overlay(GRAY, predicted=[[-50.0, 1e30]], annotated=[[9e5, 3.0]]), (48, 64))
    assert outside.shape == (64, 48, 3)
    assert (draw(Overlay(GRAY, surfaces=np.full((1, 48), -100.0)), (48, 64)) == 128).all()


def test_little_to_draw(tmp_path):
    for i, overlay in enumerate(
        (
            Overlay([[0.5]]),
            Overlay(np.ones((1, 1, 1, 1)), predicted=np.zeros((0, 3))),
            Overlay(np.ones((1, 500)), surfaces=np.zeros((1, 500))),
            Overlay(np.ones((500, 1)), annotated=[[0.0, 3.0]], title="a title longer than its picture is wide"),
        )
    ):
        save_overlay(tmp_path / f"{i}.png", overlay)
        assert read(tmp_path / f"{i}.png").size


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"image": np.zeros(4)}, r"`image` \[4\] must be \[H, W\]"),
        ({"image": np.zeros((2, 3, 4, 5))}, r"`image` \[2, 3, 4, 5\] must be"),
        ({"image": np.zeros((30, 40, 3))}, r"`image` \[30, 40, 3\] must have its channels first: \[3, H, W\]"),
        ({"image": np.zeros((3, 0, 5))}, r"`image` \[3, 0, 5\] must be"),
        ({"image": np.full((4, 5), 255)}, r"`image` must be from 0 to 1, goes from 255 to 255"),
        ({"image": np.full((4, 5), np.nan)}, r"`image` must be from 0 to 1"),
        ({"image": "face.jpg"}, r"`image` must be numbers"),
        (
            {"predicted": np.zeros((2, 4))},
            r"`predicted` \[2, 4\] must be \[2, 2\] or \[2, 3\] on an image of \[64, 48\]",
        ),
        ({"predicted": np.zeros((2, 2)), "annotated": np.zeros((3, 2))}, r"`annotated` \[3, 2\] must be \[2, 2\]"),
        ({"image": np.zeros((1, 4, 5, 6)), "predicted": np.zeros((2, 2))}, r"`predicted` \[2, 2\] must be \[2, 3\] on"),
        ({"predicted": [[np.nan, 0]]}, "`predicted` has 1 values that are not finite"),
        ({"annotated": [[np.inf, 0], [np.nan, np.nan]], "visible": [True, False]}, "`annotated` has 1 values"),
        ({"annotated": [[0, 0]], "visible": [True, False]}, r"`visible` \[2\] must be \[1\]"),
        ({"surfaces": np.zeros((2, 47))}, r"`surfaces` \[2, 47\] must be \[2, 48\] on an image .*\[64, 48\]"),
        ({"surfaces": np.zeros((2, 48)), "visible": [True, True]}, r"`visible` \[2\] must be \[2, 48\]"),
        ({"surfaces": np.full((1, 48), np.nan)}, "`surfaces` has 48 values that are not finite"),
        ({"annotated_surfaces": np.full((1, 48), np.nan)}, "`annotated_surfaces` has 48 values"),
        (
            {"image": np.zeros((8, 4, 5)), "surfaces": np.zeros((1, 5))},
            r"`surfaces` must lie on an image .*=\[8, 4, 5\]",
        ),
        ({"surfaces": np.zeros((1, 48)), "predicted": [[0, 0]]}, "`predicted` and `annotated` must be None where"),
        ({"predicted": [[0, 0]], "names": ["a", "b"]}, r"`names` \(2\) and `ids` \(1\) must be 1"),
        ({"predicted": [[0, 0]], "bones": [(0, 1)]}, r"`bones` has \(0, 1\), must be pairs of places in the 1"),
        ({"surfaces": np.zeros((2, 48)), "bones": [(0, 1)]}, "`bones` join keypoints, must be empty"),
        ({"prob": np.zeros((2, 3, 4))}, r"`prob` \[2, 3, 4\] must have the 2 axes of the image"),
        ({"prob": -np.ones((2, 3))}, "`prob` must be finite and at least 0"),
    ],
)
def test_bad_input(arguments, match):
    with pytest.raises(ValueError, match=match):
        Overlay(arguments.pop("image", GRAY), **arguments)


def test_bad_sheets(tmp_path):
    for overlays, options, match in (
        ([], {}, "`overlays` must hold at least one"),
        ([Overlay(GRAY)], {"columns": 0}, r"`columns` \(=0\) must be at least 1"),
        ([Overlay(GRAY)], {"size": (8, 100)}, r"`size` \(=\(8, 100\)\) must be from 16 to 8192"),
    ):
        with pytest.raises(ValueError, match=match):
            save_overlays(tmp_path / "none.png", overlays, **options)
    assert list(tmp_path.iterdir()) == []


def test_several_persons_on_one_picture(tmp_path):
    image = np.full((60, 90), 0.5)
    first = np.array([[10.0, 10.0], [10.0, 40.0]])
    people = np.stack([first, first + np.array([30, 5]), np.full((2, 2), np.nan)])
    overlay = Overlay(
        image,
        predicted=people,
        present=[[True, True], [True, False], [False, False]],
        boxes=[[2, 3, 20, 50], [32, 8, 20, 50], [60, 5, 20, 50]],
        bones=[(0, 1)],
        names=["head", "foot"],
    )
    assert (overlay.num_persons, overlay.num_keypoints) == (3, 2)
    pixels = draw(overlay, (900, 600))
    head, foot = keypoint_colors(2)
    like = [np.abs(pixels - 255 * color).max(2) < 30 for color in (head, foot, *keypoint_colors([2]))]
    # Dots at their places, but for those that are not present; each in the color of its keypoint.
    assert [bool(like[0][y, x]) for x, y in ((104, 104), (404, 154))] == [True, True]
    assert [bool(like[1][y, x]) for x, y in ((104, 404), (404, 454))] == [True, False]
    # A box from the corner of pixel (2, 3), not from its middle, in the color of the person.
    columns = np.flatnonzero(like[0][300])
    assert (columns[0], columns[-1]) == (pytest.approx(19.5, abs=3), pytest.approx(219.5, abs=3))
    assert like[1][300, 317:323].any()
    assert like[2][300, 597:603].any()
    # The bone of a person has the person's color; the second has but one end.
    assert like[0][250, 99:110].any()
    assert (pixels[300, 370:440] == pixels[300, 370]).all()
    # One person of several is drawn as many are; without the axis of persons, as ever.
    one = draw(Overlay(image, predicted=first, bones=[(0, 1)]), (900, 600))
    assert (one[250, 100:109] > 250).all(1).any()
    assert (draw(Overlay(image, predicted=np.zeros((0, 2, 2)), boxes=np.zeros((0, 4))), (90, 60)) == 128).all()
    save_overlays(tmp_path / "people.png", [overlay, Overlay(image, predicted=first)])


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (
            {"predicted": np.zeros((3, 2, 2)), "annotated": np.zeros((2, 2))},
            r"`annotated` \[2, 2\] must be \[3, 2, 2\]",
        ),
        ({"predicted": np.zeros((3, 2, 2)), "boxes": np.zeros((2, 4))}, r"`boxes` \[2, 4\] must be \[3, 4\]"),
        ({"predicted": np.zeros((3, 2, 2)), "present": [True, True]}, r"`present` \[2\] must be \[3, 2\]"),
        ({"predicted": np.zeros((3, 2, 2)), "boxes": np.full((3, 4), np.nan)}, "`boxes` has 12 values that are not"),
        ({"predicted": np.full((3, 2, 2), np.nan)}, "`predicted` has 12 values that are not finite"),
    ],
)
def test_persons_that_do_not_fit(arguments, match):
    with pytest.raises(ValueError, match=match):
        Overlay(GRAY, **arguments)


def luminance(pixels):
    light = pixels / 255
    return np.where(light <= 0.04045, light / 12.92, ((light + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]


def contrast(marked, bare):
    """Contrast of WCAG 2 between the ground and the lightest or darkest of a mark, around each of its pixels."""
    from scipy.ndimage import maximum_filter, minimum_filter, uniform_filter

    ground, light = luminance(bare), luminance(marked)
    drawn = (marked != bare).any(2)
    assert drawn.sum() > 100
    # As the eye sees it: of noise its mean, of a mark all that belongs to it.
    ground = uniform_filter(ground, 21)
    light, dark = maximum_filter(np.where(drawn, light, -1), 11), minimum_filter(np.where(drawn, light, 2), 11)
    return np.maximum((light + 0.05) / (ground + 0.05), (ground + 0.05) / (dark + 0.05))[drawn]


@pytest.mark.parametrize("ground", [1.0, 0.0, 0.5, 0.25, 0.75, None], ids=lambda x: "noise" if x is None else str(x))
@pytest.mark.parametrize("size", [(300, 300), (800, 800)])
def test_every_mark_is_seen_on_every_ground(ground, size):
    rng = np.random.default_rng(0)
    image = rng.random((100, 120)) if ground is None else np.full((100, 120), ground)
    rows = np.linspace(5, 95, 12)[:, None].repeat(120, 1)
    points = rng.uniform(10, 90, (24, 2))
    bare = draw(Overlay(image), size)
    for marks in (
        {"surfaces": rows},
        {"annotated_surfaces": rows},
        {"surfaces": rows[:1] - 100, "annotated_surfaces": rows[10:11]},
        {"predicted": points},
        {"annotated": points},
        {"predicted": points, "annotated": points + 10},
        {"predicted": points[None], "boxes": [[5, 5, 100, 80]], "bones": [(k, k + 1) for k in range(23)]},
    ):
        assert np.percentile(contrast(draw(Overlay(image, **marks), size), bare), 3) > 3, list(marks)


@pytest.mark.parametrize("shape", [(1, 2000), (2000, 1), (3, 1, 2000), (1, 1), (2, 3000, 4), (3000, 4000)])
def test_pictures_of_any_shape_have_a_size_within_bounds(shape, tmp_path):
    image = np.zeros(shape)
    axes = 3 if len(shape) == 3 and shape[0] == 2 else 2
    name = "a title that is longer than any picture of this shape is wide"
    overlay = Overlay(image, predicted=np.zeros((200, axes)), names=[f"{name} {k}" for k in range(200)], title=name)
    save_overlay(tmp_path / "picture.png", overlay)
    height, width, _ = read(tmp_path / "picture.png").shape
    assert 24 <= height <= 900
    assert 240 <= width <= 1650
    # The dot is in the first pixel.
    color = keypoint_colors([199])[0]
    (x, y), _ = found(
        draw(dataclasses.replace(overlay, predicted=overlay.predicted[:1], names=(), ids=[199]), (800, 800)), color
    )
    high, wide, _ = draw(overlay, (800, 800)).shape
    if axes == 2:
        assert x <= max(wide / shape[-1], 3)
        assert y <= max(high / shape[-2], 3)


def test_names_and_titles_may_be_missing():
    overlay = Overlay(GRAY, predicted=np.zeros((3, 2)), names=[None, "", "nose"], ids=np.array([4, 5, 6]), title=None)
    assert (overlay.names, overlay.title) == (["4", "5", "nose"], "")
