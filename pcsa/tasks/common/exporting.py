"""Programs as files that run elsewhere: ONNX, and torch.export's own; each is checked before it is left."""

from __future__ import annotations

import importlib
import inspect
import json
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.torch_version import TorchVersion

from pcsa.datasets.files import replacing
from pcsa.tasks.common.programs import Program

SUFFIXES = (".onnx", ".pt2")
TOLERANCE = 1e-4
"""Largest difference that a file may have, of values of size 1; of larger ones, times the largest."""
_OPSET = 18
# The oldest with which detectors were exported; 2.6 cannot.
_TRIED = TorchVersion("2.11")


def export(program: Program, path: Path) -> float:
    """Write a program, and return the largest difference from the library's own results, as a share of their size.

    Args:
        program: What to write.
        path: The file, .onnx or .pt2.

    Raises:
        ModuleNotFoundError: If a package is missing; ``pip install 'pcsa[export]'`` brings them.
        ValueError: If the network cannot be written, or the file would not do what the library does: then it is not
            left, and the message says how far off it is, and where.
    """
    if path.suffix not in SUFFIXES:
        raise ValueError(f"`out` (={path}) must end in .onnx or .pt2")
    if path.suffix == ".onnx":
        for name in ("onnx", "onnxscript", "onnxruntime"):
            _load(name)
    traced = _traced(program)
    with replacing(path) as temporary:
        write, opened = (_write_onnx, _open_onnx) if path.suffix == ".onnx" else (_write_torch, _open_torch)
        with _quiet():
            try:
                write(program, traced, temporary)
            except Exception as error:
                raise ValueError(f"`{path}` cannot be written: {_first(error)}") from error
            return _compared(program, opened(temporary, program), path)


