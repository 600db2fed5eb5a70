"""Every function takes ``ptr``, ``batch``, one cloud, and what holds the positions of clouds, with the same answers."""

import pytest
import torch

from pcsa.neighbors import ball_query, farthest_points, interpolate, interpolation_weights, knn, knn_graph

GENERATOR = torch.Generator().manual_seed(0)
POS, QUERY = torch.randn(8, 3, generator=GENERATOR), torch.randn(5, 3, generator=GENERATOR)
FEATURES = torch.randn(8, 4, generator=GENERATOR)
PTR, BATCH = torch.tensor([0, 5, 8]), torch.tensor([0] * 5 + [1] * 3)
QUERY_PTR, QUERY_BATCH = torch.tensor([0, 1, 5]), torch.tensor([0, 1, 1, 1, 1])


class Data:
    """What a PyTorch Geometric ``Data`` is to the package."""

    def __init__(self, pos, batch=None, ptr=None):
        self.pos, self.batch = pos, batch
        if ptr is not None:
            self.ptr = ptr


CALLS = {
    "farthest_points": (lambda pos, *c, **o: farthest_points(pos, *c, num_samples=2, **o), False),
    "knn_graph": (lambda pos, *c, **o: knn_graph(pos, *c, k=2, **o), False),
    "knn": (lambda pos, *c, **o: knn(pos, *c, k=2, **o), False),
    "knn of queries": (lambda pos, *c, **o: knn(pos, *c, k=2, **o), True),
    "ball_query": (lambda pos, *c, **o: ball_query(pos, *c, radius=1.0, max_neighbors=2, **o), True),
    "interpolation_weights": (interpolation_weights, True),
    "interpolate": (lambda pos, *c, **o: interpolate(FEATURES, pos, *c, **o), True),
}
every = pytest.mark.parametrize(("call", "queries"), CALLS.values(), ids=CALLS)


def equal(found, wanted):
    found, wanted = ((x,) if isinstance(x, torch.Tensor) else x for x in (found, wanted))
    return all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


@every
def test_every_form_has_the_same_answer(call, queries):
    by_ptr = {"query": QUERY, "query_ptr": QUERY_PTR} if queries else {}
    by_batch = {"query": QUERY, "query_batch": QUERY_BATCH} if queries else {}
    by_data = {"query": Data(QUERY, ptr=QUERY_PTR)} if queries else {}
    wanted = call(POS, PTR, **by_ptr)
    assert equal(call(POS, batch=BATCH, **by_batch), wanted)
    assert equal(call(POS, ptr=PTR, **by_batch), wanted)
    assert equal(call(Data(POS, ptr=PTR), **by_data), wanted)
    assert equal(call(Data(POS, batch=BATCH), **by_data), wanted)


@every
def test_one_cloud_needs_neither(call, queries):
    query = {"query": QUERY} if queries else {}
    whole = {"query_ptr": torch.tensor([0, 5])} if queries else {}
    wanted = call(POS, torch.tensor([0, 8]), **query, **whole)
    assert equal(call(POS, **query), wanted)
    assert equal(call(Data(POS), **query), wanted)


def test_batches_of_pytorch_geometric():
    data = pytest.importorskip("torch_geometric.data")
    clouds = data.Batch.from_data_list([data.Data(pos=POS[:5]), data.Data(pos=POS[5:])])
    assert equal(knn_graph(clouds, k=2), knn_graph(POS, PTR, 2))
    assert equal(knn_graph(data.Data(pos=POS), k=2), knn_graph(POS, k=2))


def test_the_last_clouds_of_a_batch_may_be_empty():
    # Of three clouds by `ptr`, `batch` names the first two alone.
    three = torch.tensor([0, 1, 5, 5])
    assert equal(
        knn(POS, torch.tensor([0, 5, 8, 8]), 2, QUERY, query_batch=QUERY_BATCH),
        knn(POS, torch.tensor([0, 5, 8, 8]), 2, QUERY, three),
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: knn(POS, PTR, 2, batch=BATCH), "`batch` and `ptr` say the same thing"),
        (lambda: knn(POS, PTR, 2, QUERY, QUERY_PTR, query_batch=QUERY_BATCH), "`query_batch` and `query_ptr` say"),
        (lambda: knn(POS, k=2, batch=BATCH.flip(0)), "`batch` must be sorted, with cloud numbers from 0 on"),
        (lambda: knn(POS, k=2, batch=BATCH - 1), "`batch` must be sorted, with cloud numbers from 0 on"),
        (lambda: knn(POS, k=2, batch=BATCH[:4]), r"`batch` \[4\] .* must be int64 \[8\]"),
        (lambda: knn(POS, PTR), r"`k` \(=None\) must be a whole number"),
        (lambda: knn(POS, 2, 2), r"`ptr` \(int\) must be a tensor"),
        (lambda: knn(POS, PTR, 2, query_batch=QUERY_BATCH), "`query_batch` must be given with `query`"),
        (lambda: knn(POS, PTR, 2, QUERY), r"`query_ptr` \(=None\) must be given with `query` for 2 clouds"),
        (lambda: knn(POS, k=2, query=QUERY, query_batch=QUERY_BATCH), "`ptr` has no points in cloud 1|as many as"),
        (lambda: ball_query(POS, PTR, max_neighbors=2), r"`radius` \(=None\) must be a number"),
        (lambda: ball_query(POS, PTR, 1.0), r"`max_neighbors` \(=None\) must be a whole number"),
        (lambda: interpolation_weights(POS, PTR), r"`query` \(=None\) must be positions"),
        (lambda: farthest_points(POS, PTR), r"`num_samples` \(=None\) must be a number of points"),
        (lambda: farthest_points(POS, PTR, 2, generator=0), r"`generator` \(builtins.int\) must be a torch.Generator"),
        (lambda: knn(Data(None), k=2), r"`pos` \(NoneType\) must be a tensor"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
