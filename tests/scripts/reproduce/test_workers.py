from types import SimpleNamespace

from pcsa.scripts.reproduce.workers import Outcome, Queue


def work(key, *needs):
    return SimpleNamespace(key=key, needs=needs)


def test_a_run_waits_for_what_it_needs():
    a, b = work("a"), work("b")
    both, one, free = work("both", a, b), work("one", a), work("free", work("made before"))
    queue = Queue([a, both, one, b, free])
    assert [queue.next(), queue.next(), queue.next(), queue.next()] == [a, b, free, None]
    queue.ended(Outcome(a, {}))
    assert [queue.next(), queue.next()] == [one, None]
    queue.ended(Outcome(b, None))
    assert [queue.next(), queue.waiting] == [both, []]


def test_what_needs_a_run_that_failed_is_given_up():
    a, b = work("a"), work("b")
    queue = Queue([a, b, work("both", b, a), work("one", b)])
    for run in (a, b):
        assert queue.next() is run
    assert list(queue.lost()) == []
    queue.ended(Outcome(a, None, "no power"))
    (lost,) = queue.lost()
    assert (lost.run.key, lost.row) == ("both", None)
    assert lost.reason.startswith("it needs what failed: ")
    queue.ended(Outcome(b, {}))
    assert queue.next().key == "one"
    assert list(queue.lost()) == []