def _load(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"`{name}` is missing: pip install 'pcsa[export]' brings what ONNX needs", name=error.name
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep to itself what exporters tell their developers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")]
        levels = [logger.level for logger in loggers]
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _traced(program: Program) -> Any:
    _config = importlib.import_module("torch.fx.experimental._config")
    axes = tuple({axis: torch.export.Dim.DYNAMIC for axis in of} for of in program.dynamic)
    parameters = len(program.inputs) - len(_rest(program))
    shapes = (*axes[:parameters], axes[parameters:]) if parameters < len(axes) else axes
    # So that sizes of 1, of clouds for instance, are no case of their own.
    known = hasattr(_config, "backed_size_oblivious")
    oblivious = _config.patch(backed_size_oblivious=True) if known else nullcontext()
    with torch.no_grad(), _quiet(), oblivious:
        try:
            return torch.export.export(program.module, program.example, dynamic_shapes=shapes, strict=False)
        except Exception as error:
            version = TorchVersion(torch.__version__)
            older = f" by torch {version}, torch {_TRIED} and newer can export detectors" * (version < _TRIED)
            raise ValueError(f"the network and its read-out cannot be exported{older}: {_first(error)}") from error


def _rest(program: Program) -> tuple[str, ...]:
    """Inputs that the module takes as ``*arguments``."""
    named = [p for p in inspect.signature(program.module.forward).parameters.values() if p.kind is not p.VAR_POSITIONAL]
    return program.inputs[len(named) :]


def _write_onnx(program: Program, traced: Any, path: Path) -> None:
    written = torch.onnx.export(
        traced,
        dynamo=True,
        opset_version=_OPSET,
        input_names=list(program.inputs),
        output_names=list(program.outputs),
        custom_translation_table={
            torch.ops.aten.searchsorted.Tensor: _searchsorted,
            torch.ops.aten.cummax.default: _cummax,
        },
        external_data=False,
        verbose=False,
    )
    assert written is not None
    _load("onnx_ir.passes.common").RemoveUnusedNodesPass()(
        written.model
    )  # else ONNX Runtime complains of them to whoever opens the file
    written.model.metadata_props["pcsa"] = json.dumps(program.about)
    _name_axes(written.model, program)
    written.save(str(path), external_data=False)


def _name_axes(model: Any, program: Program) -> None:
    """Name the axes of any size of the inputs, which are s0, s1, … else, and wherever they come again."""
    ir = _load("onnx_ir")
    names: dict[str, str] = {}
    for value, axes in zip(model.graph.inputs, program.dynamic, strict=True):
        for axis, name in axes.items():
            names.setdefault(str(value.shape[axis].value), name)
    for value in (*model.graph.inputs, *model.graph.outputs):
        for axis, size in enumerate(value.shape or ()):
            if isinstance(size, int):
                continue
            said = str(size.value)
            if said in names:
                value.shape[axis] = ir.SymbolicDim(names[said])
            elif names.get(said.removesuffix(" - 1")) == "clouds + 1":
                value.shape[axis] = ir.SymbolicDim("clouds")


def _searchsorted(
    sorted_sequence: Any, self: Any, out_int32: bool = False, right: bool = False, side: Any = None, sorter: Any = None
) -> Any:
    """Count, for each value, what lies before it in one sorted sequence."""
    op = _load("onnxscript").opset18
    sequence, values = op.Unsqueeze(sorted_sequence, [0]), op.Unsqueeze(self, [1])
    before = op.LessOrEqual(sequence, values) if right else op.Less(sequence, values)
    return op.ReduceSum(op.Cast(before, to=7), [1], keepdims=0)


def _cummax(self: Any, dim: int) -> tuple[Any, Any]:
    """Largest value up to each along a short axis, and its place."""
    op = _load("onnxscript").opset18
    count, rank = self.shape[dim], len(self.shape)
    dim %= rank
    before = np.tril(np.ones((count, count), dtype=bool)).reshape(count, count, *[1] * (rank - 1 - dim))
    ir = _load("onnx_ir")
    every = op.Where(op.Constant(value=ir.tensor(before)), op.Unsqueeze(self, [dim]), op.CastLike(-math.inf, self))
    return op.ReduceMax(every, [dim + 1], keepdims=0), op.ArgMax(every, axis=dim + 1, keepdims=0)


def _open_onnx(path: Path, program: Program) -> Callable[[Sequence[Tensor]], list[Any]]:
    onnxruntime = _load("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    taken = {value.name for value in session.get_inputs()}

    def run(inputs: Sequence[Tensor]) -> list[Any]:
        named = {name: value.numpy() for name, value in zip(program.inputs, inputs, strict=True) if name in taken}
        found: list[Any] = session.run(list(program.outputs), named)
        return found

    return run


def _write_torch(program: Program, traced: Any, path: Path) -> None:
    # Tracing notes how the sizes of the example were: of more than one cloud, of more points than a tile. What the
    # program does with others the checks say.
    if hasattr(traced, "_guards_code"):
        traced._guards_code = []
    with path.open("wb") as file:
        torch.export.save(traced, file, extra_files={"pcsa.json": json.dumps(program.about)})


def _open_torch(path: Path, program: Program) -> Callable[[Sequence[Tensor]], list[Any]]:
    with path.open("rb") as file:
        module = torch.export.load(file).module()
    return lambda inputs: [value.numpy() for value in module(*inputs)]


def _compared(program: Program, run: Callable[[Sequence[Tensor]], list[Any]], path: Path) -> float:
    """The largest difference from the library, as a share of the values."""
    worst = 0.0
    with torch.inference_mode():
        for what, inputs, expected in program.checks():
            try:
                found = run(inputs)
            except Exception as error:
                raise ValueError(f"`{path}` does not run on {what}: {_first(error)}") from error
            for name, mine in zip(program.outputs, found, strict=True):
                difference = _difference(mine, expected, name)
                worst = max(worst, difference)
                if not difference <= TOLERANCE:
                    raise ValueError(
                        f"`{path}` must do what the network does: on {what}, `{name}` is off by up to {difference:.3g} "
                        f"of its largest value, more than {TOLERANCE:g}; it is not left"
                    )
    return worst


def _difference(mine: Any, expected: Mapping[str, Tensor], name: str) -> float:
    theirs = expected[name].detach().double()
    if list(mine.shape) != list(theirs.shape):
        return float("inf")
    apart = (torch.from_numpy(mine).double() - theirs).abs().max()
    return float(apart / theirs.abs().max().clamp(min=1))


def _first(error: Exception) -> str:
    """The last cause, in a line."""
    while error.__cause__ is not None and isinstance(error.__cause__, Exception):
        error = error.__cause__
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
