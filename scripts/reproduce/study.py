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
from pcsa.datasets.limits import leads_out
from pcsa.scripts.reproduce.combined import Combination
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
    published: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)
    """Figures of others by column, row and category."""
    combined: Mapping[str, Combination] = field(default_factory=dict)
    """Means of the networks of a method, by name; they stand in the tables as methods."""

    def __post_init__(self) -> None:
        if not self.methods:
            raise ValueError("`methods` must name at least one")
        for name, combination in self.combined.items():
            if name in self.methods:
                raise ValueError(f"`combined` (={name!r}) must not have the name of a method")
            if combination.of not in self.methods:
                raise ValueError(f"`of` (={combination.of!r}) of {name!r} must be out of {_listed(self.methods)}")
            if combination.networks > self.seeds:
                raise ValueError(
                    f"`networks` (={combination.networks}) of {name!r} must be at most `seeds` (={self.seeds})"
                )
        if self.baseline not in self.names:
            raise ValueError(f"`baseline` (={self.baseline!r}) must be out of {_listed(self.names)}")
        if self.folds < 0 or self.folds == 1:
            raise ValueError(f"`folds` (={self.folds}) must be at least 2, or 0 for the splits of the dataset")
        if self.seeds < 1:
            raise ValueError(f"`seeds` (={self.seeds}) must be at least 1")
        if self.folds and self.split == "test":
            raise ValueError("`split` (='test') must be 'val' with `folds`: folds are scored on what they hold out")

    @property
    def names(self) -> tuple[str, ...]:
        """All rows of the tables: methods, then combined ones."""
        return (*self.methods, *self.combined)

    def arguments(self, method: str) -> list[str]:
        """What follows ``pcsa train`` for a method, but for the data, the seed and the folder."""
        return [self.task, self.preset, *shlex.split(self.options), *shlex.split(self.methods[method])]


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
    kinds |= dict.fromkeys(("methods", "published", "combined"), (dict, "a table"))
    for key, value in content.items():
        kind, what = kinds.get(key, (str, "a string"))
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ValueError(f"`{key}` (={value!r}) must be {what}")
    for key, known in (("split", ("val", "test")), ("fold_of", ("train", "train+val"))):
        if content.get(key, known[0]) not in known:
            raise ValueError(f"`{key}` (={content[key]!r}) must be one of {', '.join(known)}")
    for key in ("categories", "columns", "read_outs"):
        for value in content.get(key, []):
            if not isinstance(value, str):
                raise ValueError(f"`{key}` has {value!r}: must be a list of strings")
    for value in content["categories"]:
        # They become folders.
        if leads_out(value) or "/" in value or value == ".":
            raise ValueError(f"`categories` has {value!r}: must be names without a path")
    for row, words in {"options": content.get("options", ""), **content["methods"]}.items():
        try:
            shlex.split(words)
        except (ValueError, AttributeError) as error:
            raise ValueError(f"`{row}` (={words!r}) must be options of `pcsa train` ({error})") from None
    for column in content.get("published", {}).values():
        tables = column.values() if isinstance(column, dict) else [column]
        if not all(isinstance(row, dict) and all(type(x) in (int, float) for x in row.values()) for row in tables):
            raise ValueError("`published` must have numbers by column, row and category")
    combined = {row: _combination(row, table) for row, table in content.get("combined", {}).items()}
    return from_plain(Study, {"name": name, **content, "combined": combined})


def _combination(name: str, table: Any) -> Combination:
    fields = [f.name for f in dataclasses.fields(Combination)]
    if not isinstance(table, dict) or "of" not in table or not table.keys() <= set(fields):
        raise ValueError(f"`combined` (={name!r}) must be a table with 'of' and out of {_listed(fields[1:])}")
    return Combination(**table)


def _listed(names: Any) -> str:
    return ", ".join(map(repr, names))
