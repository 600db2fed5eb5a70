"""Networks of per-point features, by name: what the heads ask of one, how it is called, and how it is made.

This is all that a network must do to stand under :class:`pcsa.models.KeypointDetector`:

- **It is called** as ``backbone(x, pos, batch)``: ``x [N, F]`` features or None, ``pos [N, 3]`` the points of all
  clouds, ``batch [N]`` the cloud of each, sorted. If its ``forward`` takes ``ptr``, it is called as
  ``backbone(x, pos, ptr=ptr)`` instead, with ``ptr [B + 1]`` where each cloud begins, which spares it the search.
- **It returns** features ``[N, C]``, floating point, a row for each point in the order of ``pos``.
- **Its width** C is its attribute ``out_channels``, or else ``num_features``.
"""

import inspect
import json
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from torch import Tensor, nn

from pcsa._core.imports import check_import_path, import_by_name, module_of

# Where the package's own networks are: a name there needs nobody's trust.
_OWN = "pcsa.models"


def is_own(path: str) -> bool:
    """Whether a path names a network of this package."""
    module = module_of(path)
    return module == _OWN or module.startswith(f"{_OWN}.")


def check_named(name: str, path: object, options: object) -> None:
    """Raise unless ``path`` can name a network and ``options`` its arguments: JSON types by names. Imports nothing."""
    check_import_path(name, path)
    assert isinstance(path, str)
    if module_of(path).partition(".")[0] == "pcsa" and not is_own(path):
        raise ValueError(f"`{name}` (={path!r}) must name a network: those of pcsa are in `{_OWN}`")
    if not isinstance(options, Mapping) or not all(isinstance(key, str) and key.isidentifier() for key in options):
        raise ValueError(f"`{name}_options` (={options!r}) must be values by the names of arguments")
    try:
        json.dumps(options, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"`{name}_options` must be numbers, texts, and lists of them: {error}") from None


def make_backbone(path: str, options: Mapping[str, Any], *, name: str = "backbone") -> nn.Module:
    """Import a network and make it.

    Args:
        path: What is called, ``package.module:Class``; a function will do that returns a network.
        options: Keyword arguments of the call, as JSON types. They are checked against its signature, and lists become
            tuples where it wants them.
        name: Name of the argument, for errors.

    Raises:
        ValueError: If there is no such network, if it does not take these arguments, or if making it fails.
    """
    check_named(name, path, options)
    make = import_by_name(name, path)
    if not callable(make):
        raise ValueError(f"`{name}` (={path!r}) must be a class or function, is a {type(make).__name__}")
    # Under this package's name stand its own networks only: a file may name them unasked.
    if is_own(path) and not (isinstance(make, type) and issubclass(make, nn.Module) and is_own(f"{make.__module__}:")):
        raise ValueError(f"`{name}` (={path!r}) must be a network of pcsa: a subclass of torch.nn.Module")
    arguments = bind_options(make, path, options, name=name)
    try:
        made = make(**arguments)
    # Whatever the code of the network has against them.
    except Exception as error:
        said = " ".join(str(error).split())
        raise ValueError(
            f"`{name}` (={path!r}) cannot be made with `{name}_options` (={dict(options)}): "
            f"{type(error).__name__}, {said}"
        ) from error
    if not isinstance(made, nn.Module):
        raise ValueError(f"`{name}` (={path!r}) must make a torch.nn.Module, makes a {type(made).__name__}")
    return made


