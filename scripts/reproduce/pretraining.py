"""Trainings whose networks the methods of a study begin with."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Pretraining:
    """What a study says of such a training; each seed has its own."""

    options: str
    """Options of ``pcsa train`` over those that all methods have; ``--data.category`` among them."""
    root: bool = False
    """Whether it is trained on clouds of the root, all of split train; else on procedural shapes."""

    def __post_init__(self) -> None:
        if not isinstance(self.options, str):
            raise ValueError(f"`options` (={self.options!r}) must be a string")
        if not isinstance(self.root, bool):
            raise ValueError(f"`root` (={self.root!r}) must be true or false")
