"""Loading a trained network in a line."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, get_args

import torch

from pcsa._core.checks import check_count, check_one_of, check_positive
from pcsa.datasets.values import ValueRange
from pcsa.localization import ReadOut
from pcsa.tasks.common.categories import of_category
from pcsa.tasks.common.clouds import CloudTask
from pcsa.tasks.common.devices import pick_device
from pcsa.tasks.common.map_task import MapTask
from pcsa.tasks.common.run import open_ensemble
from pcsa.tasks.common.sources import checkpoint_of, open_source
from pcsa.tasks.detectors.clouds import CloudDetector
from pcsa.tasks.detectors.maps import MapDetector

Source = str | os.PathLike[str]


def load(
    source: Source,
    *,
    device: str | torch.device = "auto",
    batch_size: int | None = None,
    read_out: ReadOut = "expectation",
    radius: float | None = None,
    category: str | None = None,
    ensemble: Sequence[Source] = (),
    test_time: int = 1,
    flip_test: bool | None = None,
    value_range: ValueRange | None = None,
    revision: str | None = None,
    trust: bool = False,
) -> CloudDetector | MapDetector:
    """Load a trained network as a function from clouds, images, volumes or scans to keypoints.

    ``pcsa.load`` is this function. What comes back is called with the inputs; normalization, the number of points, and
    the way back to the inputs' units are inside.

    Args:
        source: The folder of a run (its ``last.ckpt``, else ``best.ckpt``), a checkpoint, the folder of a shared model
            (``pcsa share``), or ``owner/name`` or ``owner/name@revision`` on the Hugging Face hub. What exists here is
            taken before what the hub has.
        device: ``"auto"`` takes CUDA where there is one.
        batch_size: Clouds that the network takes at once. Default: as many as keep the device busy.
        read_out: Way to read a keypoint from its map, see :func:`pcsa.localize`.
        radius: Radius of that, in units of the clouds (ball and ball_point: default 0.01, for KeypointNet's PCK@0.01),
            or in pixels of the network's input; the confidence is the probability within it.
        category: Category of the clouds, for a detector of several.
        ensemble: More networks of the same task and keypoints: the mean of their maps is read.
        test_time: Variations of each cloud as in the training, mirrored ones among them, of whose maps the mean is
            read.
        flip_test: Whether to take the mean of the maps of an image and of its mirror image. Default: yes.
        value_range: What 0 and 1 stand for in images, volumes or scans, such as (0, 4095). Default: as in the training.
        revision: Branch, tag or commit on the hub; default the newest of its main branch.
        trust: Import the network outside of pcsa that the model names, and run its code. Without it such a model is
            refused, and the error says what would be imported.

    Returns:
        A :class:`~pcsa.tasks.detectors.clouds.CloudDetector` for networks on clouds (supervised and Skeleton Merger), a
        :class:`~pcsa.tasks.detectors.maps.MapDetector` for those on images, volumes and scans; see their calls.

    Raises:
        FileNotFoundError: If there is no checkpoint.
        ConnectionError: If the hub cannot be reached or does not deliver.
        ValueError: If the file is no checkpoint, does not fit this version of the package, or an option does not fit
            the network.
    """
    check_one_of("read_out", read_out, get_args(ReadOut))
    if radius is not None:
        check_positive("radius", radius)
    for name, count in (("batch_size", batch_size), ("test_time", test_time)):
        if count is not None:
            check_count(name, count)
    run = open_source(source, pick_device(str(device)), revision=revision, trust=trust)
    run = open_ensemble(run, [checkpoint_of(other) for other in ensemble], test_time=test_time, trust=trust)
    maps: dict[str, Any] = {"flip_test": flip_test, "value_range": value_range}
    clouds: dict[str, Any] = {"category": category, "batch_size": batch_size}
    if isinstance(run.task, CloudTask):
        _refuse(run.task.name, maps)
        if hasattr(run.labels, "semantic_ids"):
            run = of_category(run, category)
        elif category is not None:
            raise ValueError(f"`category` (={category!r}) must not be given for {run.task.name}: it knows only one")
        return CloudDetector(run, read_out, radius, batch_size)
    if not isinstance(run.task, MapTask):
        raise ValueError(f"`source` (={str(source)!r}) must be of a task on clouds or maps, is of {run.task.name}")
    _refuse(run.task.name, clouds)
    how = run.task.predict_options
    known = {field.name for field in fields(how)}
    given = {name: value for name, value in maps.items() if value is not None}
    _refuse(run.task.name, {name: value for name, value in given.items() if name not in known})
    options = how(checkpoint=run.path, inputs=(), read_out=read_out, radius=radius, **given)
    # What does not fit is told now, not at the first input.
    run.task.predictor(run, options)
    return MapDetector(run, options)


def _refuse(task: str, options: dict[str, Any]) -> None:
    for name, value in options.items():
        if value is not None:
            raise ValueError(f"`{name}` (={value!r}) must not be given for {task}")
