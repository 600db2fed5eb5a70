"""``pcsa completion``: print what completes commands and options in a shell."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib
import inspect
import io
import re
from collections.abc import Mapping
from types import ModuleType
from typing import Annotated, Any, Union, get_type_hints

import tyro

from pcsa.tasks import get_task, task_names

_HOW = {
    "bash": "pcsa completion bash > ~/.local/share/bash-completion/completions/pcsa",
    "zsh": "pcsa completion zsh > FOLDER/_pcsa, for a FOLDER in $fpath",
    "fish": "pcsa completion fish > ~/.config/fish/completions/pcsa.fish",
}


def main(argv: list[str]) -> int:
    """Print the script of a shell."""
    parser = argparse.ArgumentParser(
        prog="pcsa completion",
        description="Print what completes commands, tasks, presets and options in a shell.",
        epilog="; ".join(f"{shell}: {how}" for shell, how in _HOW.items()),
    )
    parser.add_argument("shell", choices=list(_HOW))
    print(script(parser.parse_args(argv).shell), end="")
    return 0


def script(shell: str) -> str:
    """The script of ``bash``, ``zsh`` or ``fish``; tyro writes it."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
        tyro.cli(_union(_commands()), prog="pcsa", args=["--tyro-write-completion", shell, "-"])
    # A help of two lines would be taken for two options.
    return re.sub(
        "^COMPLETION_SPEC = .*$", lambda spec: spec[0].replace("\\n", " "), text.getvalue(), flags=re.MULTILINE
    )


def _commands() -> dict[str, Any]:
    """The arguments of each command, as types and functions that tyro reads."""
    from pcsa.scripts.cli import MODULES

    tasks = [get_task(name) for name in task_names()]
    known: dict[str, Any] = {
        "train": _union({task.name: _training(task) for task in tasks}),
        # Each task has options of its own, and which it is, only the checkpoint says.
        "evaluate": _merged([task.evaluate_options for task in tasks]),
        "predict": _merged([task.predict_options for task in tasks]),
        "completion": _union(dict.fromkeys(_HOW, _options())),
        "doctor": _options(json=False, timeout=120.0),
    }
    for name, path in MODULES.items():
        if name not in known:
            known[name] = _arguments(importlib.import_module(f"pcsa.scripts.{path}"))
    return {name: known[name] for name in MODULES}


def _arguments(module: ModuleType) -> Any:
    """What a command's module parses: its dataclass called …Config, else its functions that return an exit status."""
    for value in vars(module).values():
        of = getattr(value, "__module__", "")
        if isinstance(value, type) and of.startswith("pcsa.scripts.") and value.__name__.endswith("Config"):
            return value
    actions = {
        name.strip("_"): value
        for name, value in vars(module).items()
        if name.startswith("_") and inspect.isfunction(value) and get_type_hints(value).get("return") is int
    }
    return _union(actions) if actions else _options()


def _union(subcommands: Mapping[str, Any]) -> Any:
    return Union[tuple(Annotated[kind, tyro.conf.subcommand(name)] for name, kind in subcommands.items())]  # noqa: UP007


def _training(task: Any) -> Any:
    """The options of a task, and its presets with the same options after them."""
    first = next(iter(task.presets.values()))
    options = Annotated[task.config_type, tyro.conf.arg(name="")]
    fields: list[tuple[str, Any, Any]] = [
        ("config", str, ""),
        ("options", options, dataclasses.field(default_factory=lambda: first)),
    ]
    # tyro completes names of subcommands, and no values of what has no name.
    preset = _union(dict.fromkeys(task.presets, dataclasses.make_dataclass("Preset", fields)))
    return dataclasses.make_dataclass("Training", [("preset", Annotated[preset, tyro.conf.arg(name="")]), *fields])


def _merged(kinds: list[type]) -> Any:
    """The options of several dataclasses, each once."""
    found: dict[str, tuple[str, Any, Any]] = {}
    for kind in kinds:
        hints = get_type_hints(kind, include_extras=True)
        for field in dataclasses.fields(kind):
            same = dataclasses.field(default=field.default, default_factory=field.default_factory)
            found.setdefault(field.name, (field.name, hints[field.name], same))
    # Those that must be given come first.
    ordered = sorted(found.values(), key=lambda f: f[2].default is not dataclasses.MISSING)
    return dataclasses.make_dataclass("Merged", ordered)


def _options(**defaults: Any) -> Any:
    """Options of a command that parses its arguments in another way."""
    return dataclasses.make_dataclass("Other", [(name, type(value), value) for name, value in defaults.items()])
