"""A training step on a card: it waits for nothing, and the network may be CUDA graphs."""

from dataclasses import replace

import pytest
import torch
from torch_geometric.data import Batch

from pcsa.datasets.procedural import generate
from pcsa.datasets.transforms import Augment
from pcsa.tasks import get_task
from pcsa.tasks.common.config import OptimizerConfig, TrainerConfig
from pcsa.tasks.common.graphed import GraphedNetwork
from pcsa.tasks.supervised import SupervisedData

TASK = get_task("supervised")

pytestmark = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


@pytest.fixture(scope="module")
def training(tmp_path_factory):
    """A training's module on the card, its data, and three batches on the host."""
    root = tmp_path_factory.mktemp("clouds")
    generate(root, ["mug"], 20, num_points=600)

    def make(preset, **data):
        config = replace(
            TASK.presets[preset],
            data=SupervisedData(root=root, category="mug", augment=Augment(), **data),
            optimizer=OptimizerConfig(batch_size=4),
            trainer=TrainerConfig(accelerator="gpu", progress=False),
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
def test_graphs_take_the_steps_of_the_network(training, precision, tmp_path):
    module, _, _ = training("default")
    losses = []
    for graph in (False, True):
        trainer = TrainerConfig(
            accelerator="gpu", progress=False, precision=precision, cuda_graph=graph, validate_every=1000
        )
        optimizer = OptimizerConfig(batch_size=4, steps=5)
        config = replace(module.config, trainer=trainer, optimizer=optimizer, out=tmp_path / str(graph))
        state = torch.load(TASK.train(config), weights_only=True)["state_dict"]
        losses.append(torch.cat([value.flatten().double().cpu() for value in state.values()]))
    # The same kernels on the same numbers, but for sums whose order is not fixed.
    torch.testing.assert_close(losses[1], losses[0], rtol=0.05, atol=0.02)


def test_graphs_are_refused_for_clouds_of_several_sizes(training):
    module, loading, batches = training("default")
    module.graphed = GraphedNetwork(module.network)
    device = torch.device("cuda")
    for size, batch in ((600, batches[0]), (500, batches[1])):
        items = [item.clone() for item in batch.to_data_list()]
        for item in items:
            item.pos = item.pos[:size]
        whole = loading.transfer_batch_to_device(Batch.from_data_list(items), device, 0)
        if size == 600:
            module.loss(whole, 0.5, torch.Generator())
        else:
            with pytest.raises(ValueError, match="clouds of one size"):
                module.loss(whole, 0.5, torch.Generator())
