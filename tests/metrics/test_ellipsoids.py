"""Covariances against marks: naive loops, SciPy, and marks drawn from what is predicted."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from pcsa.metrics import (
    covariance_factor,
    ellipsoid_coverage,
    gaussian_log_likelihood,
    mixture_log_likelihood,
    pooled_covariance,
    spread_correlation,
)


def drawn(B=4, K=3, M=5, D=3, seed=0, dtype=torch.double):
    """Marks about means by covariances of several sizes; some are missing, and hold no number."""
    generator = torch.Generator().manual_seed(seed)
    root = torch.randn(B, K, D, D, generator=generator, dtype=torch.double)
    root = root * torch.linspace(0.2, 2, K, dtype=torch.double)[:, None, None]
    mean = 10 * torch.randn(B, K, D, generator=generator, dtype=torch.double)
    noise = torch.randn(B, K, M, D, generator=generator, dtype=torch.double)
    marks = mean.unsqueeze(2) + (root.unsqueeze(2) @ noise.unsqueeze(-1)).squeeze(-1)
    marked = torch.rand(B, K, M, generator=generator) < 0.8
    marks = torch.where(marked.unsqueeze(-1), marks, math.nan)
    return marks.to(dtype), marked, mean.to(dtype), (root @ root.mT).to(dtype)


def each_mark(marks, marked):
    return [(b, k, m) for b, k, m in np.ndindex(*marked.shape) if marked[b, k, m]]


def test_every_figure_against_a_loop():
    marks, marked, mean, covariance = drawn()
    B, K, _, D = marks.shape
    squared, density = {}, {}
    for b, k, m in each_mark(marks, marked):
        away = (marks[b, k, m] - mean[b, k]).numpy()
        squared[b, k, m] = away @ np.linalg.inv(covariance[b, k].numpy()) @ away
        normal = stats.multivariate_normal(mean[b, k].numpy(), covariance[b, k].numpy())
        density[b, k, m] = normal.logpdf(marks[b, k, m].numpy())
    coverage = ellipsoid_coverage(marks, marked, mean, covariance, (0.3, 0.9))
    for k in range(K):
        own = [value for (_, of, _), value in squared.items() if of == k]
        for place, level in enumerate((0.3, 0.9)):
            assert coverage[k, place] == np.mean(np.array(own) <= stats.chi2(D).ppf(level))
    likelihood = gaussian_log_likelihood(marks, marked, mean, covariance)
    for b, k in np.ndindex(B, K):
        own = [value for (of_b, of_k, _), value in density.items() if (of_b, of_k) == (b, k)]
        np.testing.assert_allclose(likelihood[b, k], np.mean(own) if own else math.nan)
    np.testing.assert_allclose(covariance_factor(marks, marked, mean, covariance), np.mean(list(squared.values())) / D)
    away = np.array([(marks[i] - mean[i[:2]]).numpy() for i in each_mark(marks, marked)])
    np.testing.assert_allclose(pooled_covariance(marks, marked, mean), away.T @ away / len(away))
    of = np.array([k for _, k, _ in each_mark(marks, marked)])
    for k, own in enumerate(pooled_covariance(marks, marked, mean, per_keypoint=True)):
        np.testing.assert_allclose(own, away[of == k].T @ away[of == k] / (of == k).sum())


def test_marks_of_the_predicted_distribution_fill_the_ellipsoids_as_they_say():
    marks, marked, mean, covariance = drawn(B=40, K=3, M=200)
    coverage = ellipsoid_coverage(marks, marked, mean, covariance)
    # 6,400 marks of each keypoint: five standard errors of a share are 0.03.
    np.testing.assert_allclose(coverage, np.tile([0.5, 0.8, 0.95], (3, 1)), atol=0.032)
    assert (ellipsoid_coverage(marks, marked, mean, covariance / 4) < coverage - 0.1).all()
    assert covariance_factor(marks, marked, mean, covariance / 4).item() == pytest.approx(4, rel=0.02)
    own = gaussian_log_likelihood(marks, marked, mean, covariance).mean()
    constant = pooled_covariance(marks, marked, mean).expand_as(covariance)
    assert own > gaussian_log_likelihood(marks, marked, mean, constant).mean() + 0.5


def test_the_constant_covariance_is_the_most_likely_constant():
    marks, marked, mean, _ = drawn(M=20)
    best = pooled_covariance(marks, marked, mean)

    def likelihood(covariance):
        values = gaussian_log_likelihood(marks, marked, mean, covariance.expand(4, 3, 3, 3))
        return (values * marked.sum(2)).nansum()

    for seed in range(5):
        change = torch.randn(3, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.double)
        assert likelihood(best) > likelihood(best + 0.05 * change @ change.mT)
        assert likelihood(best) > likelihood(best * (1 + 0.05 * (-1) ** seed))


def test_the_mixture_against_a_loop_over_ragged_clouds():
    marks, marked, *_ = drawn(B=2)
    generator = torch.Generator().manual_seed(5)
    logits = torch.randn(9, 3, generator=generator, dtype=torch.double)
    pos = 10 * torch.randn(9, 3, generator=generator, dtype=torch.double)
    sigma = 1 + torch.rand(9, generator=generator, dtype=torch.double)
    ptr = torch.tensor([0, 4, 9])
    found = mixture_log_likelihood(logits, pos, sigma, marks, marked, ptr=ptr)
    for b, k in np.ndindex(2, 3):
        rows = slice(ptr[b], ptr[b + 1])
        prob = logits[rows, k].softmax(0).numpy()
        own = []
        for m in range(5):
            if marked[b, k, m]:
                at = marks[b, k, m].numpy()
                parts = [
                    p * stats.multivariate_normal(y.numpy(), float(s) ** 2 * np.eye(3)).pdf(at)
                    for p, y, s in zip(prob, pos[rows], sigma[rows], strict=True)
                ]
                own.append(np.log(sum(parts)))
        np.testing.assert_allclose(found[b, k], np.mean(own) if own else math.nan, rtol=1e-6)


def test_gradients_reach_mean_and_covariance():
    marks, marked, mean, covariance = drawn(B=1, K=2, M=3)
    mean, covariance = mean.requires_grad_(), covariance.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda mu, c: gaussian_log_likelihood(marks, marked, mu, (c + c.mT) / 2).nansum(), (mean, covariance)
    )


def test_spreads_go_together_where_they_do():
    marks, marked, _, covariance = drawn(B=30, K=8, M=20)
    found = spread_correlation(covariance, marks, marked)
    assert found.pearson > 0.95 < found.spearman
    for k in range(8):
        squares, traces = [], []
        for b in range(30):
            own = marks[b, k][marked[b, k]].numpy()
            squares.append(np.cov(own.T).trace())
            traces.append(covariance[b, k].numpy().trace())
        np.testing.assert_allclose(found.human[k], np.mean(squares) ** 0.5)
        np.testing.assert_allclose(found.predicted[k], np.mean(traces) ** 0.5)
    assert spread_correlation(covariance.flip(1), marks, marked).pearson < -0.5
    assert math.isnan(spread_correlation(torch.eye(3).expand(30, 8, 3, 3), marks, marked).pearson)


def test_a_keypoint_without_marks_is_none_of_all_this():
    marks, marked, mean, covariance = drawn()
    marked[:, 1] = False
    covariance[:, 1] = 0
    mean[:, 1] = math.nan
    assert ellipsoid_coverage(marks, marked, mean, covariance)[1].isnan().all()
    assert gaussian_log_likelihood(marks, marked, mean, covariance)[:, 1].isnan().all()
    assert covariance_factor(marks, marked, mean, covariance).isfinite()
    assert spread_correlation(covariance, marks, marked).human[1].isnan()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda a: (a[0][0], *a[1:]), "`marks`"),
        (lambda a: (torch.full_like(a[0], math.inf), *a[1:]), "`marks` must be finite"),
        (lambda a: (a[0], a[1][:1], *a[2:]), "`marked`"),
        (lambda a: (*a[:2], a[2][:, :1], a[3]), "`mean`"),
        (lambda a: (*a[:3], -a[3]), "`covariance` must be positive definite"),
    ],
)
def test_mistakes_are_refused_by_name(change, said):
    with pytest.raises(ValueError, match=said):
        ellipsoid_coverage(*change(drawn()))
    with pytest.raises(ValueError, match=r"`levels` \(=1\)"):
        ellipsoid_coverage(*drawn(), (1,))
