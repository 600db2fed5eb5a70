import math

import numpy as np
import pytest
import torch
from scipy import stats

import pcsa
from pcsa import grid, losses


def test_a_grid_handed_over_as_a_point_set_gives_the_same_numbers(seeded, maps, shape, close):
    logits = maps(shape)
    spacing = [0.5, 2.0, 3.0][: len(shape)]
    options = {"num_samples": 9, "temperature": 0.6}
    ours = grid.sampling_argmax(logits, "gaussian", spacing=spacing, generator=seeded(), **options)
    pos = grid.cells(shape, spacing=spacing, dtype=torch.float64).expand(2, -1, -1)
    sigma = torch.tensor(spacing, dtype=torch.float64).expand_as(pos)
    close(ours, pcsa.sampling_argmax(grid.flatten(logits), pos, sigma, generator=seeded(), **options))
    close(
        grid.soft_argmax(logits, spacing=spacing, temperature=0.6),
        pcsa.soft_argmax(grid.flatten(logits), pos, temperature=0.6),
    )


def test_cells_are_in_the_order_of_flattened_logits(maps, shape):
    pos = grid.cells(shape)
    assert pos.shape == (math.prod(shape), len(shape))
    for n, cell in enumerate(np.ndindex(shape)):
        assert tuple(int(x) for x in pos[n]) == cell[::-1]
    logits = maps(shape)
    flat = grid.flatten(logits)
    for n, cell in enumerate(np.ndindex(shape)):
        assert torch.equal(flat[:, n], logits[(slice(None), slice(None), *cell)])
    assert flat.data_ptr() == logits.data_ptr()


@pytest.mark.parametrize("shape", [(5,), (3, 4), (3, 2, 4)], ids=str)
def test_the_bandwidth_of_an_isotropic_grid_is_its_spacing(shape):
    pos = grid.cells(shape, spacing=0.25)
    torch.testing.assert_close(pcsa.knn_bandwidth(pos), torch.full((len(pos),), 0.25))


@pytest.mark.parametrize("shape", [(5, 6), (3, 4, 5)], ids=str)
def test_regularizers_are_those_of_dsntnn(seeded, maps, oracle, shape, close):
    dsntnn = oracle("dsntnn")
    logits = maps(shape)
    prob = dsntnn.flat_softmax(logits)
    flat, pos = grid.flatten(logits), grid.cells(shape, dtype=torch.float64).expand(2, -1, -1)
    target = torch.rand(2, 2, len(shape), dtype=torch.float64, generator=seeded(1)) - 0.5
    for ours, theirs in (
        (
            losses.variance_regularization(flat, pos, target_variance=0.81, reduction="none"),
            # Its variance takes the mean of the whole batch for one map's where the batch is not 1.
            torch.stack([dsntnn.variance_reg_losses(p[None, None], 0.9)[0, 0] for p in prob.flatten(0, 1)]).view(2, 2),
        ),
        (
            losses.js_regularization(
                flat,
                pos,
                0.9,
                grid.to_index(target, shape, frame="normalized"),
                center="target",
                reduction="none",
            ),
            dsntnn.js_reg_losses(prob, target, 0.9),
        ),
        (
            losses.js_regularization(flat, pos, 0.9, reduction="none"),
            dsntnn.js_reg_losses(prob, dsntnn.dsnt(prob), 0.9),
        ),
    ):
        close(ours, theirs)


def test_losses_of_point_sets_serve_grids():
    # Two cells, 2 mm apart, as likely as each other; the target is the first one.
    logits = torch.zeros(1, 1, 2, 1, dtype=torch.float64)
    flat, pos = grid.flatten(logits), grid.cells((2, 1), spacing=2.0, dtype=torch.float64).expand(1, -1, -1)
    target = torch.zeros(1, 1, 2, dtype=torch.float64)
    assert losses.expectation_error(flat, pos, target).item() == pytest.approx(1.0)
    assert losses.discrete_expected_error(flat, pos, target).item() == pytest.approx(1.0)
    # Squared: (0 + 4) / 2 and twice sigma^2.
    error = losses.mixture_expected_error(flat, pos, 2.0, target, norm="squared")
    assert error.item() == pytest.approx(2 + 2 * 4)
    density = 0.5 * sum(stats.norm(0, 2).pdf(0) * stats.norm(y, 2).pdf(0) for y in (0, 2))
    assert losses.mixture_nll(flat, pos, 2.0, target).item() == pytest.approx(-math.log(density))
    drawn = grid.sampling_argmax(logits, "gaussian", num_samples=200_000, temperature=1e-3, spacing=2.0)
    assert losses.sample_error(drawn, target, norm="squared").item() == pytest.approx(error.item(), rel=0.02)
