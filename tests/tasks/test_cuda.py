"""A training step on a card: it waits for nothing, and the network may be CUDA graphs."""

import csv
from dataclasses import replace

import pytest
import torch
from torch_geometric.data import Batch

from pcsa.datasets.procedural import generate
from pcsa.datasets.transforms import Augment
from pcsa.tasks import get_task
from pcsa.tasks.common.config import OptimizerConfig, TrainerConfig
from pcsa.tasks.supervised import SupervisedData

TASK = get_task("supervised")

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


@pytest.fixture(scope="module")
def training(tmp_path_factory):
    """A training's module on the card, its data, and three batches on the host."""
    root = tmp_path_factory.mktemp("clouds")
    generate(root, ["mug"], 20, num_points=600)

    def make(preset, cuda_graph=False, objective=None, **data):
        config = replace(
            TASK.presets[preset],
            data=SupervisedData(root=root, category="mug", augment=Augment(), **data),
            objective=replace(TASK.presets[preset].objective, **(objective or {})),
            optimizer=OptimizerConfig(batch_size=4),
            trainer=TrainerConfig(accelerator="gpu", progress=False, logger="csv", cuda_graph=cuda_graph),
        )
        made = TASK.training(config)
        items = made.data.train_items
        generator = torch.Generator().manual_seed(0)
        batches = [Batch.from_data_list([items.varied(4 * i + j, generator) for j in range(4)]) for i in range(3)]
        return made.module.cuda(), made.data, batches

    return make


@pytest.mark.parametrize(
    ("preset", "data"),
    [("default", {}), ("default", {"precompute": True}), ("sampling", {"precompute": True})],
)
def test_a_step_waits_for_nothing(training, preset, data):
    module, loading, batches = training(preset, **data)
    optimizer = torch.optim.Adam(module.parameters(), fused=True)
    device = torch.device("cuda")
    before = torch.cuda.get_sync_debug_mode()
    try:
        for batch in batches:
            batch = batch.pin_memory()
            batch = loading.transfer_batch_to_device(batch, device, 0)
            loss, _, _ = module.loss(batch, 0.5, torch.Generator().manual_seed(0))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimizer.step()
            # The first step may wait: for kernels to be built, for memory.
            torch.cuda.set_sync_debug_mode("error")
    finally:
        torch.cuda.set_sync_debug_mode(before)
    assert loss.isfinite()


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("preset", ["default", "sampling"])
def test_graphs_take_the_steps_of_the_network(training, preset, precision, tmp_path):
    module, _, _ = training(preset)
    logs = []
    for graph in (False, True):
        trainer = replace(module.config.trainer, precision=precision, cuda_graph=graph, validate_every=1000)
        optimizer = OptimizerConfig(batch_size=4, steps=20)
        config = replace(module.config, trainer=trainer, optimizer=optimizer, out=tmp_path / str(graph))
        TASK.train(config)
        logs.append(logged(config.out, "loss"))
    # Sums whose order is not fixed, and Adam's first steps, which take the sign of a gradient for its size.
    torch.testing.assert_close(logs[1], logs[0], rtol=0.1, atol=0.05)
    assert logs[0].isfinite().all()
    # The loss of samples depends on their temperature, which falls.
    assert preset == "sampling" or logs[0][-1] < logs[0][0]


def logged(run, name):
    (file,) = run.glob("log/*/metrics.csv")
    with file.open() as stream:
        return torch.tensor([float(row[name]) for row in csv.DictReader(stream) if row.get(name)])


@pytest.mark.parametrize("objective", [{}, {"method": "nll"}, {"method": "soft", "regularization": "variance"}])
def test_gradients_by_graphs_are_those_of_kernels(training, objective):
    grads = []
    for graph in (False, True):
        module, loading, batches = training("default", cuda_graph=graph, objective=objective)
        for batch in batches[:2]:
            module.zero_grad()
            there = loading.transfer_batch_to_device(batch, torch.device("cuda"), 0)
            module.loss(there, 0.5, torch.Generator().manual_seed(0))[0].backward()
        grads.append([p.grad for p in module.parameters()])
    for found, expected in zip(grads[1], grads[0], strict=True):
        # As far apart as two runs of the same sums in another order.
        torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-3 * float(expected.abs().max()) + 1e-7)


@pytest.mark.parametrize("precompute", [False, True])
@pytest.mark.parametrize("preset", ["default", "sampling"])
def test_every_batch_has_a_loss_of_its_own_by_graphs(training, preset, precompute):
    losses = []
    for graph in (False, True):
        module, loading, batches = training(preset, cuda_graph=graph, precompute=precompute)
        steps = []
        for batch in [*batches, batches[0]]:
            there = loading.transfer_batch_to_device(batch, torch.device("cuda"), 0)
            loss, parts, _ = module.loss(there, 0.5, torch.Generator().manual_seed(0))
            steps.append(torch.stack([loss.detach(), *parts.values()]))
        losses.append(torch.stack(steps))
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-3, atol=1e-5)
    # No table of the first batch is read for the second, and what was found before is found again.
    assert losses[1][:3, 0].unique().numel() == 3
    torch.testing.assert_close(losses[1][3], losses[1][0], rtol=1e-4, atol=1e-6)


def test_the_step_by_graphs_searches_within_them(training):
    module, loading, batches = training("default", cuda_graph=True)
    for batch in batches:
        there = loading.transfer_batch_to_device(batch.pin_memory(), torch.device("cuda"), 0)
        module.loss(there, 0.5, torch.Generator())
        step = module.graphed._flat.function
        assert step.bounds == [0, 600, 1200, 1800, 2400]
        assert step._tables
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        module.loss(there, 0.5, torch.Generator())
    # Positions, bounds, keypoints, visibility; one more for the parts of the loss.
    assert sum(event.count for event in profile.key_averages() if event.key == "aten::copy_") <= 5


def test_clouds_that_do_not_fit_the_graph_take_a_step_of_their_own(training):
    steps = {graph: training("default", cuda_graph=graph) for graph in (True, False)}
    device = torch.device("cuda")
    for sizes in ((600,) * 4, (500,) * 4, (500, 700, 600, 600), (600,) * 4):
        items = [item.clone() for item in steps[True][2][0].to_data_list()]
        for item, size in zip(items, sizes, strict=True):
            item.pos = item.pos.repeat(2, 1)[:size]
        losses, grads = [], []
        for module, loading, _ in steps.values():
            whole = loading.transfer_batch_to_device(Batch.from_data_list(items), device, 0)
            module.zero_grad()
            losses.append(module.loss(whole, 0.5, torch.Generator())[0])
            losses[-1].backward()
            grads.append([p.grad for p in module.parameters()])
        assert [each[0].graphed is None for each in steps.values()] == [False, True]
        assert steps[True][0].takes_graphs(whole) == (sizes == (600,) * 4)
        torch.testing.assert_close(losses[0], losses[1], rtol=1e-3, atol=1e-5)
        for found, expected in zip(*grads, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-3 * float(expected.abs().max()) + 1e-7)
