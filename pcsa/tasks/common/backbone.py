"""A network of one's own in a training on clouds, by name: its options, and whose code a file may run.

What such a network must do stands in :mod:`pcsa.models.backbone`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro
from torch import nn

from pcsa._core.imports import module_of
from pcsa.models.backbone import check_named, is_own, make_backbone

# What Python has for the words of JSON.
_WORDS = {"True": True, "False": False, "None": None}


def parse_options(words: Sequence[str]) -> dict[str, Any]:
    """``key=value`` for each word, values as JSON or else as text; a word that begins with a brace is a JSON object."""
    options: dict[str, Any] = {}
    for word in words:
        if word.startswith("{"):
            try:
                part = json.loads(word)
            except ValueError as error:
                raise ValueError(f"{word!r} must be a JSON object: {error}") from None
        else:
            key, equals, value = word.partition("=")
            if not equals:
                raise ValueError(f"{word!r} must be like key=value")
            part = {key: _value(value)}
        if twice := part.keys() & options:
            raise ValueError(f"{word!r} gives {', '.join(sorted(twice))} once more")
        options |= part
    return options


def _value(text: str) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    try:
        return json.loads(text)
    except ValueError:
        return text


def _words(options: dict[str, Any]) -> list[str]:
    return [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in options.items()]


_Options = Annotated[
    dict[str, Any],
    tyro.constructors.PrimitiveConstructorSpec(
        nargs="*",
        metavar="KEY=VALUE …",
        instance_from_str=parse_options,
        is_instance=lambda instance: isinstance(instance, dict),
        str_from_instance=_words,
    ),
]


@dataclass(frozen=True)
class BackboneConfig:
    """A network of per-point features by name, in place of PointNet++."""

    backbone: str | None = field(default=None, kw_only=True)
    """Network of your own in place of PointNet++, as package.module:Class; called as backbone(x, pos, batch), it
    returns features [N, C]. See the guide "Your own backbone"."""
    backbone_options: _Options = field(default_factory=dict, kw_only=True)
    """Arguments of it, such as k=20 widths=[64,128] act=gelu, or a JSON object."""

    def __post_init__(self) -> None:
        if self.backbone is None:
            if self.backbone_options:
                raise ValueError(
                    f"`model.backbone_options` (={self.backbone_options}) must not be given without `model.backbone`"
                )
            return
        check_named("model.backbone", self.backbone, self.backbone_options)
        # As a checkpoint has them.
        object.__setattr__(self, "backbone_options", json.loads(json.dumps(self.backbone_options)))
        for name in self.described():
            other = next(f for f in dataclasses.fields(self) if f.name == name)
            value = getattr(self, name)
            if value != other.default:
                raise ValueError(
                    f"`model.{name}` (={value!r}) must be left at {other.default!r} with `model.backbone` "
                    f"(={self.backbone!r}): it describes PointNet++"
                )

    def described(self) -> tuple[str, ...]:
        """The fields that describe PointNet++, and mean nothing to another network."""
        return ()

    def own_backbone(self) -> nn.Module | None:
        """The network that is named, new; None where none is."""
        if self.backbone is None:
            return None
        return make_backbone(self.backbone, self.backbone_options, name="model.backbone")


def foreign_backbone(config: Any) -> str | None:
    """The network outside of this package that a configuration names, if it does."""
    model = getattr(config, "model", None)
    backbone = model.backbone if isinstance(model, BackboneConfig) else None
    return None if backbone is None or is_own(backbone) else backbone


def check_trust(path: Path | str, config: Any, trust: bool | str) -> None:
    """Raise if a file names code outside of this package that its reader does not trust. Nothing is imported.

    Args:
        path: The file, or whatever the configuration comes from.
        config: The configuration that it has.
        trust: Whether it may name any; or what alone it may name, such as ``package.module:Class``.

    Raises:
        ValueError: Saying what would be imported.
    """
    named = foreign_backbone(config)
    if named is None or trust is True or trust == named:
        return
    raise ValueError(
        f"`{path}` names a network outside of pcsa, `{named}`: to open it is to import `{module_of(named)}` and to run "
        "its code, which this file may have chosen; do so only if you trust both, by `trust=True` or, on the command "
        "line, `--trust-backbone`"
    )
