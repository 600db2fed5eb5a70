import pytest
import torch

from pcsa.neighbors import knn, knn_graph

RAGGED, SQUARE = (17, 1, 200, 5), (40, 40, 40)


@pytest.mark.parametrize("loop", [False, True])
@pytest.mark.parametrize("sizes", [RAGGED, SQUARE])
def test_knn_graph_naive(sizes, loop, backend, clouds, naive_neighbors):
    pos, ptr = clouds(sizes)
    edges = knn_graph(pos, ptr, 4, loop=loop, backend=backend)
    expected = naive_neighbors(pos, ptr, pos, ptr, 4, exclude_self=not loop)
    assert edges.t().tolist() == [[j, i] for i, rows in enumerate(expected) for j, _ in rows]


def test_knn_graph_feeds_edge_conv(clouds):
    geometric = pytest.importorskip("torch_geometric.nn")
    pos, ptr = clouds(RAGGED)
    network = torch.nn.Linear(6, 8)
    out = geometric.EdgeConv(network, aggr="max")(pos, knn_graph(pos, ptr, 4))
    for i in (0, 100):  # max_j h(x_i, x_j − x_i) over the four neighbors j of i
        index = knn(pos, ptr, 4, exclude_self=True).index[i]
        messages = network(torch.cat([pos[i].expand(4, 3), pos[index] - pos[i]], dim=1))
        torch.testing.assert_close(out[i], messages.amax(0))
    assert (out[17] == 0).all()  # alone in its cloud: no edge
