"""The network as CUDA graphs: what is around the capture. What a graph computes is tested on a card."""

import copy
import logging
from dataclasses import replace

import pytest
import torch

from pcsa.models import KeypointDetector, LevelGeometry, PointNet2, build_geometry
from pcsa.tasks.common.config import TrainerConfig
from pcsa.tasks.common.graphed import GraphedNetwork
from pcsa.tasks.supervised import Detection, DetectorConfig, SupervisedConfig
from pcsa.tasks.unsupervised import UnsupervisedConfig


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


def test_where_graphs_are_refused(network):
    graphs, config = TrainerConfig(cuda_graph=True), SupervisedConfig()
    for trainer, message in (
        (replace(graphs, cuda_graph=False, devices=2), r"several devices \(=2\)"),
        (replace(graphs, cuda_graph=False, precision="16-mixed"), "'16-mixed': it is for 32-true and bf16-mixed"),
    ):
        replace(config, trainer=trainer)
        with pytest.raises(ValueError, match=rf"`trainer.cuda_graph` \(=True\) must be False .*{message}"):
            replace(config, trainer=replace(trainer, cuda_graph=True))
    for model in (DetectorConfig(dropout=0.1), DetectorConfig(drop_path=0.1, local_blocks=1)):
        with pytest.raises(ValueError, match="would repeat what it drew first"):
            replace(config, model=model, trainer=graphs)
    with pytest.raises(ValueError, match="must be False in this task"):
        UnsupervisedConfig(trainer=graphs)
    module = Detection(replace(config, trainer=graphs), network, 1)
    assert module.state_dict().keys() == Detection(config, network, 1).state_dict().keys()
    with pytest.raises(ValueError, match="is for a CUDA device: this training is on cpu"):
        module.on_fit_start()
