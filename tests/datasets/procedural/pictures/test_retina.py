import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from pcsa.datasets.procedural import Retinas
from pcsa.datasets.procedural.pictures.items import Items, stream
from pcsa.datasets.procedural.pictures.retina import HEIGHT, SURFACES, draw_layers, make_retina


@pytest.fixture(scope="module")
def scans() -> Retinas:
    return Retinas("train", num_scans=40)


def test_pixels_are_mixtures_by_area():
    # A surface at 2.75: row 3 covers 2.5 to 3.5, a quarter of it above. Two surfaces within row 1 (0.5 to 1.5):
    # 0.2 of it above the first, 0.5 between, 0.3 below the second.
    one = draw_layers(np.full((1, 1), 2.75), np.array([[1.0], [5.0]]), 6)
    np.testing.assert_allclose(one[:, 0], [1, 1, 1, 4, 5, 5])
    two = draw_layers(np.array([[0.7], [1.2]]), np.array([[10.0], [20.0], [30.0]]), 3)
    np.testing.assert_allclose(two[:, 0], [10, 0.2 * 10 + 0.5 * 20 + 0.3 * 30, 30])


def test_every_edge_of_a_noiseless_scan_is_at_its_boundary(scans):
    """Between two levels, the sum over the pixels says exactly where the edge is."""
    for index in range(10):
        boundaries = scans.source(index)["boundaries"].numpy().astype(np.float64)
        for k in range(len(SURFACES)):
            levels = np.where(np.arange(10)[:, None] <= k, 0.8, 0.3) * np.ones(scans.width)
            column_sums = draw_layers(boundaries, levels, HEIGHT).sum(0)
            # The picture spans -1/2 to 127.5: 0.8 (edge + 1/2) + 0.3 (127.5 - edge).
            edge = (column_sums - 0.4 - 0.3 * 127.5) / 0.5
            np.testing.assert_allclose(edge, boundaries[k], atol=1e-9)


def test_real_noise_leaves_the_edges_where_they_are(scans):
    """The finished pictures, speckle and all: the mean profile around the outermost two surfaces steps at 0."""
    steps = {0: [], 7: []}  # vitreous to nerve fibers, photoreceptors to pigment epithelium: the clearest edges
    for index in range(len(scans)):
        source = scans.source(index)
        raw, boundaries = source["image"][0].numpy() ** 4, source["boundaries"].numpy()
        for k, profiles in steps.items():
            inside = boundaries[k] < HEIGHT - 8
            near = np.arange(-1, 2)  # layers can be 1.5 pixels thin
            rows = np.rint(boundaries[k]).astype(int)
            offset = rows + near[:, None] - boundaries[k]
            profiles.append((offset[:, inside], raw[rows + near[:, None], np.arange(scans.width)][:, inside]))
    for k, profiles in steps.items():
        offset = np.concatenate([o.ravel() for o, _ in profiles])
        value = np.concatenate([v.ravel() for _, v in profiles])
        means = [value[np.abs(offset - center) < 0.1].mean() for center in (-0.8, -0.25, 0.0, 0.25, 0.8)]
        low, _, half, _, high = means
        assert high > 2 * low, k
        assert (half - low) / (high - low) == pytest.approx(0.5, abs=0.06), k
        assert means == sorted(means), k


def test_order_and_thickness(scans):
    thinnest, pits = np.inf, 0
    for index in range(len(scans)):
        source = scans.source(index)
        rows = source["boundaries"].numpy()
        assert rows.min() >= 5.9
        assert rows.max() <= HEIGHT - 8
        thickness = np.diff(rows, axis=0)
        thinnest = min(thinnest, thickness.min())
        pits += thickness[0].min() < 2.5
        assert np.abs(np.diff(rows, axis=1)).max() < 5  # smooth: no jumps from column to column
        assert source["visible"].all()
    assert 1.49 <= thinnest < 2
    assert 5 < pits < 35


def test_shapes_values_and_attributes(scans):
    source = scans.source(3)
    assert source["image"].shape == (1, 128, 192)
    assert source["image"].dtype == source["boundaries"].dtype == torch.float32
    assert 0 <= source["image"].min() < source["image"].max() <= 1
    np.testing.assert_allclose(source["spacing"], (0.006, 0.03))
    assert scans.names == SURFACES
    assert len(SURFACES) == scans.num_keypoints == 9
    assert len(scans) == 40
    assert scans.skipped == {}
    sample = scans[3]
    assert sample["index"] == 3
    assert torch.equal(sample["image"], source["image"][:, :, 64:128])
    assert torch.equal(sample["boundaries"], source["boundaries"][:, 64:128])
    batch = default_collate([scans[0], scans.augmented(1, torch.Generator().manual_seed(0))])
    assert batch["image"].shape == (2, 1, 128, 64)
    assert batch["boundaries"].shape == batch["visible"].shape == (2, 9, 64)


def test_augmented_is_a_window_of_the_source(scans):
    generator = torch.Generator().manual_seed(1)
    first, second = (scans.augmented(2, torch.Generator().manual_seed(7)) for _ in range(2))
    assert all(np.array_equal(first[name], second[name]) for name in first)
    source = scans.source(2)
    thick = source["boundaries"].diff(dim=0)
    for _ in range(10):
        sample = scans.augmented(2, generator)
        pieces = thick.unfold(1, 64, 1)  # [8, starts, 64]
        found = sample["boundaries"].diff(dim=0)[:, None]
        error = torch.minimum((pieces - found).abs().amax((0, 2)), (pieces - found.flip(2)).abs().amax((0, 2)))
        assert error.min() < 1e-4


@pytest.mark.parametrize("width", [16, 500])
def test_other_widths(width):
    for image, boundaries in Items([0, stream("retina/val")], 5, lambda rng: make_retina(rng, width)):
        assert image.shape == (128, width)
        assert np.isfinite(image).all()
        assert np.diff(boundaries, axis=0).min() >= 1.49
        assert boundaries.min() > 5
        assert boundaries.max() < 122


def test_scans_too_narrow_are_refused():
    with pytest.raises(ValueError, match=r"`width` \(=15\) must be at least 16"):
        Retinas("train", num_scans=2, width=15)
