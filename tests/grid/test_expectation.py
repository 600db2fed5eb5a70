import numpy as np
import pytest
import torch

from pcsa import grid


@pytest.mark.parametrize("periodic", ["", "x"])
def test_gradcheck_of_expectations(maps, shape, periodic):
    logits = maps(shape).requires_grad_()
    for function in (
        lambda x: grid.soft_argmax(x, temperature=0.8, periodic=periodic),
        lambda x: grid.kernel_soft_argmax(x, 1.5, temperature=0.8, periodic=periodic),
        lambda x: grid.kernel_soft_argmax(x.abs(), 1.5, on="scores", temperature=0.8, periodic=periodic),
    ):
        assert torch.autograd.gradcheck(function, logits)


def test_soft_argmax_is_that_of_dsntnn(maps, oracle, shape, close):
    dsntnn = oracle("dsntnn")
    logits = maps(shape)
    prob = dsntnn.flat_softmax(logits)
    close(grid.soft_argmax(logits, frame="normalized"), dsntnn.dsnt(prob))
    close(grid.soft_argmax(logits), dsntnn.dsnt(prob, normalized_coordinates=False))
    index = grid.soft_argmax(logits)
    close(grid.from_index(index, shape, frame="normalized"), dsntnn.pixel_to_normalized_coordinates(index, shape))


def test_soft_argmax_is_that_of_kornia(maps, oracle, close):
    oracle("kornia")
    from kornia.geometry.subpix import spatial_soft_argmax2d

    logits = maps((5, 6))
    # Its normalized frame has the outer centers at -1 and 1.
    for temperature in (1.0, 0.4):
        for frame, normalized in (("index", False), ("normalized_corners", True)):
            theirs = spatial_soft_argmax2d(logits / temperature, normalized_coordinates=normalized)
            close(grid.soft_argmax(logits, frame=frame, temperature=temperature), theirs)


@pytest.mark.parametrize("on", ["probabilities", "scores"])
def test_the_window_of_kernel_soft_argmax(maps, on, close):
    logits = maps((4, 5)).abs()
    found = grid.kernel_soft_argmax(logits, 1.5, on=on, temperature=0.5)
    for b in range(2):
        for k in range(2):
            score = logits[b, k].numpy()
            py, px = np.unravel_index(score.argmax(), score.shape)
            y, x = np.mgrid[:4, :5]
            window = np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * 1.5**2))
            weight = np.exp(window * score / 0.5) if on == "scores" else window * np.exp(score / 0.5)
            weight /= weight.sum()
            close(found[b, k], torch.tensor([(weight * x).sum(), (weight * y).sum()]))


def test_kernel_soft_argmax_keeps_to_its_peak(maps):
    logits = maps((4, 5))
    torch.testing.assert_close(grid.kernel_soft_argmax(logits, 1e6), grid.soft_argmax(logits), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(grid.kernel_soft_argmax(logits - 7.0, 1.5), grid.kernel_soft_argmax(logits, 1.5))
    narrow = grid.kernel_soft_argmax(logits, 0.05)
    peak = logits.flatten(2).argmax(-1)
    torch.testing.assert_close(narrow, torch.stack([peak % 5, peak // 5], -1).double())
    # Across the seam of a ring the window goes on.
    ring = torch.full((1, 1, 8), -1e3)
    ring[..., 0], ring[..., 7] = 1.0, 1.0
    found = grid.kernel_soft_argmax(ring, 1.0, periodic="x").item()
    assert -0.5 < found < -0.1
    assert grid.kernel_soft_argmax(ring, 1.0).item() == pytest.approx(0.0, abs=1e-5)
