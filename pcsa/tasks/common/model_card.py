"""The page that goes with a shared model: what it finds, how well, and what its data may be used for."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pcsa.datasets.faults import reading
from pcsa.tasks.common.backbone import foreign_backbone
from pcsa.tasks.common.calibrations import weights_digest
from pcsa.tasks.common.task import Run

log = logging.getLogger(__name__)

CARD = "README.md"
_PAPER = """\
@inproceedings{li2021localization,
  title     = {Localization with Sampling-Argmax},
  author    = {Li, Jiefeng and Chen, Tong and Shi, Ruiqi and Lou, Yujing and Li, Yong-Lu and Lu, Cewu},
  booktitle = {Advances in Neural Information Processing Systems},
  year      = {2021}
}"""


@dataclass(frozen=True)
class CardText:
    """What a model card says that no file of a run knows."""

    name: str = "folder"
    """What to open the model by: its id on the hub, or its folder."""
    title: str | None = None
    """Heading; default what the model finds."""
    description: str | None = None
    """What it is for, in your own words."""
    license: str | None = None
    """License of the model, as the hub names it: mit, cc-by-4.0."""
    data_license: str | None = None
    """Terms of the data that the model was trained on."""
    citation: str | None = None
    """What to cite beside the paper of the method, for instance the data's: BibTeX or text."""


def model_card(run: Run[Any, Any], text: CardText) -> str:
    """The page of a run, as Markdown behind the fields that the hub reads.

    Its scores are those that ``pcsa evaluate`` wrote beside the checkpoint for the same weights, with the floors and
    the ceiling that it found.

    Args:
        run: The run, of one network.
        text: What the page says besides.
    """
    task, data, optimizer = run.task, run.config.data, run.config.optimizer
    found = getattr(run.labels, "category", task.name)
    procedural = getattr(data, "root", None) is None
    # A path is nobody's business.
    source = "procedural data, made by pcsa" if procedural else f"`{Path(data.root).name}`"
    terms = text.data_license or (
        "none: the data are made by pcsa" if procedural else "**not stated by who shared it**"
    )
    length = f"{run.step} steps" if run.step else "no step"
    trust = "" if foreign_backbone(run.config) is None else ", trust=True"
    objective = getattr(run.config.objective, "method", getattr(run.config.objective, "read_out", "see `config.json`"))
    facts = [
        ("Task", f"`{task.name}`: {task.title}"),
        ("Finds", f"{len(run.labels.names)} keypoints of {found}: {', '.join(map(str, run.labels.names))}"),
        ("Data", source),
        ("License of the data", terms),
        ("Training", f"{length}, batches of {optimizer.batch_size}, objective {objective}, seed {run.config.seed}"),
        ("Weights", f"{sum(p.numel() for p in run.model.parameters()):,} in `model.safetensors`"),
    ]
    parts = [
        f"# {text.title or f'Keypoints of {found}'}",
        *([text.description] if text.description else []),
        "\n".join(f"- {head}: {value}" for head, value in facts),
        "## Load it",
        f'```python\nimport pcsa\n\ndetector = pcsa.load("{text.name}"{trust})\nfound = detector(points)\n```',
        "`pip install 'pcsa[train]'` brings what that needs. The files hold no code.",
        "## Scores",
        *(_scores(run) or ["None: `pcsa evaluate` was not called on these weights before they were shared."]),
        "## Cite",
        *([f"```\n{text.citation}\n```"] if text.citation else []),
        f"```\n{_PAPER}\n```",
    ]
    return f"---\n{_fields(text)}---\n\n" + "\n\n".join(parts) + "\n"


def _fields(text: CardText) -> str:
    lines = ["library_name: pcsa", "tags:", "- keypoints", "- point-cloud", "- pcsa"]
    if text.license is not None:
        # As JSON, which is YAML: a text of any characters.
        lines.insert(0, f"license: {json.dumps(text.license)}")
    return "\n".join(lines) + "\n"


def _scores(run: Run[Any, Any]) -> list[str]:
    """Headings and tables of what was measured of the same weights."""
    digest = weights_digest(run.model.state_dict())
    parts: list[str] = []
    for file, metrics in _measured(run.path):
        if metrics.get("ensemble") or metrics.get("test_time"):
            continue
        if metrics.get("weights") != digest:
            log.warning("`%s` is left out of the card: it is of other weights; `pcsa evaluate` measures again", file)
            continue
        with reading(file, "what `pcsa evaluate` wrote"):
            parts += [f"### {metrics['split']}", run.task.table(metrics)]
    return parts


def _measured(checkpoint: Path) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    for file in sorted(checkpoint.parent.glob("metrics-*.json")):
        with reading(file, "what `pcsa evaluate` wrote"):
            metrics = json.loads(file.read_bytes().decode("utf-8"))
            if not isinstance(metrics, dict):
                raise ValueError(f"must hold an object, holds a {type(metrics).__name__}")
        yield file, metrics