def bind_options(make: Any, path: str, options: Mapping[str, Any], *, name: str = "backbone") -> dict[str, Any]:
    """The keyword arguments of a call, after a check against its signature as far as that can be read.

    Raises:
        ValueError: Naming the argument, if it is unknown, missing, or of another type than its annotation says.
    """
    try:
        parameters = inspect.signature(make).parameters
    except (TypeError, ValueError):  # it is not written in Python
        return dict(options)
    kinds = {parameter.kind for parameter in parameters.values()}
    by_name = {
        key: parameter
        for key, parameter in parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }
    if inspect.Parameter.VAR_KEYWORD not in kinds:
        for key in options:
            if key not in by_name:
                known = ", ".join(by_name) or "nothing"
                raise ValueError(f"`{name}_options` (={key!r}) must be an argument of `{path}`, which takes {known}")
    for key, parameter in by_name.items():
        if parameter.default is parameter.empty and key not in options:
            raise ValueError(f"`{name}_options` must have `{key}`, which `{path}` needs")
    hints = _hints(make)
    arguments = {}
    for key, value in options.items():
        hint = hints.get(key, Any)
        if not _fits(hint, value):
            said = getattr(hint, "__name__", str(hint)) if not get_args(hint) else str(hint).replace("typing.", "")
            raise ValueError(f"`{name}_options.{key}` (={value!r}) must be {said}, as `{path}` has it")
        arguments[key] = _as(hint, value)
    return arguments


def _hints(make: Any) -> dict[str, Any]:
    """The annotations of what is called; none where they name what cannot be found."""
    try:
        return typing.get_type_hints(make.__init__ if isinstance(make, type) else make)  # type: ignore[misc]
    except Exception:  # annotations are code
        return {}


def _fits(hint: Any, value: Any) -> bool:
    """Whether a value of JSON is of an annotated type; a type that JSON does not have is left to the network."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _fits(parts[0], value)
    if origin in (Union, types.UnionType):
        return any(_fits(part, value) for part in parts)
    if origin is Literal:
        return any(value == part and type(value) is type(part) for part in parts)
    if hint in (None, type(None)):
        return value is None
    if hint is bool:
        return isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is str:
        return isinstance(value, str)
    kind = origin or hint
    if kind in (list, tuple) or kind is Sequence:
        if not isinstance(value, list | tuple):
            return False
        if kind is tuple and parts and parts[-1] is not Ellipsis:
            return len(value) == len(parts) and all(map(_fits, parts, value))
        return not parts or all(_fits(parts[0], item) for item in value)
    if kind is dict or kind is Mapping:
        return isinstance(value, Mapping)
    return True


def _as(hint: Any, value: Any) -> Any:
    """A value with tuples in place of the lists of JSON, where its annotation knows no list."""
    origin, parts = get_origin(hint), get_args(hint)
    if not isinstance(value, list | tuple):
        return value
    if origin in (Union, types.UnionType):
        return _as(next(part for part in parts if _fits(part, value)), value)
    if origin is Annotated:
        return _as(parts[0], value)
    if (origin or hint) is not tuple and (origin or hint) is not Sequence:
        return value
    inner = [parts[0] if parts else Any] * len(value) if len(parts) < 2 or parts[-1] is Ellipsis else list(parts)
    return tuple(_as(part, item) for part, item in zip(inner, value, strict=True))


def backbone_channels(backbone: nn.Module, given: int | None) -> int:
    """The width C of a network's features: ``given``, or what it says itself.

    Raises:
        ValueError: If neither says it.
    """
    channels = given
    for attribute in ("out_channels", "num_features"):
        if channels is None:
            channels = getattr(backbone, attribute, None)
    if not isinstance(channels, int) or isinstance(channels, bool) or channels < 1:
        raise ValueError(
            "`in_channels` must be given for a `backbone` without `out_channels` or `num_features`, the width of its "
            f"features: {type(backbone).__name__} has none"
        )
    return channels


def accepts(backbone: nn.Module, name: str) -> bool:
    """Whether the ``forward`` of a network has a parameter of this name."""
    return name in inspect.signature(backbone.forward).parameters


def check_features(features: Any, rows: int, channels: int) -> None:
    """Raise unless a network has returned what it must."""
    if not isinstance(features, Tensor):
        raise ValueError(f"`backbone` returned a {type(features).__name__}, must be a tensor [N, C]")
    expected = [rows, channels]
    if list(features.shape) != expected:
        hint = ""
        if features.dim() == 2 and features.shape[0] != rows:
            hint = ": a row for each point, in the order of `pos`"
        raise ValueError(f"`backbone` returned {list(features.shape)}, must be [N, C] = {expected}{hint}")
    if not features.is_floating_point():
        raise ValueError(f"`backbone` returned {features.dtype}, must be features of floating point")
