import numpy as np
import pytest
from PIL import Image

from pcsa.datasets.procedural import make_shape, shape_rng
from pcsa.scripts.cli import main
from pcsa.scripts.gallery import _beside_dots, _hidden, _scene, draw_gallery
from pcsa.viz import keypoint_colors
from pcsa.viz.scene import view_axes


@pytest.mark.slow
def test_a_picture_of_each_category_in_colors_of_its_ids_alone(tmp_path, capsys):
    assert main(["data", "gallery", str(tmp_path / "pictures"), "--categories", "table", "mug"]) == 0
    assert "2 pictures" in capsys.readouterr().out
    assert sorted(p.name for p in (tmp_path / "pictures").iterdir()) == ["mug.png", "table.png"]
    path = tmp_path / "pictures" / "mug.png"
    assert path.stat().st_size < 120_000
    pixels = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3)
    # A mug has 13 keypoints.
    seen = {tuple(c) for c in np.unique(pixels, axis=0).tolist()}
    wanted = (keypoint_colors(24) * 255 + 0.5).astype(int).tolist()
    assert [tuple(c) in seen for c in wanted] == [True] * 13 + [False] * 11
    # Nothing is cut off: the edge is white.
    picture = np.asarray(Image.open(path).convert("L"))
    assert (np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]]) == 255).all()


def test_without_open3d_and_of_another_seed(tmp_path):
    draw_gallery(tmp_path / "0", "table", backend="matplotlib")
    draw_gallery(tmp_path / "1", "table", seed=1, backend="matplotlib")
    one, other = (np.asarray(Image.open(tmp_path / s / "table.png").convert("L")) for s in "01")
    assert one.shape[0] == other.shape[0]
    assert not np.array_equal(one, other)


def test_what_the_mesh_covers_is_hidden():
    shape = make_shape("table", shape_rng("table", 0, 1))
    axes = view_axes()
    scene = _scene(shape)
    top = scene.vertices[:, 1].max()
    above, below = np.array([0, top, 0.0]), np.array([0, top - 0.1, 0.0])
    assert _hidden(np.stack([above, below, above + axes[2]]), scene, axes).tolist() == [False, True, False]


def test_numbers_keep_clear_of_dots_and_of_each_other():
    dots = np.array([[100.0, 100], [112, 100], [100, 112], [112, 112], [300, 100]])
    numbers = _beside_dots(dots)
    assert np.linalg.norm(numbers - dots, axis=1) == pytest.approx(13)
    gaps = np.linalg.norm(numbers[:, None] - np.concatenate([dots, numbers]), axis=2)
    gaps[np.arange(5), np.arange(5) + 5] = np.inf
    assert gaps.min() > 10
