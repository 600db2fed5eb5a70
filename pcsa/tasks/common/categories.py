"""What a detector finds, in one category or in several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, cast

import torch
from torch import Tensor, nn

from pcsa.datasets.keypointnet import KeypointCategories, KeypointNet
from pcsa.datasets.up import Up
from pcsa.tasks.common.tables import markdown_table, number
from pcsa.tasks.common.task import Run


@dataclass(frozen=True)
class KeypointLabels:
    """What a detector finds."""

    category: str
    names: tuple[str, ...]
    semantic_ids: tuple[int, ...]
    categories: tuple[str, ...] = ()
    """Category of each keypoint, where there are several."""
    mirror_x: tuple[int, ...] = ()
    """Column that each keypoint becomes in the mirror image across the middle of x, -1 where that is not known; empty
    where most shapes have no such plane, or none was trained on."""
    mirror_z: tuple[int, ...] = ()
    """The same across the middle of z."""
    mirror_y: tuple[int, ...] = ()
    """The same across the middle of y, where another axis points up."""
    up: Up = "y"
    """The axis that points up."""

    @classmethod
    def of(cls, clouds: KeypointNet, mirrors: Mapping[int, tuple[int, ...]] = MappingProxyType({})) -> KeypointLabels:
        """What the columns of annotated clouds mean; ``mirrors`` by axis, see :func:`category_mirrors`."""
        categories = clouds.categories if isinstance(clouds, KeypointCategories) else ()
        names, ids = tuple(str(n) for n in clouds.names), tuple(clouds.semantic_ids)
        planes = (mirrors.get(0, ()), mirrors.get(2, ()), mirrors.get(1, ()))
        return cls(clouds.category, names, ids, categories, *planes, cast(Up, clouds.up))

    @property
    def ids(self) -> tuple[int, ...] | dict[str, tuple[int, ...]]:
        """The semantic ids; by category where there are several."""
        if not self.categories:
            return self.semantic_ids
        found: dict[str, tuple[int, ...]] = {}
        for category, i in zip(self.categories, self.semantic_ids, strict=True):
            found[category] = (*found.get(category, ()), i)
        return found


class OneCategory(nn.Module):
    """The keypoints of one category from a network that returns those of several, ``[..., K]`` in each of its outputs.

    Args:
        network: The network of several.
        columns: The keypoints of the category.
    """

    columns: Tensor

    def __init__(self, network: nn.Module, columns: Sequence[int]) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("columns", torch.tensor(columns, device=next(network.parameters()).device))

    def forward(self, *args: object, **options: object) -> dict[str, Tensor]:
        """Call the network, and select."""
        return {name: value.index_select(-1, self.columns) for name, value in self.network(*args, **options).items()}


def of_category(run: Run[Any, Any], category: str | None) -> Run[Any, Any]:
    """The run as if it had been trained on this one of its categories alone; None where it knows only one.

    Raises:
        ValueError: If it knows several and none is named, or if it does not know the one that is named.
    """
    labels = run.labels
    categories: tuple[str, ...] = getattr(labels, "categories", ())
    known = list(dict.fromkeys(categories)) or [labels.category]
    if category is None and len(known) == 1:
        return run
    if category is None or category not in known:
        raise ValueError(f"`category` (={category!r}) must be one that the detector has learned: {', '.join(known)}")
    if not categories:
        return run
    columns = [k for k, of in enumerate(categories) if of == category]
    names = tuple(labels.names[k].removeprefix(f"{category}/") for k in columns)
    own = KeypointLabels(category, names, tuple(labels.semantic_ids[k] for k in columns), up=labels.up)
    config = replace(run.config, data=replace(run.config.data, category=category))
    return replace(run, config=config, labels=own, model=OneCategory(run.model, columns).eval())


def category_table(metrics: Mapping[str, Any], shown: Sequence[int]) -> list[str]:
    """The Euclidean scores of each category and their mean, after an empty line; nothing where there is one category.

    Args:
        metrics: What :meth:`pcsa.metrics.KeypointMetrics.compute` returned.
        shown: Places of the thresholds to show.
    """
    parts: Mapping[str, Any] = metrics["per_category"]
    if len(parts) < 2:
        return []
    values = {
        name: [*(100 * part["euclidean"]["pck"][i] for i in shown), part["euclidean"]["mean_error"]]
        for name, part in parts.items()
    }
    values["mean of the categories"] = [sum(column) / len(parts) for column in zip(*values.values(), strict=True)]
    heads = ["Euclidean", *(f"PCK@{metrics['thresholds'][i]:g}" for i in shown), "mean error"]
    rows = [[name, *(number(x, 1) for x in row[:-1]), number(row[-1], 4)] for name, row in values.items()]
    return ["", markdown_table(heads, rows)]
