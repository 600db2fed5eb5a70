"""A process of two: losses and gradients of its halves of batches, for test_processes.py.

Called with its rank and a folder, which has the cases; the first process also computes those of whole batches.
"""

import pickle
import sys
from pathlib import Path

import torch
from torch import distributed
from torch.utils.data import default_collate
from torch_geometric.data import Batch

from pcsa import grid, soft_argmax
from pcsa.tasks import get_task
from pcsa.tasks.common import detection_loss, maps, reconstruction
from pcsa.tasks.common.objective import draw_samples
from pcsa.tasks.common.processes import mean_over_processes

RANKS = 2


def still(logits, pos, ptr=None):
    """What takes the place of samples: noise is each process's own."""
    mean = soft_argmax(logits, pos, ptr=ptr, validate=False)
    return mean.unsqueeze(2) + torch.tensor([-0.1, 0.05]).view(1, 1, 2, 1)


def still_grid(logits, *_, **__):
    return torch.stack([grid.soft_argmax(logits) + shift for shift in (-0.5, 0.25)], 2)


def hide_noise():
    def draw(config, logits, pos, bandwidth, ptr, *_):
        return still(logits, pos, ptr)

    for module in (detection_loss, reconstruction, maps):
        assert module.draw_samples is draw_samples
        module.draw_samples = draw
    maps.grid.sampling_argmax = still_grid
    # In float64, to compare.
    maps.tempered_logits = lambda config, logits, temperature: logits


def collated(items):
    return Batch.from_data_list(items) if hasattr(items[0], "pos") else default_collate(items)


def losses_of(module, items):
    """The loss, its parts, and the gradients, averaged over processes as in a training."""
    module.zero_grad()
    loss, parts, _ = module.loss(collated(items), 0.7, torch.Generator().manual_seed(0))
    loss.backward()
    found = dict(mean_over_processes({"loss": loss.detach(), **parts}))
    found = {name: value.double() for name, value in found.items()}
    for name, parameter in module.network.named_parameters():
        if parameter.grad is not None:
            grad = parameter.grad.double()
            if distributed.is_initialized():
                distributed.all_reduce(grad)
                grad /= RANKS
            found[f"gradient of {name}"] = grad
    return found


def main(rank, folder):
    torch.set_num_threads(1)
    hide_noise()
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=RANKS)
    cases = pickle.loads((folder / "cases").read_bytes())
    halves, prepared = {}, {}
    for name, task, config, visible in cases:
        training = get_task(task).training(config)
        # Statistics of a batch are each process's own.
        module = training.module.double().eval()
        items = [training.data.train_items.varied(i, torch.Generator().manual_seed(i)) for i in range(len(visible))]
        for item, row in zip(items, visible, strict=True):
            for key in item.keys() if callable(item.keys) else item.keys:
                if isinstance(item[key], torch.Tensor) and item[key].is_floating_point():
                    item[key] = item[key].double()
            if "visible" in item:
                seen = torch.tensor(row).repeat(99)[: item["visible"].shape[-2 if task == "oct" else -1]]
                item["visible"] = item["visible"] & (seen[:, None] if task == "oct" else seen)
        prepared[name] = module, items
        halves[name] = losses_of(module, items[rank::RANKS])
    distributed.destroy_process_group()
    if rank == 0:
        whole = {name: losses_of(*given) for name, given in prepared.items()}
        torch.save((halves, whole), folder / "found")


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
