"""What a worker sends is what the training receives."""

import pickle
from multiprocessing.reduction import ForkingPickler

import pytest
import torch
from torch_geometric.data import Batch, Data

from pcsa.tasks.common import batches
from pcsa.tasks.common.engine import ResumableLoader


def items():
    generator = torch.Generator().manual_seed(0)
    for n in (4, 7):
        yield Data(
            pos=torch.randn(n, 3, generator=generator),
            flags=torch.rand(1, 5, generator=generator) > 0.5,
            half=torch.randn(n, generator=generator).bfloat16(),
            turned=torch.arange(6).view(2, 3).T,
            scale=torch.tensor(2.5, dtype=torch.float64),
            none=torch.empty(0, 3),
            name="x",
        )


def same(a, b):
    assert type(a) is type(b)
    assert set(a.keys()) == set(b.keys())
    for key in a.keys():  # noqa: SIM118
        x, y = a[key], b[key]
        if isinstance(x, torch.Tensor):
            assert x.dtype == y.dtype
            assert torch.equal(x, y), key
        else:
            assert x == y, key
    return True


def test_a_batch_survives_the_journey():
    batch = Batch.from_data_list(list(items()))
    sent = ForkingPickler.dumps(batches.Sent(batch))
    received = pickle.loads(sent)
    assert same(received, batch)
    assert received.num_graphs == 2
    # Memory of its own, which may be written to, and which begins as that of any tensor.
    received.pos += 1
    assert not torch.equal(received.pos, batch.pos)
    assert received.pos.data_ptr() % 64 == 0
    images = {"image": torch.rand(2, 3, 4), "names": ["a", "b"], "pair": (torch.ones(1), 3)}
    received = pickle.loads(ForkingPickler.dumps(batches.Sent(images)))
    assert torch.equal(received["image"], images["image"])
    assert received["names"] == ["a", "b"]
    assert received["pair"][0] == 1
    assert received["pair"][1] == 3


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_change_nothing(workers):
    data = [*items()] * 3
    loader = ResumableLoader(data, batch_size=2, num_workers=workers)
    for _ in range(2):
        received = list(loader)
        assert len(received) == 3
        for batch in received:
            assert same(batch, batches.Whole(Batch.from_data_list)(data[:2]))


def test_no_tensor_is_shared_unless_the_batch_is_large(monkeypatch):
    monkeypatch.setattr(batches, "get_worker_info", lambda: object())
    small = batches.Whole(Batch.from_data_list)(list(items()))
    assert isinstance(small, batches.Sent)
    large = batches.Whole(Batch.from_data_list)([Data(pos=torch.zeros(batches._MOST // 12 + 1, 3))])
    assert isinstance(large, Batch)
    image = torch.zeros(3, batches._MOST // 8)
    stacked = batches.Whole(torch.utils.data.default_collate)([{"image": image}])
    assert isinstance(stacked["image"], torch.Tensor)
