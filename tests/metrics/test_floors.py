import os
from pathlib import Path

import numpy as np
import pytest
import torch

from pcsa.metrics import collapsed_keypoints, dual_alignment, random_keypoints, template_keypoints


def column(*values: float) -> np.ndarray:
    """Points on a line, [k, 1]."""
    return np.array(values, dtype=float)[:, None]


def test_template_finds_the_centers_of_separate_clusters():
    centers = np.array([[0.0, 0, 0], [5, 0, 0], [0, 5, 0], [0, 0, 5]])
    offsets = np.array([[0.1, 0, 0], [-0.1, 0, 0], [0, 0.2, 0], [0, -0.2, 0]])
    annotated = [
        torch.from_numpy(centers[order] + offset) for order, offset in zip([[0, 1, 2, 3]] * 4, offsets, strict=True)
    ]
    found = template_keypoints(annotated, 4)
    assert sorted(found.round(decimals=6).tolist()) == sorted(centers.tolist())
    assert torch.equal(found, template_keypoints(annotated, 4))
    # With fewer different positions than asked for there is no answer.
    with pytest.raises(ValueError, match=r"`num_keypoints` \(=3\) must be from 1 to 2"):
        template_keypoints([column(0, 1), column(1)], 3)
    assert sorted(template_keypoints([column(0, 1), column(1)], 2).tolist()) == [[0], [1]]


def test_template_of_more_starts_fits_no_worse():
    annotated = [np.random.default_rng(0).random((300, 3))]

    def error(restarts):
        centers = template_keypoints(annotated, 12, restarts=restarts).numpy()
        return (np.linalg.norm(annotated[0][:, None] - centers, axis=-1).min(axis=1) ** 2).sum()

    assert error(20) < error(1)


def test_random_set_fills_the_box_of_the_annotations():
    annotated = [np.array([[0.0, -1]]), np.array([[2.0, 3]])]
    points = random_keypoints(annotated, 2000, seed=3)
    assert torch.equal(points, random_keypoints(annotated, 2000, seed=3))
    assert not torch.equal(points, random_keypoints(annotated, 2000, seed=4))
    np.testing.assert_allclose(points.amin(0), [0, -1], atol=0.02)
    np.testing.assert_allclose(points.amax(0), [2, 3], atol=0.02)
    np.testing.assert_allclose(points.mean(0), [1, 1], atol=0.1)


def test_collapsed_sets():
    clouds = [torch.tensor([[0.0, 4], [2, 8]]), torch.tensor([[1.0, 1], [1, 1], [4, 7]])]
    assert [k.tolist() for k in collapsed_keypoints(clouds, 2)] == [[[1, 6]] * 2, [[2, 3]] * 2]
    assert [k.tolist() for k in collapsed_keypoints(clouds, 2, place="corner")] == [[[0, 1]] * 2] * 2


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: template_keypoints([column(0)], 0), r"`num_keypoints` \(=0\)"),
        (lambda: template_keypoints([column(0)], 1, restarts=0), r"`restarts` \(=0\)"),
        (lambda: random_keypoints([column(0)], 0), r"`num_keypoints` \(=0\)"),
        (lambda: collapsed_keypoints([column(0)], 0), r"`num_keypoints` \(=0\)"),
        (lambda: collapsed_keypoints([column(0)], 1, place="middle"), r"`place` \(='middle'\)"),
        (lambda: random_keypoints([], 1), "`annotated` has no shape"),
    ],
)
def test_bad_input(call, match):
    with pytest.raises(ValueError, match=match):
        call()


@pytest.mark.parametrize(
    ("category", "template", "at_an_annotation", "random"), [("bathtub", 64.9, 52.7, 57), ("bed", 64.1, 53.7, 61)]
)
def test_floors_on_real_annotations(category, template, at_an_annotation, random, tmp_path):
    """The figures known for ten points on the whole category; they come without seeds, hence the tolerances."""
    root = os.environ.get("PCSA_TEST_DATA")
    if not root:
        pytest.skip("PCSA_TEST_DATA is not set")
    keypointnet = pytest.importorskip("pcsa.datasets.keypointnet")
    dataset = keypointnet.KeypointNet(Path(root, "keypointnet"), category, "all", cache_dir=tmp_path)
    shapes = [(data.pos, data.keypoints[0][data.visible[0]], data.visible[0].nonzero()[:, 0]) for data in dataset]
    clouds, annotated, ids = map(list, zip(*shapes, strict=True))
    n = len(shapes)

    def score(predicted):
        return 100 * dual_alignment(predicted, annotated, ids).mean

    # Other starts of k-means end up to one point apart.
    assert score([template_keypoints(annotated, 10)] * n) == pytest.approx(template, abs=1.5)
    # The known figure of a collapse is that of a place drawn anew for every shape, one of its annotated keypoints.
    generator = np.random.default_rng(0)
    places = [a[generator.integers(len(a))].expand(10, 3) for a in annotated]
    assert score(places) == pytest.approx(at_an_annotation, abs=0.5)
    # One set has a standard deviation of 4 (bathtub) and 7 (bed): 40 of them, and three standard errors of their mean.
    mean = np.mean([score([random_keypoints(annotated, 10, seed=s)] * n) for s in range(40)])
    assert mean == pytest.approx(random, abs=3.5)
    # A place that is steadier from shape to shape scores more, one outside the shapes more than the template.
    centroid, corner = (score(collapsed_keypoints(clouds, 10, place=p)) for p in ("centroid", "corner"))
    assert score(places) < centroid < template < corner
