"""``pcsa share``: put a trained model into a folder that others can open, or on the Hugging Face hub."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import tyro

from pcsa.tasks.common.model_card import CardText
from pcsa.tasks.common.pretrained import Pretrained
from pcsa.tasks.common.sources import open_source
from pcsa.tasks.common.task import Checkpoint


@dataclass(frozen=True)
class ShareConfig:
    """Write a trained model as weights without code, a description and a card, or put these on the Hugging Face hub.

    The card has the scores that `pcsa evaluate` wrote beside the checkpoint: evaluate first.
    """

    run: Checkpoint
    out: Path | None = None
    """Folder to write, a new one or that of a shared model."""
    repo_id: str | None = None
    """Repository on the hub, owner/name; `hf auth login` says who you are."""
    private: bool = False
    """Whether a new repository is for your eyes only."""
    title: str | None = None
    """Heading of the card."""
    description: str | None = None
    """What the model is for, for the card."""
    license: str | None = None
    """License of the model, as the hub names it: mit, cc-by-4.0."""
    data_license: str | None = None
    """Terms of the data that the model was trained on."""
    citation: str | None = None
    """What to cite beside the paper of the method, for instance the data's."""
    trust_backbone: bool = False
    """Import the module outside of pcsa that the checkpoint names as its network, and run it: it may do anything."""

    def __post_init__(self) -> None:
        if (self.out is None) == (self.repo_id is None):
            raise ValueError(f"`out` (={self.out}) or `repo_id` (={self.repo_id}) must be given, one of them")


def main(argv: list[str]) -> int:
    """Parse options, and share."""
    config = tyro.cli(ShareConfig, args=argv, prog="pcsa share")
    print(f"shared: {share(config)}")
    return 0


def share(config: ShareConfig) -> str:
    """Share a model, and return where it is."""
    run = open_source(config.run, trust=config.trust_backbone)
    known = {field.name for field in fields(CardText)}
    card: dict[str, Any] = {name: getattr(config, name) for name in known if getattr(config, name, None)}
    pretrained = Pretrained(run)
    if config.out is not None:
        pretrained.save_pretrained(config.out, model_card_kwargs=card)
        return str(config.out)
    assert config.repo_id is not None
    return pretrained.push_to_hub(config.repo_id, private=config.private or None, model_card_kwargs=card)
