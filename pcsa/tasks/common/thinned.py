"""Thinned clouds in a task: those that a training, or a call of ``pcsa evaluate``, asks for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pcsa.datasets.thinning import Thin, Thinning
from pcsa.tasks.common.task import Run


def thinning(options: Thin) -> Thinning | None:
    """The transform of a dataset; None where its clouds stay as they are."""
    options.check()
    return Thinning(options) if options.active else None


def run_on(run: Run[Any, Any], options: Thin) -> Run[Any, Any]:
    """A run whose clouds are thinned as ``options`` say, and in the rest as those that it was trained on."""
    thin = options.over(run.config.data.thin)
    thin.check()
    return _with(run, thin)


def on_whole_clouds(run: Run[Any, Any]) -> Run[Any, Any]:
    """A run whose clouds keep all points."""
    return _with(run, Thin())


def _with(run: Run[Any, Any], thin: Thin) -> Run[Any, Any]:
    if thin == run.config.data.thin:
        return run
    return replace(run, config=replace(run.config, data=replace(run.config.data, thin=thin)))
