"""What torch.func and forward-mode differentiation do to an operator: they transform it, or are refused in a sentence.

An operator of `torch.library` knows the backward pass alone: torch.func.grad refuses it, a forward-mode derivative is
silently zero, and vmap finds no value to read. Where a transform is active, each operator runs as an autograd function
instead, which torch.func can take apart.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad


def transformed() -> bool:
    """Whether torch.func transforms what runs, or it is differentiated in forward mode."""
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def mapped() -> bool:
    """Whether what runs is mapped by vmap, so that values cannot be read."""
    if not torch._C._are_functorch_transforms_active():
        return False
    stack = torch._C._functorch.get_interpreter_stack() or ()
    return any(level.key() == torch._C._functorch.TransformType.Vmap for level in stack)


def refuse_vmap(what: str) -> None:
    """Raise where vmap is active."""
    if mapped():
        raise RuntimeError(f"vmap cannot map {what}: give the clouds as one batch, with `ptr` or `batch`")


def plain() -> bool:
    """Whether fused kernels with a backward pass of their own may run: nothing is compiled or transformed."""
    return not torch.compiler.is_compiling() and not transformed()


def transformable(
    name: str,
    op: Callable[..., Any],
    setup_context: Callable[[Any, Any, Any], None],
    backward: Callable[..., Any],
) -> Callable[..., Any]:
    """Return ``op`` such that torch.func.grad and vmap take it, and forward mode is refused.

    Args:
        name: The public function, for errors.
        op: An operator whose backward pass is registered already.
        setup_context: What is registered with it.
        backward: What is registered with it.
    """

    def no_forward_mode(*_: Any) -> None:
        raise RuntimeError(
            f"{name} has no derivative in forward mode (torch.func.jvp, jacfwd, forward_ad): take torch.func.grad, "
            "vjp or jacrev"
        )

    parts = {
        "forward": staticmethod(lambda *args: op(*args)),
        "setup_context": staticmethod(setup_context),
        "backward": staticmethod(backward),
        "jvp": staticmethod(no_forward_mode),
        "generate_vmap_rule": True,
    }
    function = type("Transformed", (torch.autograd.Function,), parts)

    def run(*args: Any) -> Any:
        if torch.compiler.is_compiling() or not transformed():
            return op(*args)
        return function.apply(*args)  # type: ignore[attr-defined]

    return run


def keep_nothing(ctx: Any, inputs: Any, output: Any) -> None:
    """Set up the context of an operator that cannot be differentiated again."""


def map_one_by_one(name: str, library: torch.library.Library) -> None:
    """Let vmap run an operator once for each entry."""
    op = getattr(torch.ops.pcsa, name).default

    def rule(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[Any, Any]:
        def entry(i: int) -> Any:
            pairs = zip(args, in_dims, strict=True)
            return op(*(x.select(d, i) if isinstance(x, Tensor) and d is not None else x for x, d in pairs))

        found = [entry(i) for i in range(info.batch_size)]
        if isinstance(found[0], Tensor):
            return torch.stack(found), 0
        return tuple(torch.stack(x) for x in zip(*found, strict=True)), (0,) * len(found[0])

    torch.library.register_vmap(f"pcsa::{name}", rule, lib=library)
