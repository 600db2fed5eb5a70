"""Kernels launched again without Triton's launcher: as Triton would, never what was compiled for other arguments."""

import itertools
from types import SimpleNamespace

import pytest
import torch

from pcsa._core.triton import direct

pytest.importorskip("triton", reason="Triton is not installed", exc_type=ImportError)

ALIGNED = torch.zeros(64)
ARGUMENTS = [
    ALIGNED,
    ALIGNED[1:],
    ALIGNED[4:],
    ALIGNED.double(),
    ALIGNED.double()[1:],
    ALIGNED.bfloat16()[2:],
    ALIGNED.bool(),
    ALIGNED.long()[3:],
    torch.nn.Parameter(ALIGNED.clone()),
    torch.empty(0),
    None,
    0.0,
    1.0,
    2.5,
    *(0, 1, 2, 15, 16, 17, 32, -1, -16, 2**31 - 1, -(2**31), -(2**31) - 1, 2**31, 2**31 + 1, 2**62, 2**62 + 1),
    *(2**63 - 1, 2**63, 2**63 + 1),
]


@pytest.mark.parametrize("specialized", [True, False])
@pytest.mark.parametrize("aligned", [True, False])
def test_arguments_of_one_key_are_one_to_triton(specialized, aligned):
    from triton._C.libtriton import native_specialize_impl
    from triton.backends.nvidia.compiler import CUDABackend

    keys = [tuple(direct.kinds_of((x,))) for x in ARGUMENTS]
    told = [native_specialize_impl(CUDABackend, x, False, specialized, aligned) for x in ARGUMENTS]
    for (key, one), (other_key, other) in itertools.combinations(zip(keys, told, strict=True), 2):
        if key == other_key:
            assert one == other
    # Some are the same: a key for each argument would be right, too, and of no use.
    assert len(set(keys)) < len(keys) - 8


def test_other_arguments_are_left_to_triton():
    for odd in (
        True,
        "x",
        1j,
        (1, 2),
        torch.zeros(2).numpy(),
        torch.zeros(2).as_subclass(type("Odd", (torch.Tensor,), {})),
    ):
        assert direct.kinds_of((ALIGNED, odd)) is None


def test_the_installed_triton_calls_what_it_compiled_as_here():
    assert direct.known() is not None


class Kernel:
    """A kernel that notes how it is launched: by Triton, or by what it compiled."""

    arg_names = ("x", "n", "D", "WIDE")

    def __init__(self):
        self.by_triton, self.again = [], []

    def __getitem__(self, grid):
        def run(*args, **kwargs):
            self.by_triton.append((grid, args, kwargs))
            number = len(self.by_triton)
            return SimpleNamespace(
                run=lambda *given: self.again.append((number, *given)), function=f"f{number}", packed_metadata=(4, 0)
            )

        return run


@pytest.fixture
def kernel(monkeypatch):
    monkeypatch.setattr(direct, "_KEPT", {})
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch._C, "_cuda_getCurrentRawStream", lambda device: 77, raising=False)
    monkeypatch.setattr(direct, "known", lambda: SimpleNamespace(launch_enter_hook=None, launch_exit_hook=None))
    return Kernel()


def launch(kernel, x, n, D=3, programs=5, **options):
    card = SimpleNamespace(get_device=lambda: 0)
    kinds = direct.kinds_of

    def without_the_card(args):
        return kinds(args[1:])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(direct, "kinds_of", without_the_card)
        patch.setattr(kernel, "arg_names", ("card", *Kernel.arg_names))
        direct.launch(kernel, {"WIDE": True, "D": D}, {"num_warps": 1, **options}, programs, (card, x, n))
    return card


def test_the_second_launch_hands_the_arguments_to_what_was_compiled(kernel):
    first = launch(kernel, ALIGNED, 100)
    assert kernel.by_triton == [((5,), (first, ALIGNED, 100), {"WIDE": True, "D": 3, "num_warps": 1})]
    second = launch(kernel, ALIGNED[4:], 102, programs=7)
    assert len(kernel.by_triton) == 1
    # Constants stand in the kernel's order; no hooks and no metadata for them.
    (given,) = kernel.again
    assert given[:10] == (1, 7, 1, 1, 77, "f1", (4, 0), None, None, None)
    assert given[10] is second
    assert given[12:] == (102, 3, True)
    assert given[11].data_ptr() == ALIGNED[4:].data_ptr()


@pytest.mark.parametrize(
    "other",
    [
        {"x": ALIGNED[1:]},
        {"x": ALIGNED.double()},
        {"n": 1},
        {"n": 112},
        {"n": 2**40 + 2},
        {"n": None},
        {"D": 2},
        {"num_stages": 1},
    ],
    ids=str,
)
def test_other_kinds_are_compiled_anew(kernel, other):
    launch(kernel, ALIGNED, 100)
    launch(kernel, **{"x": ALIGNED, "n": 100, **other})
    assert len(kernel.by_triton) == 2
    assert not kernel.again
    launch(kernel, ALIGNED, 100)
    launch(kernel, **{"x": ALIGNED, "n": 100, **other})
    assert [given[0] for given in kernel.again] == [1, 2]


@pytest.mark.parametrize("hook", [lambda metadata: None, SimpleNamespace(calls=[print])])
def test_whoever_wants_to_hear_of_launches_does(kernel, monkeypatch, hook):
    monkeypatch.setattr(direct, "known", lambda: SimpleNamespace(launch_enter_hook=hook, launch_exit_hook=None))
    for _ in range(3):
        launch(kernel, ALIGNED, 100)
    assert len(kernel.by_triton) == 3
    assert not kernel.again


def test_what_cannot_be_launched_again_is_launched_by_triton(kernel, monkeypatch):
    monkeypatch.setattr(direct, "_compiled", lambda *args: None)
    for _ in range(3):
        launch(kernel, ALIGNED, 100)
    monkeypatch.setattr(direct, "known", lambda: None)
    launch(kernel, ALIGNED, 100)
    assert len(kernel.by_triton) == 4
    assert not kernel.again


def test_on_the_cpu_every_launch_is_tritons():
    kernel = Kernel()
    for _ in range(2):
        direct.launch(kernel, {"D": 3, "WIDE": True}, {}, 5, (ALIGNED, 100))
    assert len(kernel.by_triton) == 2


card = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]


@pytest.mark.parametrize("case", [pytest.param("direct", marks=card)])
def test_the_same_numbers_on_a_card(monkeypatch, case):
    from pcsa import sampling_argmax

    def run(N, K, shift):
        generator = torch.Generator("cuda").manual_seed(N)
        room = torch.randn(N * K + 1, device="cuda", generator=generator)
        logits = room[shift : N * K + shift].view(N, K).requires_grad_()
        pos = torch.rand(N, 3, device="cuda", generator=generator)
        out = sampling_argmax(logits, pos, 0.1, num_samples=6, generator=torch.Generator().manual_seed(3))
        return out, *torch.autograd.grad(out.square().sum(), logits)

    cases = [(100, 3, 0), (100, 3, 1), (160, 16, 0), (160, 16, 1), (1, 1, 0), (513, 1, 1), (100, 3, 0)]
    for _ in range(2):
        mine = [run(*one) for one in cases]
    assert any(kept is not None for kept in direct._KEPT.values())
    monkeypatch.setattr(direct, "known", lambda: None)
    for one, (out, grad) in zip(cases, mine, strict=True):
        expected, expected_grad = run(*one)
        assert torch.equal(out, expected)
        assert torch.equal(grad, expected_grad)
