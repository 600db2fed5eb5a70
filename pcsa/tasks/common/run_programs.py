"""The program of an opened run, and the inputs that its files are checked on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

import pcsa
from pcsa.localization import NEED_RADIUS, ReadOut
from pcsa.models import KeypointDetector, PointNet2, build_geometry
from pcsa.models.grid_network import GridNetwork
from pcsa.tasks.common.clouds import CloudTask, locate
from pcsa.tasks.common.map_task import MapTask
from pcsa.tasks.common.objective import bases_of, each_bandwidth
from pcsa.tasks.common.programs import (
    CloudProgram,
    MapProgram,
    Program,
    ReadingOf,
    Searched,
    Searching,
    geometry_names,
    normalized,
    packed,
)
from pcsa.tasks.common.task import Run

Geometry = Literal["inside", "input"]
_SIZES: dict[Geometry, tuple[tuple[int, ...], ...]] = {
    "inside": ((600,), (37,), (2048,)),
    "input": ((700, 600), (37,), (900, 3, 300)),
}


def program_of(
    run: Run[Any, Any],
    *,
    geometry: Geometry = "inside",
    read_out: ReadOut = "expectation",
    radius: float | None = None,
    size: Sequence[int] | None = None,
) -> Program:
    """The network of a run with its read-out.

    Args:
        run: The run.
        geometry: Of networks on clouds, whether the graph searches neighbors itself, in one cloud, or takes what was
            searched, in any number of clouds.
        read_out: See :func:`pcsa.localize`.
        radius: See :func:`pcsa.localize`, in the units of the clouds, or in pixels of the input.
        size: Of networks on images, volumes and scans, the size of the input; default that of the training.

    Raises:
        ValueError: If an option does not fit, or the network is none that can be written.
    """
    if read_out in NEED_RADIUS and radius is None:
        raise ValueError(f"`radius` (=None) must be given with `read_out` {read_out!r}")
    about = {
        "version": pcsa.__version__,
        "task": run.task.name,
        "names": list(map(str, run.labels.names)),
        "read_out": read_out,
        "radius": radius,
    }
    if isinstance(run.task, CloudTask):
        if size is not None:
            raise ValueError(f"`size` (={tuple(size)}) must not be given for {run.task.name}: clouds have any size")
        reading = ReadingOf(run.task.frame, read_out, radius, run.calibration.temperature, bases_of(run.config))
        return _of_clouds(run, reading, geometry, about)
    if isinstance(run.task, MapTask):
        return _of_maps(run, run.task, read_out, radius, size, about)
    raise ValueError(f"`checkpoint` (={run.path}) must be of a task on clouds, images, volumes or scans")


def _of_clouds(run: Run[Any, Any], reading: ReadingOf, geometry: Geometry, about: dict[str, Any]) -> Program:
    backbone = getattr(run.model, "backbone", None)
    if not isinstance(backbone, PointNet2):
        raise ValueError(
            f"`checkpoint` (={run.path}) must have PointNet++ as its backbone to be exported with its searches, has "
            f"{type(backbone).__name__}"
        )
    if geometry == "inside" and reading.bases.bandwidth_normal < 1:
        raise ValueError(
            f"`geometry` (='inside') must be 'input' for `{run.path}`: its `objective.bandwidth_normal` "
            f"(={reading.bases.bandwidth_normal}) takes principal axes, which a graph cannot find"
        )
    levels, local = backbone.levels, bool(backbone.local_neighbors)
    model = run.model.cpu().eval()
    last = "presence" if isinstance(model, KeypointDetector) else "activation"
    kind: type[CloudProgram] = Searching if geometry == "inside" else Searched
    names = ["points"] if geometry == "inside" else ["points", "ptr", "bandwidth", *geometry_names(levels, local)]
    whole = {"points": "points", "bandwidth": "points", "around": "points"}
    rows = {"ptr": "clouds + 1", "coarse_ptr": "clouds + 1", "coarse_0": "points", "weight_0": "points"}
    for i in range(len(levels)):
        rows |= {f"{part}_{i}": f"kept_{i}" for part in ("index", "neighbors", "inside")}
        rows |= {f"{part}_{i + 1}": f"kept_{i}" for part in ("coarse", "weight")}
    rows |= whole

    def inputs(clouds: Sequence[Tensor]) -> tuple[Tensor, ...]:
        points = torch.cat(list(clouds))
        if geometry == "inside":
            return (points,)
        ptr = torch.tensor([0, *(len(cloud) for cloud in clouds)]).cumsum(0)
        batch = torch.searchsorted(ptr, torch.arange(len(points)), right=True) - 1
        pos = normalized(points, batch, ptr, reading.frame)[0]
        found = build_geometry(pos, ptr, levels, backbone.local_neighbors)
        return (points, ptr, each_bandwidth(reading.bases, pos, ptr), *packed(found, levels, local))

    def checks() -> Iterator[tuple[str, tuple[Tensor, ...], dict[str, Tensor]]]:
        for sizes in _SIZES[geometry]:
            clouds = [_shape(n, reading, backbone, seed) for seed, n in enumerate(sizes)]
            # In float64, in which the graph normalizes, too.
            found = locate(
                model,
                [cloud.double() for cloud in clouds],
                reading.frame,
                reading.read_out,
                reading.radius,
                temperature=reading.temperature,
                bases=reading.bases,
            )
            more = found.outputs[last]
            expected = {
                "position": found.position,
                "covariance": found.covariance,
                "confidence": found.confidence,
                "entropy": found.entropy,
                last: more.sigmoid() if last == "presence" else more,
                "logits": torch.cat(found.logits),
            }
            yield f"clouds of {', '.join(map(str, sizes))} points", inputs(clouds), expected

    example = inputs([_shape(n, reading, backbone, n) for n in _SIZES[geometry][0]])
    about |= {
        "geometry": geometry,
        "frame": reading.frame,
        "temperature": reading.temperature,
        "bandwidth": {
            "constant": reading.bases.bandwidth,
            "scale": reading.bases.bandwidth_scale,
            "normal": reading.bases.bandwidth_normal,
        },
        "levels": [{k: v for k, v in asdict(level).items() if k != "channels"} for level in levels],
        "local_neighbors": backbone.local_neighbors,
    }
    outputs = ("position", "covariance", "confidence", "entropy", last, "logits")
    dynamic = tuple({0: rows[name]} for name in names)
    return Program(kind(model, reading).eval(), tuple(names), outputs, example, dynamic, about, checks)


def _shape(num_points: int, reading: ReadingOf, backbone: PointNet2, seed: int) -> Tensor:
    """A box of points, float32, whose farthest points rounding does not change: where it would, the next seed's."""
    for attempt in range(20):
        generator = torch.Generator().manual_seed(1000 * attempt + seed)
        points = 2 * torch.rand(num_points, 3, generator=generator) - 1
        axis = torch.randint(3, (num_points, 1), generator=generator)
        points = points.scatter(1, axis, points.gather(1, axis).sign()) * torch.tensor([1.0, 0.6, 0.8])
        ptr = torch.tensor([0, num_points])
        pos = normalized(points, torch.zeros(num_points, dtype=torch.long), ptr, reading.frame)[0]
        exact, rounded = (build_geometry(x, ptr, backbone.levels) for x in (pos.double(), pos))
        if all(torch.equal(a.index, b.index) for a, b in zip(exact, rounded, strict=True)):
            break
    return points


