import threading

import pytest
import torch

import pcsa
import pcsa.neighbors
import pcsa.skeleton
from pcsa._core import kernel
from pcsa._core.tiles import in_order, one_thread

CPU = torch.device("cpu")


@pytest.fixture
def threads():
    """Set torch's number of threads, and put it back."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("number", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 40])
def test_results_come_in_order_and_tasks_are_made_in_order_by_the_caller(number, count):
    made = []

    def tasks():
        for i in range(count):
            made.append((i, threading.get_ident()))
            yield lambda i=i: i * i

    assert list(in_order(tasks(), number)) == [i * i for i in range(count)]
    assert made == [(i, threading.get_ident()) for i in range(count)]


def test_tasks_run_at_once_each_on_one_thread_and_without_gradient():
    met = threading.Barrier(2)

    def task():
        met.wait(30)  # breaks unless two are here at once
        return threading.get_ident(), torch.get_num_threads(), torch.is_grad_enabled()

    found = list(in_order([task] * 4, 2))
    assert {(number, gradient) for _, number, gradient in found} == {(1, False)}
    assert threading.get_ident() not in {ident for ident, *_ in found}


def test_an_error_in_a_task_reaches_the_caller():
    def broken():
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        list(in_order([broken] * 9, 3))


def test_the_number_of_threads_is_put_back(threads):
    def broken():
        with one_thread(CPU) as outside:
            assert (outside, torch.get_num_threads()) == (3, 1)
            raise ValueError("broken")

    threads(3)
    with pytest.raises(ValueError, match="broken"):
        broken()
    assert torch.get_num_threads() == 3
    with one_thread(torch.device("meta")) as outside:
        assert (outside, torch.get_num_threads()) == (1, 3)


@pytest.mark.parametrize("estimator", ["relaxed", "straight_through", "implicit"])
@pytest.mark.parametrize("ptr", [[0, 200, 400], [0, 3, 390, 400]])
def test_the_number_of_threads_changes_no_bit(threads, monkeypatch, estimator, ptr):
    monkeypatch.setattr(kernel, "_TILE_CPU", 1 << 9)
    given = torch.Generator().manual_seed(0)
    logits = torch.randn(400, 3, generator=given)
    pos = torch.rand(400, 3, generator=given)
    bandwidth = 0.01 + 0.1 * torch.rand(400, generator=given)
    pull = torch.randn(len(ptr) - 1, 3, 7, 3, generator=given)

    def run(number):
        threads(number)
        inputs = [x.clone().requires_grad_() for x in (logits, pos, bandwidth)]
        generator = torch.Generator().manual_seed(1)
        samples = pcsa.sampling_argmax(
            *inputs, ptr=torch.tensor(ptr), num_samples=7, temperature=0.5, estimator=estimator, generator=generator
        )
        assert torch.get_num_threads() == number
        return [samples.detach(), *torch.autograd.grad((samples * pull).sum(), inputs)]

    one = run(1)
    for number in (2, 5):
        for a, b in zip(one, run(number), strict=True):
            assert torch.equal(a, b)


def test_the_number_of_threads_changes_no_neighbor_and_no_skeleton(threads, monkeypatch):
    monkeypatch.setattr("pcsa.neighbors.backends.torch.TILE_CPU", 1 << 10)
    monkeypatch.setattr("pcsa.skeleton._TILE_CPU", 1 << 10)
    given = torch.Generator().manual_seed(0)
    pos, keypoints = torch.rand(500, 3, generator=given), torch.rand(1, 5, 3, generator=given)
    found = []
    for number in (1, 4):
        threads(number)
        given.manual_seed(1)
        nearest = pcsa.neighbors.knn(pos, torch.tensor([0, 300, 500]), 9, backend="torch")
        skeleton = pcsa.skeleton.skeleton_points(keypoints, spacing=0.02)
        chamfer = pcsa.skeleton.composite_chamfer(*skeleton, torch.rand(1, 10, generator=given), pos)
        found.append([*nearest, *chamfer])
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)
