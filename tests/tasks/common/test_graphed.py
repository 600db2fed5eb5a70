"""The network as CUDA graphs: what is around the capture. What a graph computes is tested on a card."""

import copy
import inspect
import logging
from dataclasses import replace

import pytest
import torch
from torch_geometric.data import Data

from pcsa.models import KeypointDetector, LevelGeometry, PointNet2, build_geometry
from pcsa.tasks.common.config import TrainerConfig
from pcsa.tasks.common.graphed import Graphed, StepOfTensors, levels_of, tensors_of
from pcsa.tasks.supervised import Detection, DetectorConfig, ObjectiveConfig, SupervisedConfig, detection_loss

OBJECTIVES = [
    {"method": "cross_entropy"},
    {"method": "nll"},
    {"method": "mixture", "norm": "l1", "bandwidth": 0.1, "plus": (("soft_label", 0.5),)},
    {"method": "soft", "regularization": "js"},
    {"method": "discrete", "regularization": "variance"},
    {"method": "sampling"},
]


@pytest.fixture
def network():
    torch.manual_seed(0)
    return KeypointDetector(PointNet2(out_channels=16), 3)


def clouds(*sizes):
    pos = torch.rand(sum(sizes), 3, generator=torch.Generator().manual_seed(len(sizes)))
    ptr = torch.tensor([0, *sizes]).cumsum(0)
    return pos, ptr, *tensors_of(build_geometry(pos, ptr, PointNet2().levels))


def capture(flat, args):
    """Stand in for `torch.cuda.make_graphed_callables`: it warms up by three passes of the network."""
    for _ in range(3):
        flat(*args)
    return flat


def test_warming_up_leaves_no_trace(network, monkeypatch):
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", capture)
    plain, graphed = copy.deepcopy(network), Graphed(StepOfTensors(network))
    pos, ptr, *geometry = clouds(40, 40)
    for _ in range(2):
        expected = plain(None, pos, ptr=ptr, geometry=levels_of(geometry))
        found = graphed(pos, ptr, *geometry)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)
    state = plain.state_dict()
    assert state.keys() == network.state_dict().keys()
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


def test_clouds_of_another_number_or_size_do_not_fit(network, monkeypatch):
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", capture)
    graphed = Graphed(StepOfTensors(network))
    shapes = [clouds(*sizes)[:2] for sizes in ((40, 40), (41, 41), (40, 40, 40))]
    assert [graphed.fits(*each) for each in shapes] == [True] * 3
    graphed(*clouds(40, 40))
    assert [graphed.fits(*each) for each in shapes] == [True, False, False]
    # What else there is in a batch would be spread over what there was in the first.
    pos, ptr, *others = clouds(40, 40)
    with pytest.raises(ValueError, match=r"for `trainer.cuda_graph` \(=True\), .*, has "):
        graphed(pos, ptr, *others[:-1], others[-1][:1])


@pytest.mark.parametrize("error", [None, RuntimeError("operation not permitted when stream is capturing")])
def test_a_capture_minds_its_own_thread_alone(network, monkeypatch, error):
    whole, modes = torch.cuda.graph, []

    def takes(flat, args):
        modes.append(inspect.signature(torch.cuda.graph).parameters["capture_error_mode"].default)
        if error is not None:
            raise error
        return flat

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", takes)
    Graphed(StepOfTensors(network))(*clouds(40, 40))
    assert modes == ["thread_local"]
    assert torch.cuda.graph is whole


def test_a_network_that_cannot_be_captured_runs_as_it_is(network, monkeypatch, caplog):
    def fails(flat, args):
        flat.forward = None
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", fails)
    graphed = Graphed(StepOfTensors(network.eval()))
    with caplog.at_level(logging.WARNING):
        for batch in (clouds(40, 40), clouds(30, 50)):
            expected = network(None, batch[0], ptr=batch[1], geometry=levels_of(batch[2:]))
            assert torch.equal(graphed(*batch)["logits"], expected["logits"])
    (record,) = caplog.records
    assert "cannot be captured (operation not permitted" in record.message


def test_every_field_of_a_level_is_a_tensor():
    # They are what a graph reads: a number would be that of the first batch for ever.
    assert all(isinstance(x, torch.Tensor) for x in clouds(40))
    assert set(LevelGeometry.__annotations__.values()) == {torch.Tensor}


class OnCard(torch.Tensor):
    """Positions that say that they are on a card."""

    is_cuda = True