def _of_maps(
    run: Run[Any, Any],
    task: MapTask[Any],
    read_out: ReadOut,
    radius: float | None,
    size: Sequence[int] | None,
    about: dict[str, Any],
) -> Program:
    network, config = run.model.cpu().eval(), run.config
    assert isinstance(network, GridNetwork)
    axes = network.spatial_dims
    size = tuple(config.data.input_size[-axes:] if size is None else size)
    if len(size) != axes or min(size) < 1:
        raise ValueError(f"`size` (={tuple(size)}) must be {axes} numbers above 0, height and width last")

    def read(maps: Tensor, of: Sequence[int]) -> Any:
        return task.read(config, maps, of, read_out, radius)

    def checks() -> Iterator[tuple[str, tuple[Tensor, ...], dict[str, Tensor]]]:
        for count in (1, 2, 3):
            image = _picture(count, network, size)
            found = task.locate(config, network, image, read_out=read_out, radius=radius)
            expected = {"position": found.position, "confidence": found.confidence, "logits": found.maps}
            yield f"{count} inputs of {list(image.shape[1:])}", (image,), expected

    about |= {"input": [network.in_channels, *size], "values": "0 to 1", "positions": "pixels of the input, x first"}
    if task.columnwise:
        about["positions"] = "a row of each column"
    program: nn.Module = MapProgram(network, read).eval()
    outputs = ("position", "confidence", "logits")
    return Program(
        program, ("image",), outputs, (_picture(2, network, size),), ({0: "images"},), about, cast(Any, checks)
    )


def _picture(count: int, network: GridNetwork, size: Sequence[int]) -> Tensor:
    """Smooth noise from 0 to 1, of several sizes of spots."""
    generator = torch.Generator().manual_seed(count)
    coarse = torch.rand(count, network.in_channels, *[max(2, n // 8) for n in size], generator=generator)
    mode = "bilinear" if len(size) == 2 else "trilinear"
    return nn.functional.interpolate(coarse, size=list(size), mode=mode).clamp(0, 1)
