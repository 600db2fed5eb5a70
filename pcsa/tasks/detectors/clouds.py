"""A detector of keypoints in clouds and meshes."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pcsa._core.checks import check_count, check_positive
from pcsa.localization import ReadOut
from pcsa.tasks.common.clouds import CloudTask
from pcsa.tasks.common.given_clouds import GivenCloud, give, locate_given, points_to_sample
from pcsa.tasks.common.located_clouds import LocatedClouds
from pcsa.tasks.common.task import Run
from pcsa.tasks.detectors.found import Found
from pcsa.tasks.detectors.inputs import InputCloud, Sampling, as_cloud, as_list

# Points that the network takes at once, by what runs it: enough to keep it busy.
_POINTS = {"cpu": 2**14, "cuda": 2**18}

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False, repr=False)
class CloudDetector:
    """A trained network on clouds, as a function; made by :func:`pcsa.load`.

    Whatever the network needs of a cloud is done inside: normalization, as many points as the training clouds had, and
    the way back to the cloud's own units. Clouds must stand as the training clouds do: same up axis, same heading,
    unless it was trained with `model.rotation`.

    Args:
        run: Network and what its checkpoint says of it.
        read_out: See :func:`pcsa.localize`.
        radius: The same, in the clouds' units.
        batch_size: Clouds that the network takes at once; None for as many as keep the device busy.
    """

    run: Run[Any, Any]
    read_out: ReadOut = "expectation"
    radius: float | None = None
    batch_size: int | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each keypoint."""
        return tuple(self.run.labels.names)

    @property
    def category(self) -> str:
        """Category of the clouds that it was trained on."""
        return str(self.run.labels.category)

    @property
    def device(self) -> torch.device:
        return self.run.device

    @property
    def num_points(self) -> int | None:
        """Points of the training clouds, as many as the network is given; None where an old checkpoint does not say."""
        return None if self.run.clouds is None else self.run.clouds.num_points

    def __repr__(self) -> str:
        count = f", trained on clouds of {self.num_points} points" if self.num_points else ""
        return f"CloudDetector({self.category}: {len(self.names)} keypoints{count}; {self.run.path}, {self.device})"

    def __call__(
        self,
        clouds: Any,
        *,
        read_out: ReadOut | None = None,
        radius: float | None = None,
        num_points: int | None = None,
        resample: bool = True,
        seed: int = 0,
        columns: str | None = None,
        drop_invalid: bool = False,
    ) -> Any:
        """Find the keypoints of one cloud, or of several.

        The log warns of each cloud that is unlike the training clouds, and says of each of which fewer points were
        taken.

        Args:
            clouds: Points ``[N, 3]`` as a NumPy array or a tensor, a point cloud or mesh of Open3D, an object of
                trimesh, a PyTorch Geometric ``Data`` (with ``face``, a mesh), the path of a file, or a list of these;
                ``[B, N, 3]`` and a PyTorch Geometric ``Batch`` are lists, too. In any units. On meshes points are
                sampled, by area.
            read_out: Way to read a keypoint from its map, in place of the detector's.
            radius: Radius of that, in the units of the clouds, in place of the detector's.
            num_points: Points sampled on a mesh, at random; default as many as the training clouds had, evenly spaced.
            resample: Whether to draw, from a cloud that has many more points than the training clouds or from a mesh,
                as many evenly spaced points as these had; else all points of a cloud are taken, and those of a mesh are
                random.
            seed: Seed of both.
            columns: Names of the columns of files that have no names for them, such as ``"x y z label"``.
            drop_invalid: Whether to leave out points that are not finite, instead of raising; ``index`` counts those
                that are left.

        Returns:
            A :class:`Found` for one cloud, a list of them for several.

        Raises:
            FileNotFoundError: If a file is not there.
            ValueError: If an input cannot be read, has no points, or has some that are not finite; the message names
                the input.
        """
        if num_points is not None:
            check_count("num_points", num_points)
        if radius is not None:
            check_positive("radius", radius)
        given, several = as_list(clouds)
        count = num_points or points_to_sample(self.run.clouds, resample=resample)
        how = Sampling(count, seed, columns, drop_invalid)
        named = [f"`clouds[{i}]`" if several else "`clouds`" for i in range(len(given))]
        inputs = [as_cloud(one, how, name) for one, name in zip(given, named, strict=True)]
        found: list[Found] = []
        taken = []
        for cloud in inputs:
            chosen = cloud.is_sampled and num_points is not None
            draw: dict[str, Any] = {"sampled": cloud.is_sampled, "resample": resample and not chosen, "seed": seed}
            taken.append(give(cloud.pos, self.run.clouds, **draw))
            _tell(cloud, taken[-1])
        reach = self.radius if radius is None else radius
        for part in self._batches([len(one.pos) for one in taken]):
            located = locate_given(self.run, taken[part], read_out or self.read_out, reach)
            for place, (cloud, one) in enumerate(zip(inputs[part], taken[part], strict=True)):
                found.append(self._found(cloud, one, located, place))
        return found if several else found[0]

    def _batches(self, sizes: Sequence[int]) -> Iterator[slice]:
        """Cut clouds of these sizes into batches."""
        most = _POINTS["cuda" if self.device.type == "cuda" else "cpu"]
        first = points = 0
        for i, size in enumerate(sizes):
            full = points + size > most if self.batch_size is None else i - first == self.batch_size
            if full and i > first:
                yield slice(first, i)
                first, points = i, 0
            points += size
        if sizes:
            yield slice(first, len(sizes))

    def _found(self, cloud: InputCloud, given: GivenCloud, located: LocatedClouds, place: int) -> Found:
        run, task = self.run, self.run.task
        assert isinstance(task, CloudTask)
        extra = {name: value[place] for name, value in task.extra(located).items()}
        segments = task.header(run).get("segments")
        index = located.index[place]
        return Found(
            self.names,
            # Clouds of other precisions may be in the batch.
            located.position[place].to(cloud.pos.dtype),
            located.confidence[place],
            located.covariance[place].to(cloud.pos.dtype),
            presence=extra.get("presence"),
            entropy=located.entropy[place],
            index=index,
            point=given.whole[index],
            radius=located.radius,
            temperature=run.calibration.temperature,
            novelty=None if given.novelty is None else given.novelty.score,
            reason="" if given.novelty is None else given.novelty.reason,
            num_points=len(given.whole),
            num_used=len(given.pos),
            segments=None if segments is None else torch.tensor(segments),
            activation=extra.get("activation"),
            ids=tuple(getattr(run.labels, "semantic_ids", ())),
        )


def _tell(cloud: InputCloud, given: GivenCloud) -> None:
    if given.rows is not None:
        log.info(
            "%s: %d of its %d points are taken, as many as the training clouds had",
            *(cloud.name, len(given.pos), len(given.whole)),
        )
    if given.novelty is not None and given.novelty.score > 1:
        log.warning("%s is unlike the training clouds: %s", cloud.name, given.novelty.reason)
