import math

import pytest
import torch

from pcsa.neighbors import ball_query, farthest_points, interpolate, knn, knn_graph

POS, PTR = torch.randn(8, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 5, 8])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: knn(POS[:, 0], PTR, 2), r"`pos` \[8\] must be \[N, D\]"),
        (lambda: knn(POS.long(), PTR, 2), r"`pos` \(torch.int64\) must be floating"),
        (lambda: knn(POS, PTR.float(), 2), r"`ptr` .*torch.float32.* must be int64 \[B \+ 1\]"),
        (lambda: knn(POS, PTR[:-1], 2), r"`ptr` \(=\[0, 5\]\) must rise from 0 to 8, the rows of `pos`$"),
        (
            lambda: knn(POS, torch.tensor([0] * 5 + [1] * 3), 2),
            r"`ptr` .*…\) must rise .*; the cloud of each point is `batch`$",
        ),
        (lambda: knn(POS, torch.tensor([0, 9, 8]), 2), r"`ptr` \(=\[0, 9, 8\]\) must rise"),
        (lambda: knn(POS, torch.tensor([0, 8, 8]), 2, POS, PTR), "`ptr` has no points in cloud 1"),
        (lambda: knn(POS, PTR, 0), r"`k` \(=0\) must be at least 1"),
        (lambda: knn(POS, PTR, 2.0), r"`k` \(=2.0\) must be a whole number"),
        (lambda: knn(POS / 0, PTR, 2), "`pos` must be finite"),
        (lambda: knn(POS, PTR, 2, POS * math.nan, PTR), "`query` must be finite"),
        (lambda: knn(POS, PTR, 2, POS), r"`query_ptr` \(=None\) must be given"),
        (lambda: knn(POS, PTR, 2, query_ptr=PTR), "`query_ptr` must be given with `query`: there is no"),
        (lambda: knn(POS, PTR, 2, POS, PTR, exclude_self=True), r"`exclude_self` \(=True\)"),
        (lambda: knn(POS, PTR, 2, POS[:, :2], PTR), "`query` .2 axes"),
        (lambda: knn(POS, PTR, 2, POS.double(), PTR), "`query` .*float64"),
        (lambda: knn(POS, PTR, 2, POS, torch.tensor([0, 8])), r"`query_ptr` \(1 clouds\)"),
        (lambda: knn(POS, PTR, 2, POS, PTR[:-1]), r"`query_ptr` \(=\[0, 5\]\) must rise"),
        (lambda: knn(POS, PTR, 2, backend="faiss"), r"`backend` \(='faiss'\) must be one of 'torch'"),
        (lambda: ball_query(POS, PTR, 0.0, 2), r"`radius` \(=0.0\) must be positive"),
        (lambda: ball_query(POS, PTR, math.nan, 2), r"`radius` \(=nan\)"),
        (lambda: ball_query(POS, PTR, 1.0, 0), r"`max_neighbors` \(=0\)"),
        (lambda: knn_graph(POS, PTR, -1), r"`k` \(=-1\)"),
        (
            lambda: interpolate(POS[1:], POS, PTR, POS, PTR),
            r"`features` \[7, 3\] must be \[8, C\]",
        ),
        (lambda: interpolate(POS.long(), POS, PTR, POS, PTR), r"`features` \(torch.int64\) must be floating"),
        (lambda: farthest_points(POS, PTR, 0), r"`num_samples` \(=0\) must be at least 1"),
        (lambda: farthest_points(POS, PTR, 1.5), r"`num_samples` \(=1.5\) must be above 0 and at most 1"),
        (lambda: farthest_points(POS, PTR, torch.tensor([1, 0])), r"`num_samples` \(=\[1, 0\]\)"),
        (lambda: farthest_points(POS, PTR, torch.tensor([1])), r"`num_samples` \[1\] .* must be int64 \[2\]"),
        (lambda: farthest_points(POS * math.inf, PTR, 2), "`pos` must be finite"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
