"""The network as CUDA graphs: what is around the capture. What a graph computes is tested on a card."""

import copy
import logging

import pytest
import torch

from pcsa.models import KeypointDetector, LevelGeometry, PointNet2, build_geometry
from pcsa.tasks.common.graphed import GraphedNetwork


@pytest.fixture
def network():
    torch.manual_seed(0)
    return KeypointDetector(PointNet2(out_channels=16), 3)


def clouds(*sizes):
    pos = torch.rand(sum(sizes), 3, generator=torch.Generator().manual_seed(len(sizes)))
    ptr = torch.tensor([0, *sizes]).cumsum(0)
    return pos, ptr, build_geometry(pos, ptr, PointNet2().levels)


def capture(flat, args):
    """Stand in for `torch.cuda.make_graphed_callables`: it warms up by three passes of the network."""
    for _ in range(3):
        flat(*args)
    return flat


def test_warming_up_leaves_no_trace(network, monkeypatch):
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", capture)
    plain, graphed = copy.deepcopy(network), GraphedNetwork(network)
    pos, ptr, geometry = clouds(40, 40)
    for _ in range(2):
        expected, found = plain(None, pos, ptr=ptr, geometry=geometry), graphed(pos, ptr, geometry)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)
    state = plain.state_dict()
    assert state.keys() == network.state_dict().keys()
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


def test_batches_of_another_shape_are_refused(network, monkeypatch):
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", capture)
    graphed = GraphedNetwork(network)
    graphed(*clouds(40, 40))
    for other, shown in ((clouds(40, 41), "81 in 2"), (clouds(40, 20, 20), "80 in 3")):
        match = rf"`trainer.cuda_graph` \(=True\) .* 80 points in 2 clouds, this one {shown}"
        with pytest.raises(ValueError, match=match):
            graphed(*other)


def test_a_network_that_cannot_be_captured_runs_as_it_is(network, monkeypatch, caplog):
    def fails(flat, args):
        flat.forward = None
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", fails)
    graphed = GraphedNetwork(network.eval())
    with caplog.at_level(logging.WARNING):
        for batch in (clouds(40, 40), clouds(30, 50)):
            pos, ptr, geometry = batch
            assert torch.equal(graphed(*batch)["logits"], network(None, pos, ptr=ptr, geometry=geometry)["logits"])
    (record,) = caplog.records
    assert "cannot be captured (operation not permitted" in record.message


def test_every_field_of_a_level_is_a_tensor():
    # They are what a graph reads: a number would be that of the first batch for ever.
    assert all(isinstance(x, torch.Tensor) for level in clouds(40)[2] for x in level)
    assert set(LevelGeometry.__annotations__.values()) == {torch.Tensor}
