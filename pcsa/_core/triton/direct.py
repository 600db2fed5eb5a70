"""Launch kernels that Triton has compiled before without its launcher, which takes the host a tenth of a millisecond.

Triton compiles a kernel anew for other types, for pointers and numbers that 16 divides or does not, and for numbers
that are 1. The first launch of each kind is Triton's; what it compiled is kept under a key that tells at least as many
kinds apart, and the next launch hands the arguments to it. Where this package does not know how Triton hands them over,
or where a profiler wants to hear of launches, every launch is Triton's.
"""

import functools
import inspect
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

# How Triton calls what it compiled, in 3.4 to 3.7 at least.
_CALL = (
    "kernel.run(grid_0, grid_1, grid_2, stream, kernel.function, kernel.packed_metadata, launch_metadata, "
    "knobs.runtime.launch_enter_hook, knobs.runtime.launch_exit_hook, *bound_args.values())"
)


class _Compiled(NamedTuple):
    """A kernel compiled for one kind of arguments, and what it is handed beside them."""

    run: Any
    function: Any
    metadata: Any
    constants: tuple[Any, ...]
    # Held, so that its id stays its own.
    kernel: Any


_KEPT: dict[tuple[Any, ...], _Compiled | None] = {}


def launch(
    kernel: Any, constants: Mapping[str, Any], options: Mapping[str, Any], programs: int, args: tuple[Any, ...]
) -> None:
    """Start this many programs of a kernel on the device of the first argument, a tensor."""
    device = args[0].get_device()
    if device < 0:
        kernel[(programs,)](*args, **constants, **options)
    elif device != torch.cuda.current_device():
        # Triton takes the current device, whatever the arguments say.
        with torch.cuda.device(device):
            _launch(kernel, constants, options, programs, args, device)
    else:
        _launch(kernel, constants, options, programs, args, device)


def _launch(
    kernel: Any,
    constants: Mapping[str, Any],
    options: Mapping[str, Any],
    programs: int,
    args: tuple[Any, ...],
    device: int,
) -> None:
    settings = known()
    kinds = None if settings is None or _watched(settings) else kinds_of(args)
    if kinds is None:
        kernel[(programs,)](*args, **constants, **options)
        return
    key = (id(kernel), device, *options.items(), *constants.items(), *kinds)
    if key not in _KEPT:
        _KEPT[key] = _compiled(kernel, constants, args, kernel[(programs,)](*args, **constants, **options))
        return
    kept = _KEPT[key]
    if kept is None:
        kernel[(programs,)](*args, **constants, **options)
        return
    stream = torch._C._cuda_getCurrentRawStream(device)
    kept.run(programs, 1, 1, stream, kept.function, kept.metadata, None, None, None, *args, *kept.constants)


def kinds_of(args: tuple[Any, ...]) -> list[Any] | None:
    """What Triton may compile anew for, of each argument; None where that is not known of one."""
    kinds: list[Any] = []
    for x in args:
        kind = type(x)
        if kind is Tensor or kind is nn.Parameter:
            kinds.append(x.dtype if x.data_ptr() % 16 == 0 else (x.dtype,))
        elif kind is int:
            # Its width, whether 16 divides it, and whether it is 1.
            width = 0 if -(2**31) <= x < 2**31 else 3 if -(2**63) <= x < 2**63 else 6
            kinds.append(width + (2 if x == 1 else x % 16 == 0))
        elif kind is float or x is None:
            kinds.append(kind)
        else:
            return None
    return kinds


@functools.cache
def known() -> Any:
    """Triton's settings, if it calls what it compiled as :func:`launch` does; else None."""
    if torch.version.hip is not None:
        return None
    try:
        from triton import knobs
        from triton.runtime.jit import JITFunction

        source = inspect.getsource(JITFunction.run)
        _ = knobs.runtime.launch_enter_hook, knobs.runtime.launch_exit_hook
    except (ImportError, AttributeError, OSError, TypeError):
        return None
    return knobs.runtime if "".join(_CALL.split()) in "".join(source.split()) else None


def _watched(settings: Any) -> bool:
    """Whether anyone asked Triton to be told of launches: a function, or a chain of them that has some."""
    hooks = (settings.launch_enter_hook, settings.launch_exit_hook)
    return any(hook is not None and getattr(hook, "calls", True) for hook in hooks)


def _compiled(kernel: Any, constants: Mapping[str, Any], args: tuple[Any, ...], made: Any) -> _Compiled | None:
    """What a launch by Triton returned, if it can be launched again."""
    names = kernel.arg_names[len(args) :]
    parts = [getattr(made, name, None) for name in ("run", "function", "packed_metadata")]
    if set(names) != set(constants) or any(part is None for part in parts) or getattr(kernel, "pre_run_hooks", None):
        return None
    run, function, metadata = parts
    return _Compiled(run, function, metadata, tuple(constants[name] for name in names), kernel)