@pytest.mark.parametrize(
    ("trainer", "model", "taken"),
    [
        ({}, {}, True),
        ({"precision": "bf16-mixed"}, {}, True),
        ({"cuda_graph": False}, {}, False),
        ({"devices": 2}, {}, False),
        ({"num_nodes": 2}, {}, False),
        ({"precision": "16-mixed"}, {}, False),
        ({}, {"dropout": 0.1}, False),
        ({}, {"drop_path": 0.1, "local_blocks": 1}, False),
        ({}, {"backbone": "torch.nn:Identity"}, False),
    ],
    ids=str,
)
def test_where_graphs_are_taken(network, trainer, model, taken):
    config = SupervisedConfig(model=DetectorConfig(**model), trainer=TrainerConfig(**trainer))
    module = Detection(config, network, 1)
    batch = Data(pos=torch.rand(80, 3), ptr=torch.tensor([0, 40, 80]), bounds=[0, 40, 80])
    assert not module.takes_graphs(batch)
    batch.pos = batch.pos.as_subclass(OnCard)
    assert module.takes_graphs(batch) == taken
    # Clouds of several sizes.
    batch.bounds = [0, 30, 80]
    assert not module.takes_graphs(batch)
    plain = Detection(replace(config, trainer=replace(config.trainer, cuda_graph=False)), network, 1)
    assert module.state_dict().keys() == plain.state_dict().keys()


def test_clouds_that_do_not_fit_the_graph_take_a_step_of_their_own(network, monkeypatch):
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", capture)
    module = Detection(SupervisedConfig(), network, 1).eval()
    replayed, taken = module.replayed, []
    monkeypatch.setattr(module, "replayed", lambda *a: taken.append(a[0]) or replayed(*a))
    some = ((40, 40), (30, 50), (41, 41), (40, 40, 40), (40, 40))
    for sizes in some:
        batch, _ = labeled(sizes)
        batch.pos = batch.pos.as_subclass(OnCard)
        loss, _, number = module.loss(batch, 0.5, torch.Generator())
        assert (taken[-1] is batch) == (sizes == (40, 40))
        predicted = network(None, batch.pos, ptr=batch.ptr)
        expected, _ = detection_loss(module.objective, predicted, batch, 0.5, torch.Generator())
        torch.testing.assert_close(loss, expected)
        assert number == len(sizes)


def labeled(sizes, counted=False):
    pos, ptr, *geometry = clouds(*sizes)
    generator = torch.Generator().manual_seed(3)
    batch = Data(pos=pos, ptr=ptr, bounds=ptr.tolist(), num_graphs=len(sizes))
    batch.keypoints = torch.rand(len(sizes), 3, 3, generator=generator)
    batch.visible = torch.rand(len(sizes), 3, generator=generator) < 0.7
    batch.visible[0, 0] = True
    if counted:
        batch.counted = torch.rand(len(sizes), 3, generator=generator) < 0.9
    return batch, levels_of(geometry)


@pytest.mark.parametrize("counted", [False, True])
@pytest.mark.parametrize("options", OBJECTIVES, ids=lambda options: options["method"])
def test_the_step_that_is_captured_is_that_of_ragged_clouds(network, monkeypatch, options, counted):
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", capture)
    config = SupervisedConfig(objective=ObjectiveConfig(**options))
    module = Detection(config, network, 1).eval()
    batch, geometry = labeled((40, 40), counted)
    predicted = network(None, batch.pos, ptr=batch.ptr, geometry=geometry)
    expected, parts = detection_loss(config.objective, predicted, batch, 0.5, torch.Generator().manual_seed(1))
    weights = list(network.parameters())
    grads = torch.autograd.grad(expected, weights, allow_unused=True)
    for _ in range(2):
        loss, found = module.replayed(batch, geometry, 0.5, torch.Generator().manual_seed(1))
        torch.testing.assert_close(loss, expected)
        assert found.keys() == parts.keys()
        for name in parts:
            torch.testing.assert_close(found[name], parts[name])
        for a, b in zip(torch.autograd.grad(loss, weights, allow_unused=True), grads, strict=True):
            assert (a is None) == (b is None)
            if a is not None:
                torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("options", [OBJECTIVES[0], OBJECTIVES[-1]], ids=lambda options: options["method"])
def test_the_step_that_searches_is_that_of_what_was_searched_before(network, monkeypatch, options):
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", capture)
    config = SupervisedConfig(objective=ObjectiveConfig(**options))
    one, other = (Detection(config, network, 1).eval() for _ in range(2))
    losses = []
    for shift in (0.0, 0.3):
        batch, _ = labeled((40, 40))
        batch.pos = batch.pos * torch.tensor([1.0, 1.0, 1 - shift])
        geometry = build_geometry(batch.pos, batch.ptr, PointNet2().levels)
        expected, parts = one.replayed(batch, geometry, 0.5, torch.Generator().manual_seed(1))
        loss, found = other.replayed(batch, None, 0.5, torch.Generator().manual_seed(1))
        assert torch.equal(loss, expected)
        assert found.keys() == parts.keys()
        assert all(torch.equal(found[name], parts[name]) for name in parts)
        losses.append(loss)
    assert losses[0] != losses[1]


def test_a_step_that_cannot_be_captured_searches_in_clouds_of_any_size(network, monkeypatch):
    def fails(flat, args):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", fails)
    graphed = Graphed(StepOfTensors(network.eval()))
    for sizes in ((40, 40), (30, 30), (50, 50, 50)):
        pos, ptr, *geometry = clouds(*sizes)
        expected = network(None, pos, ptr=ptr, geometry=levels_of(geometry))
        assert torch.equal(graphed(pos, ptr, bounds=ptr.tolist())["logits"], expected["logits"])
