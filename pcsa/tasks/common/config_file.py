"""The configuration of a run as files: written beside its checkpoint, and read to begin another run."""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from pcsa._core.writing import replacing
from pcsa.datasets.faults import reading
from pcsa.datasets.limits import read_whole
from pcsa.tasks.common.checkpoint import write_json
from pcsa.tasks.common.config import TrainConfig

_T = TypeVar("_T")

# A configuration has about four thousand bytes.
_MOST_BYTES = 2**17


def write_configuration(folder: Path, about: Mapping[str, Any]) -> None:
    """Write the resolved configuration of a run into ``config.json`` and, for people, ``config.yaml``.

    Args:
        folder: The run's.
        about: JSON types: ``task``, ``version``, ``config`` and what else the JSON is to say.
    """
    import yaml

    write_json(folder / "config.json", about)
    plain = {name: about[name] for name in ("task", "version", "config")}
    text = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=120)
    head = f"# pcsa train {about['task']} --config config.yaml --out ANOTHER_FOLDER begins a run with these options.\n"
    with replacing(folder / "config.yaml") as temporary:
        temporary.write_text(head + text, encoding="utf-8")


def read_configuration(path: Path, task: str, default: TrainConfig) -> TrainConfig:
    """Read what :func:`write_configuration` wrote, or a part of it that somebody else did.

    Args:
        path: A ``.yaml``, ``.yml`` or ``.json`` file: ``task``, if anything is said of it, and the tree ``config``.
        task: Name of the task that it must be for.
        default: What holds for each option that the file leaves out. Whether a run is resumed is for the caller to say:
            it is never read.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is of another kind or task, or if an option is unknown or breaks a rule.
    """
    if path.suffix not in (".yaml", ".yml", ".json"):
        raise ValueError(f"`config` (={str(path)!r}) must end in .yaml, .yml or .json")
    with reading(path, "a configuration"):
        raw = read_whole(path)
        if len(raw) > _MOST_BYTES:
            raise ValueError(f"{len(raw)} bytes, must be at most {_MOST_BYTES}")
        text = raw.decode("utf-8-sig")
        found = json.loads(text) if path.suffix == ".json" else _read_yaml(text)
        if not isinstance(found, dict) or not isinstance(found.get("config"), dict):
            raise ValueError("must hold the options of a training under `config`")
        if found.get("task", task) != task:
            raise ValueError(f"`task` (={found['task']!r}) must be {task!r}, as the command says")
        return replace(_updated(default, found["config"], ""), resume=False)


def _read_yaml(text: str) -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        """Reads plain values, each once: what refers to itself, or to the same many times, has no end."""

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise ValueError(f"line {self.peek_event().start_mark.line + 1}: must have no alias (`*name`)")
            return super().compose_node(parent, index)

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            found = super().construct_mapping(node, deep)
            if len(found) < len(node.value):
                raise ValueError(f"line {node.start_mark.line + 1}: must say every option once")
            return found

    # YAML 1.1 takes 1e-3, without a dot, for a text.
    number = re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$")
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", number, list("-+0123456789"))
    return yaml.load(text, Loader)


def _updated(default: _T, plain: Any, prefix: str) -> _T:
    """A tree of configurations with the values that a file has."""
    if not isinstance(plain, dict):
        raise ValueError(f"`{prefix.removesuffix('.')}` (={plain!r}) must have options of its own")
    hints = get_type_hints(type(default))
    names = [field.name for field in dataclasses.fields(default)]  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for name, value in plain.items():
        if name not in names:
            near = difflib.get_close_matches(str(name), names, 1)
            hint = f"; did you mean `{prefix}{near[0]}`?" if near else f"; the options there are {', '.join(names)}"
            raise ValueError(f"`{prefix}{name}` must be an option of this training{hint}")
        now = getattr(default, name)
        if dataclasses.is_dataclass(now):
            values[name] = _updated(now, value, f"{prefix}{name}.")
        else:
            values[name] = _typed(hints[name], value, f"{prefix}{name}")
    return replace(default, **values)  # type: ignore[type-var]


def _typed(hint: Any, value: Any, name: str) -> Any:
    """A plain value as the type of a field; of another type it is refused."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _typed(parts[0], value, name)
    if hint in (Any, object) or (hint in (None, NoneType) and value is None):
        return value
    if origin in (Union, UnionType):
        for part in sorted(parts, key=lambda part: part is str):
            try:
                return _typed(part, value, name)
            except ValueError:
                continue
    elif origin is Literal:
        if any(type(part) is type(value) and part == value for part in parts):
            return value
        raise ValueError(f"`{name}` (={value!r}) must be one of {', '.join(map(repr, parts))}")
    elif origin is tuple:
        if isinstance(value, list) and (parts[-1] is Ellipsis or len(parts) == len(value)):
            each = [parts[0]] * len(value) if parts[-1] is Ellipsis else parts
            return tuple(_typed(part, x, name) for part, x in zip(each, value, strict=True))
    elif hint is Path:
        if isinstance(value, str):
            return Path(value)
    elif hint is float:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    elif isinstance(value, origin or hint) and (hint is bool or not isinstance(value, bool)):
        return value
    raise ValueError(f"`{name}` (={value!r}) must be {_said(hint)}")


def _said(hint: Any) -> str:
    """What a value must be, in words."""
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _said(parts[0])
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(_said(part) for part in parts))
    if origin is tuple:
        of = _said(parts[0])
        return f"a list, each {of}" if parts[-1] is Ellipsis else f"a list of {len(parts)}"
    if origin is Literal:
        return "one of " + ", ".join(map(repr, parts))
    names = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", Path: "a path"}
    return names.get(hint, "nothing" if hint in (None, NoneType) else str(getattr(hint, "__name__", hint)))
