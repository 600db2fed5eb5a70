"""Opening what a training left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import pcsa
from pcsa.tasks.common.backbone import Trust, check_trust, foreign_backbone, trust_in
from pcsa.tasks.common.calibrations import (
    Calibration,
    Way,
    fitted_for,
    network_state,
    read_calibrations,
    weights_digest,
)
from pcsa.tasks.common.config import TrainConfig, from_plain
from pcsa.tasks.common.objective import bases_of
from pcsa.tasks.common.outline import check_fits
from pcsa.tasks.common.registry import get_task
from pcsa.tasks.common.shared import read_model, shared_weights
from pcsa.tasks.common.task import Run
from pcsa.tasks.common.training_clouds import TrainingClouds


def open_run(
    path: Path | str,
    device: str | torch.device = "cpu",
    *,
    task: str | None = None,
    trust: Trust = False,
) -> Run[Any, Any]:
    """Task, configuration, labels and network of a checkpoint, from one read of the file.

    Args:
        path: The file; or the folder of a shared model, or the weights in it.
        device: Where the network is put.
        task: The only task that will do; default any.
        trust: Whether the file may name a network outside of this package, whose module is then imported and run; or
            a model with the only one that it may name.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no checkpoint, of another task, does not fit this version of the package, or names a
            network that is not trusted; nothing is imported then.
    """
    path = Path(path)
    path = shared_weights(path) or path
    checkpoint = read_model(path)
    about = checkpoint["pcsa"]
    if task is not None and about["task"] != task:
        raise ValueError(f"`{path}` must be a checkpoint of {task}, is one of {about['task']}")
    try:
        of = get_task(about["task"])
        config: TrainConfig = from_plain(of.config_type, about["config"])
    except Exception as error:
        raise _unfit(path, error) from None
    check_trust(path, config, trust)
    try:
        labels = from_plain(of.labels_type, about["labels"])
        weights = network_state(checkpoint)
        # A network that the file has no weights for may be one that there is no memory for. Code that is trusted may
        # take it anyhow, and may be none that can be run without it.
        if foreign_backbone(config) is None:
            check_fits(lambda: of.build(config, labels), weights)
        model = of.build(config, labels)
        model.load_state_dict(weights)
        step, temperature = int(checkpoint["global_step"]), float(about["temperature"])
        calibrations = read_calibrations(about)
        calibration = calibrations.get(None, Calibration())
        clouds = from_plain(TrainingClouds, about["clouds"]) if "clouds" in about else None
    # What a checkpoint lacks, what another version adds, a task that is not registered, or weights of another size.
    except Exception as error:
        raise _unfit(path, error) from None
    model = model.to(device).eval()
    return Run(path, of, config, labels, model, step, temperature, calibration, calibrations, clouds=clouds)


def _unfit(path: Path, error: Exception) -> ValueError:
    first = " ".join(str(error).split())[:200]
    return ValueError(
        f"`{path}` must fit pcsa {pcsa.__version__} and the model that it describes: {type(error).__name__}, {first}"
    )


def open_ensemble(
    run: Run[Any, Any], paths: Sequence[Path | str] = (), *, test_time: int = 1, trust: Trust = False
) -> Run[Any, Any]:
    """A run whose network is the mean of its own and those of other checkpoints, and over variations of each input.

    Its maps are the means of theirs, as probabilities. Configuration, step and labels are those of ``run``; the
    temperature of the confidences is the one that was fitted for this way of averaging, by whichever checkpoint has it.

    Args:
        run: What :func:`open_run` opened.
        paths: Checkpoints of the same task and keypoints; their networks are put where that of ``run`` is.
        test_time: Number of variations of each input, see :class:`pcsa.tasks.common.mean_maps.MeanOfVariations`.
        trust: See :func:`open_run`; the network of ``run`` itself is trusted, since it was opened.

    Returns:
        ``run`` itself where there is nothing to average.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a file is no checkpoint, or of another task or other keypoints.
    """
    known = {run.path.resolve()}
    runs = [run]
    trust = trust or trust_in(run.config)
    for path in map(Path, paths):
        other = open_run(path, run.device, task=run.task.name, trust=trust)
        # A shared model is named by its folder, or by the file of its weights.
        if other.path.resolve() in known:
            raise ValueError(f"`ensemble` (={str(path)!r}) must name each checkpoint once: it would weigh twice")
        known.add(other.path.resolve())
        for name in ("category", "names", "semantic_ids"):
            here, first = (getattr(r.labels, name, None) for r in (other, run))
            if here != first:
                raise ValueError(
                    f"`ensemble` (={str(path)!r}) must find what `{run.path}` finds: its {name} are {here}, not {first}"
                )
        if (own := bases_of(other.config)) != (first := bases_of(run.config)):
            raise ValueError(
                f"`ensemble` (={str(path)!r}) must have the bases of `{run.path}`, for covariances are those of "
                f"the mixture: {own}, not {first}"
            )
        runs.append(other)
    task, members = run.task, tuple(runs)
    if test_time > 1:
        runs = [replace(r, model=task.varied(r, test_time)) for r in runs]
    model = runs[0].model if len(runs) == 1 else task.mean(runs)
    way = None
    if model is not run.model:
        way = Way(tuple(sorted(weights_digest(r.model.state_dict()) for r in members)), test_time)
    calibration = fitted_for(way, [r.calibrations for r in members])
    if way is None:
        return run
    return replace(run, model=model.eval(), calibration=calibration, members=members, way=way)
