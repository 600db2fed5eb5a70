import math

import pytest
import torch
from hypothesis import given, settings, strategies as st

from pcsa import grid

FRAMES = ["index", "normalized", "normalized_corners", "pixels", "physical", "released"]


def frame_options(frame, num_axes):
    return {"frame": frame, "spacing": [0.5, 4.0, 3.0][:num_axes] if frame in ("pixels", "physical") else None}


quick = settings(deadline=None, max_examples=25, derandomize=True)


@given(
    shape=st.lists(st.integers(2, 70), min_size=1, max_size=3),
    frame=st.sampled_from(FRAMES),
    where=st.lists(st.floats(-1, 2), min_size=3, max_size=3),
)
@quick
def test_frames_go_there_and_back(shape, frame, where):
    sizes = torch.tensor(shape[::-1], dtype=torch.float64)
    index = torch.tensor(where[: len(shape)], dtype=torch.float64) * sizes
    options = frame_options(frame, len(shape))
    there = grid.from_index(index, shape, **options)
    torch.testing.assert_close(grid.to_index(there, shape, **options), index, rtol=1e-12, atol=1e-12)
    # And in the other direction.
    back = grid.to_index(index, shape, **options)
    torch.testing.assert_close(grid.from_index(back, shape, **options), index, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("frame", FRAMES)
def test_results_come_in_the_frame_asked_for(seeded, maps, shape, frame, close):
    logits, options = maps(shape), frame_options(frame, len(shape))
    close(grid.soft_argmax(logits, **options), grid.from_index(grid.soft_argmax(logits), shape, **options))
    close(
        grid.kernel_soft_argmax(logits, 2.0, **options),
        grid.from_index(grid.kernel_soft_argmax(logits, 2.0), shape, **options),
    )
    for basis in ("uniform", "triangular", "gaussian"):
        drawn = [grid.sampling_argmax(logits, basis, num_samples=3, generator=seeded(), **o) for o in ({}, options)]
        close(drawn[1], grid.from_index(drawn[0], shape, **options))


def test_values_of_the_frames():
    # Four rows of eight cells; the first and the last cell, by the definitions.
    corners = torch.tensor([[0.0, 0.0], [7.0, 3.0]])
    for frame, spacing, wanted in (
        ("index", None, [[0, 0], [7, 3]]),
        ("normalized", None, [[-7 / 8, -3 / 4], [7 / 8, 3 / 4]]),
        ("normalized_corners", None, [[-1, -1], [1, 1]]),
        ("pixels", 4.0, [[1.5, 1.5], [29.5, 13.5]]),
        ("pixels", 1.0, [[0, 0], [7, 3]]),
        ("physical", (0.5, 2.0), [[0, 0], [3.5, 6]]),
        ("released", None, [[-0.5, -0.5], [3 / 8, 1 / 4]]),
    ):
        found = grid.from_index(corners, (4, 8), frame=frame, spacing=spacing)
        torch.testing.assert_close(found, torch.tensor(wanted, dtype=torch.float32), rtol=0, atol=0)
    # Outer edges are -1 and 1 in one convention, half a cell beyond them in the other.
    edges = torch.tensor([[-0.5, -0.5], [7.5, 3.5]])
    assert grid.from_index(edges, (4, 8), frame="normalized").tolist() == [[-1, -1], [1, 1]]
    assert grid.from_index(edges, (4, 8), frame="normalized_corners")[1].tolist() == pytest.approx([8 / 7, 4 / 3])


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4)], ids=str)
def test_normalized_frames_are_those_of_grid_sample(shape):
    D = len(shape)
    eye = torch.eye(D, D + 1)[None]
    for frame, align in (("normalized", False), ("normalized_corners", True)):
        theirs = torch.nn.functional.affine_grid(eye, [1, 1, *shape], align_corners=align).view(-1, D)
        torch.testing.assert_close(grid.cells(shape, frame=frame), theirs)
        # Reading a map at a position given in that frame finds the cell.
        values = torch.arange(math.prod(shape), dtype=torch.float32).view(1, 1, *shape)
        at = grid.from_index(grid.cells(shape), shape, frame=frame).view(1, *shape, D)
        read = torch.nn.functional.grid_sample(values, at, align_corners=align)
        torch.testing.assert_close(read, values, atol=1e-4, rtol=1e-4)


def test_a_cell_is_the_mean_of_its_pixels():
    # Pixel coordinates of a 12 x 20 image, averaged over the 4 x 4 pixels of each cell.
    pixel = grid.cells((12, 20)).view(1, 12, 20, 2).permute(0, 3, 1, 2)
    mean = torch.nn.functional.avg_pool2d(pixel, 4).flatten(2)[0].T
    torch.testing.assert_close(mean, grid.cells((3, 5), frame="pixels", spacing=4.0))
