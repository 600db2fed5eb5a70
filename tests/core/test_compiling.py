import torch

from pcsa._core.compiling import not_compiled


def test_what_is_not_compiled_runs_between_the_graphs():
    seen, graphs = [], []

    @not_compiled
    def inner(x):
        """Say what it is."""
        seen.append(torch.compiler.is_compiling())
        return x * len(x.tolist())  # reads values: traced, every size would compile anew

    def count(graph, _):
        graphs.append(graph)
        return graph

    compiled = torch.compile(lambda x: inner(x + 1) + 1, backend=count, dynamic=True)
    for size in (2, 3, 4):
        assert compiled(torch.ones(size)).tolist() == [2 * size + 1] * size
        assert inner(torch.ones(size)).tolist() == [size] * size
    assert seen == [False] * 6
    assert len(graphs) == 2  # one before and one after, for all sizes
    assert inner.__doc__ == "Say what it is."
