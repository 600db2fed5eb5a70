"""Studies: which methods are compared, on what, and by which figures. Each is a TOML file."""

from __future__ import annotations

import dataclasses
import shlex
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pcsa.datasets.faults import reading
from pcsa.scripts.reproduce.combined import Combination
from pcsa.scripts.reproduce.joint import Joint
from pcsa.scripts.reproduce.pretraining import Pretraining
from pcsa.tasks.common.config import from_plain

FOLDER = Path(__file__).parent / "studies"


@dataclass(frozen=True)
class Study:
    """What a file of a study says; its keys are these fields."""

    name: str
    title: str
    task: str
    preset: str
    methods: Mapping[str, str]
    """Options of ``pcsa train`` by the name of the method, over those of the preset."""
    baseline: str
    """Name of the method, or combined one, that the others are compared with."""
    categories: tuple[str, ...]
    columns: tuple[str, ...]
    """Figures of a run that make tables, by their names in the results."""
    options: str = ""
    """Options of ``pcsa train`` that all methods have."""
    read_outs: tuple[str, ...] = ()
    """Ways to read a map, each of which is scored; all if there are none."""
    split: Literal["val", "test"] = "val"
    """Clouds to score, where there are no folds."""
    folds: int = 0
    """Number of folds; 0 for the splits of the dataset."""
    fold_of: Literal["train", "train+val"] = "train"
    """Splits that are dealt out to the folds."""
    seeds: int = 3
    """Number of seeds: 0, 1, …"""
    baselines: Mapping[str, str] = field(default_factory=dict)
    """Baselines of methods that are compared with another one than ``baseline``, by the method."""
    published: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)
    """Figures of others by column, row and category."""
    combined: Mapping[str, Combination] = field(default_factory=dict)
    """Means of the networks of a method, by name; they stand in the tables as methods."""
    joint: Mapping[str, Joint] = field(default_factory=dict)
    """Detectors of all categories in one network, by name; they stand in the tables as methods."""
    pretraining: Mapping[str, Pretraining] = field(default_factory=dict)
    """Trainings whose networks methods begin with, by the name that their ``--init-from`` gives; no rows of tables."""

    def __post_init__(self) -> None:
        if not self.methods:
            raise ValueError("`methods` must name at least one")
        for kind, tables in (("combined", self.combined), ("joint", self.joint)):
            for name, table in tables.items():
                if name in self.methods or (kind == "joint" and name in self.combined):
                    raise ValueError(f"`{kind}` (={name!r}) must not have the name of a method")
                if table.of not in self.methods:
                    raise ValueError(f"`of` (={table.of!r}) of {name!r} must be out of {_listed(self.methods)}")
        if self.joint and len(self.categories) < 2:
            raise ValueError(f"`joint` must not be given with one of `categories` (={list(self.categories)})")
        for name, combination in self.combined.items():
            if combination.networks > self.seeds:
                raise ValueError(
                    f"`networks` (={combination.networks}) of {name!r} must be at most `seeds` (={self.seeds})"
                )
        if self.baseline not in self.names:
            raise ValueError(f"`baseline` (={self.baseline!r}) must be out of {_listed(self.names)}")
        for name in (*self.baselines, *self.baselines.values()):
            if name not in self.names:
                raise ValueError(f"`baselines` (={name!r}) must be out of {_listed(self.names)}")
        if self.folds < 0 or self.folds == 1:
            raise ValueError(f"`folds` (={self.folds}) must be at least 2, or 0 for the splits of the dataset")
        if self.seeds < 1:
            raise ValueError(f"`seeds` (={self.seeds}) must be at least 1")
        if self.folds and self.split == "test":
            raise ValueError("`split` (='test') must be 'val' with `folds`: folds are scored on what they hold out")

    @property
    def names(self) -> tuple[str, ...]:
        """All rows of the tables: methods, then combined ones, then detectors of all categories."""
        return (*self.methods, *self.combined, *self.joint)

    def baseline_of(self, name: str) -> str:
        """The row that a row is compared with; a baseline has itself, unless it says otherwise."""
        own = name == self.baseline or name in self.baselines.values()
        return self.baselines.get(name, name if own else self.baseline)

    def arguments(self, method: str) -> list[str]:
        """What follows ``pcsa train`` for a method, but for the data, the seed and the folder."""
        if method in self.joint:
            joint = self.joint[method]
            return [*self.arguments(joint.of), *shlex.split(joint.options)]
        own = self.methods[method] if method in self.methods else self.pretraining[method].options
        return [self.task, self.preset, *shlex.split(self.options), *shlex.split(own)]


def study_names() -> list[str]:
    """Names of the studies that come with the package."""
    return sorted(file.stem for file in FOLDER.glob("*.toml"))


def open_study(name: str) -> Study:
    """The study of this name, or of this file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If there is no such study, or its file is none.
    """
    path = Path(name)
    if path.suffix != ".toml":
        path = FOLDER / f"{name}.toml"
        if not path.is_file():
            raise ValueError(f"`study` (={name!r}) must be one of {', '.join(study_names())}, or a .toml file")
    if not path.is_file():
        raise FileNotFoundError(f"`{path}` is missing")
    with reading(path, "a study"):
        return _study(path.stem, tomllib.loads(path.read_text(encoding="utf-8")))


def _study(name: str, content: Mapping[str, Any]) -> Study:
    fields = {f.name: f for f in dataclasses.fields(Study) if f.name != "name"}
    unknown = sorted(content.keys() - fields)
    if unknown:
        raise ValueError(f"has the unknown key {unknown[0]!r}; it may have {_listed(fields)}")
    required = [key for key, f in fields.items() if f.default is f.default_factory is dataclasses.MISSING]
    lacking = [key for key in required if key not in content]
    if lacking:
        raise ValueError(f"must have {_listed(lacking)}")
    kinds: dict[str, tuple[type, str]] = {"folds": (int, "a whole number"), "seeds": (int, "a whole number")}
    kinds |= dict.fromkeys(("categories", "columns", "read_outs"), (list, "a list"))
    kinds |= dict.fromkeys(("methods", "baselines", "published", *_TABLES), (dict, "a table"))
    for key, value in content.items():
        kind, what = kinds.get(key, (str, "a string"))
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ValueError(f"`{key}` (={value!r}) must be {what}")
    for key, known in (("split", ("val", "test")), ("fold_of", ("train", "train+val"))):
        if content.get(key, known[0]) not in known:
            raise ValueError(f"`{key}` (={content[key]!r}) must be one of {', '.join(known)}")
    tables = {
        key: {row: _table(key, kind, row, table) for row, table in content.get(key, {}).items()}
        for key, kind in _TABLES.items()
    }
    return from_plain(Study, {"name": name, **content, **tables})


_TABLES: Mapping[str, type[Any]] = {"combined": Combination, "joint": Joint, "pretraining": Pretraining}


def _table(key: str, kind: type[Any], name: str, table: Any) -> Any:
    fields = dataclasses.fields(kind)
    required = [f.name for f in fields if f.default is dataclasses.MISSING]
    rest = [f.name for f in fields if f.name not in required]
    if not isinstance(table, dict) or not set(required) <= table.keys() <= {f.name for f in fields}:
        raise ValueError(f"`{key}` (={name!r}) must be a table with {_listed(required)} and out of {_listed(rest)}")
    return kind(**table)


def _listed(names: Any) -> str:
    return ", ".join(map(repr, names))
