"""Tiles of an operator on the threads of a CPU: a thread works on a tile, instead of all threads on each operation.

A tile is some twenty short operations. Divided among threads, each of them ends when the last thread does: where
another process is busy, twenty times per tile that is a thread which is not running.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
Task = Callable[[], T]


@contextmanager
def one_thread(device: torch.device) -> Iterator[int]:
    """Keep the operations within on one thread of the CPU; yield how many threads torch has outside.

    On an accelerator nothing changes, and the number is 1.
    """
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    if threads == 1:
        yield 1
        return
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)


def in_order(tasks: Iterable[Task[T]], threads: int) -> Iterator[T]:
    """Results of tasks in their order, of which some run at once, each on one thread and without gradient.

    This thread alone goes through ``tasks``, in order: what making a task does, such as drawing numbers, is not
    touched by how many threads there are.
    """
    if threads == 1:
        yield from (task() for task in tasks)
        return
    remaining = iter(tasks)
    waiting: deque[Future[T]] = deque()
    first, second = next(remaining, None), next(remaining, None)
    if first is None:
        return
    if second is None:  # not worth a thread
        yield first()
        return
    with ThreadPoolExecutor(threads, "pcsa", lambda: torch.set_num_threads(1)) as pool:
        waiting.extend(pool.submit(_without_gradient, task) for task in (first, second))
        for task in remaining:
            waiting.append(pool.submit(_without_gradient, task))
            # More would only keep numbers drawn ahead.
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def tiles_of_lengths(first: Sequence[int], limit: int) -> Iterator[tuple[Tensor, Tensor, int]]:
    """Segments of similar length in tiles of about ``limit`` points: their numbers, places in them, and their width.

    A segment shorter than the longest of its tile repeats its last point, which changes no minimum.
    """
    count = torch.tensor(first).diff()
    order = count.argsort(descending=True, stable=True)
    widths = count[order].tolist()
    begin = 0
    while begin < len(widths):
        width = widths[begin]
        chosen = order[begin : begin + max(1, limit // width)]
        yield chosen, torch.arange(width).minimum(count[chosen, None] - 1), width
        begin += len(chosen)


def _without_gradient(task: Task[T]) -> T:
    # What is switched off in the caller's thread is on in every other one.
    with torch.no_grad():
        return task()
