"""A loader that goes on where an item cannot be read, and says which one and why."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch.utils.data import DataLoader, Dataset

from pcsa.datasets.faults import said
from pcsa.tasks.common.endings import await_the_end


@dataclass(frozen=True)
class Failure:
    """An item that cannot be read."""

    index: int
    reason: str

    def __str__(self) -> str:
        return f"item {self.index}: {self.reason}"


def guarded_batches(
    loader: type[DataLoader[Any]], items: Any, batches: Sequence[Sequence[int]], num_workers: int
) -> Iterator[tuple[Any, list[Failure]]]:
    """Iterate over batches of the items that can be read, None where none of a batch can, beside those that cannot.

    Args:
        loader: Makes the batches.
        items: The items.
        batches: Items of every batch, those that fail among them.
        num_workers: Processes that load the items. What fails in one of them is told as what fails in this one.
    """
    # The class of the loader decides how its items become a batch.
    collate = _Collate(loader(items, batch_size=1).collate_fn)
    guarded: DataLoader[Any] = DataLoader(
        Guarded(items),
        batch_sampler=[list(batch) for batch in batches],
        num_workers=num_workers,
        collate_fn=collate,
        worker_init_fn=await_the_end,
    )
    return iter(guarded)


class Guarded(Dataset[Any]):
    """Items, or the failure of one that cannot be read."""

    def __init__(self, items: Any) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        try:
            return self.items[index]
        except Exception as error:  # whatever its file holds
            known = isinstance(error, (ValueError, OSError))
            text = " ".join(said(error).split())
            return Failure(index, text if known else f"{type(error).__name__}{': ' * bool(text)}{text}")


class _Collate:
    """Collates what was read; a class, so that it can be sent to the processes."""

    def __init__(self, collate: Callable[[list[Any]], Any]) -> None:
        self.collate = collate

    def __call__(self, batch: list[Any]) -> tuple[Any, list[Failure]]:
        read = [item for item in batch if not isinstance(item, Failure)]
        return self.collate(read) if read else None, [item for item in batch if isinstance(item, Failure)]
