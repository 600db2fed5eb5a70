"""What ``pcsa evaluate`` finds and says of a keypoint detector on annotated clouds."""

from __future__ import annotations

import functools
import logging
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal, cast

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data

from pcsa._core.checks import check_positive
from pcsa.datasets.keypointnet import rotated_labelings, rotation_groups
from pcsa.datasets.keypointnet.mirror import category_mirror_pairs
from pcsa.datasets.thinning import Thin
from pcsa.datasets.up import Up
from pcsa.localization import ReadOut
from pcsa.metrics import THRESHOLDS, Confusion, KeypointMetrics, confused_keypoints, symmetric_error
from pcsa.metrics.geodesic import geodesic_distances, geodesic_error
from pcsa.tasks.common.belief import (
    READ_OUTS,
    Scored,
    alone,
    ball_masses,
    confidence_scores,
    label_scores,
    read_maps,
    read_out_scores,
    score_read_outs,
    training_template,
)
from pcsa.tasks.common.belief_tables import format_belief, format_marks
from pcsa.tasks.common.calibrations import Calibration
from pcsa.tasks.common.categories import category_table, of_category
from pcsa.tasks.common.clouds import CloudEvaluation, CloudsConfig, CloudTask
from pcsa.tasks.common.confusions import confusion_lines, confusion_scores
from pcsa.tasks.common.cross_fitting import cross_fit
from pcsa.tasks.common.fitting import check_suited, scale_of, suited, suits
from pcsa.tasks.common.held_to_marks import Held, deal, hold, mark_scores, written
from pcsa.tasks.common.objective import bases_of
from pcsa.tasks.common.read_outs import FLOORS, KEYPOINTNET_RADIUS, ball_named, cloud_radius
from pcsa.tasks.common.shape_distances import shape_distances
from pcsa.tasks.common.shape_floors import (
    ShapeFloors,
    diagonals,
    floor_scores,
    floor_table,
    rater_records,
    rater_scores,
)
from pcsa.tasks.common.tables import markdown_table, number, shown_thresholds
from pcsa.tasks.common.task import Run
from pcsa.tasks.common.thinned import on_whole_clouds, run_on
from pcsa.tasks.common.turned_clouds import CloudEvaluateOptions, cloud_turns, locate_turned, rotated_header

# Confidences that stand beside the distances of each shape.
_BY_SHAPE = ("mass", "cross_fitted")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SupervisedEvaluateOptions(CloudEvaluateOptions):
    """Score a detector on clouds it was not trained on, in the dataset's own units."""

    thresholds: tuple[float, ...] = THRESHOLDS
    """Thresholds of the PCK, in the dataset's own units; the default is for shapes of size 1."""
    geodesic: bool = True
    """Also measure distances along the surface, as KeypointNet's benchmark does."""
    compared: tuple[ReadOut, ...] = READ_OUTS
    """Other read-outs of the same maps to score beside the one that is asked for; see pcsa.localize. Mode takes about
    as long as all others together."""
    ball_radii: tuple[float, ...] = ()
    """Radii, in the dataset's own units, to read the maps by the ball of, too: 0.02 makes a row "ball, 0.02"."""
    fit_temperature: bool = False
    """Fit a temperature on the labels of split val that makes the confidences as large as they are right, and store it
    in the checkpoint, the first of several, for the calls that follow with the same ensemble and variations. What is
    reported is right only on other clouds: not for split test."""
    category: str | None = None
    """Of a detector of several categories, score this one alone."""
    cross_fit: bool = False
    """Judge the confidences also under temperatures fitted on other clouds of the same split, as fit_temperature does,
    and store none."""
    allow_seen: bool = False
    """Score a mean of networks although one of them was trained on some of the clouds; else that is refused."""
    floors: bool = False
    """Also move the training shapes onto each cloud: their mean, and the one that fits best. What they miss by is what
    a detector of real shapes has to beat; errors are by landmark and as a share of the clouds' diagonals, too. About
    0.1 s for each training shape and cloud: half a minute for 30 and 8."""
    floors_mirrored: bool = False
    """Training shapes may be mirrored, too, as a left bone on a right one is; landmarks keep their names. Not for
    shapes that have both sides themselves. Twice the time."""
    floors_rigid: bool = False
    """Training shapes keep their size. Mostly, they fit worse then."""
    thin: Thin = field(default_factory=Thin)
    """Points that the clouds to score lack. What is not given is as in the training: `--thin.num-points 0
    --thin.falloff 1 --thin.occlude False` scores whole clouds."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for radius in self.ball_radii:
            check_positive("ball_radii", radius)
        for name in ("floors_mirrored", "floors_rigid"):
            if getattr(self, name) and not self.floors:
                raise ValueError(f"`{name}` (=True) must be given with `floors` only")


class DetectionEvaluation(CloudEvaluation):
    """PCK, mean error, presence and calibration, Euclidean and geodesic, with and without rotational symmetry."""

    def __init__(
        self,
        task: CloudTask[Any, Any],
        run: Run[Any, Any],
        options: SupervisedEvaluateOptions,
        split: Literal["val", "test"],
    ) -> None:
        if options.fit_temperature and split != "val":
            raise ValueError(
                f"`fit_temperature` (=True) must not be set for split {split!r}: what is fitted on clouds "
                "says nothing of them"
            )
        if options.category is not None:
            if options.fit_temperature:
                raise ValueError(
                    f"`fit_temperature` (=True) must not be set with `category` (={options.category!r}): the "
                    "checkpoint has one temperature for all of its categories"
                )
            run = of_category(run, options.category)
        run = run_on(run, options.thin)
        thin = run.config.data.thin
        dataset = task.annotated(run, split, options.root)
        super().__init__(
            split,
            dataset,
            {
                "category": dataset.category,
                "num_items": len(dataset),
                "num_missing": len(dataset.missing),
                **({} if run.config.data.fold is None or split == "test" else {"fold": str(run.config.data.held_out)}),
                "units": "the dataset's own",
                **({"thinned": str(thin)} if thin.active else {}),
                **rotated_header(options),
            },
            num_pictures=max(options.pictures, options.page),
        )
        self.task, self.run, self.options, self.dataset = task, run, options, dataset
        self._check_unseen()
        self.categories = tuple(dict.fromkeys(run.labels.categories)) or (dataset.category,)
        scale = scale_of([dataset[i].pos for i in range(len(dataset))])
        check_suited("thresholds", options.thresholds, scale)
        correct = options.correct_threshold
        if correct is not None:
            check_suited("correct_threshold", [correct], scale, [0.01])
        elif suits([0.01], scale._replace(spacing=0.0)):
            correct = 0.01
        else:
            (correct,) = suited([0.01], scale)
        self.correct_threshold = correct
        self.radius = cloud_radius(options.read_out, options.radius, scale, default=correct)
        self.header["radius"] = self.radius
        if options.ball_radii:
            check_suited("ball_radii", options.ball_radii, scale, [KEYPOINTNET_RADIUS])
        self.metrics = KeypointMetrics(
            thresholds=options.thresholds,
            correct_threshold=correct,
            categories=self.categories,
            keypoint_names={category: list(run.labels.names) for category in self.categories},
        )
        self.beliefs: list[dict[str, Any]] = []
        self.template, self.floors = self._floors()
        # What annotators agree on is a matter of the whole clouds, which they saw.
        self.mirrored = category_mirror_pairs(task.annotated(on_whole_clouds(run), "all", options.root))

    def _check_unseen(self) -> None:
        """Refuse clouds that another network of the mean was trained on, or tell of them if they are allowed."""

        def sources(run: Run[Any, Any]) -> list[Any]:
            return [getattr(run.config.data, f.name) for f in fields(CloudsConfig)]

        for member in self.run.members[1:]:
            if sources(member) == sources(self.run):
                continue
            try:
                trained = self.task.annotated(member, "train").model_ids
            except (ValueError, OSError) as error:
                log.warning("whether `%s` was trained on the clouds to score cannot be told: %s", member.path, error)
                continue
            shared = len(set(trained) & set(self.dataset.model_ids))
            text = f"`{member.path}` was trained on {shared} of the {len(self.dataset)} clouds to score"
            if shared and self.options.fit_temperature:
                raise ValueError(f"`fit_temperature` (=True) must not be set with this `ensemble`: {text}")
            if shared and not self.options.allow_seen:
                raise ValueError(
                    f"`ensemble` must not have a network that knows the clouds: {text}, see `--allow-seen`"
                )
            if shared:
                log.warning("%s: the scores are those of clouds that are known", text)

    def _floors(self) -> tuple[Tensor | None, ShapeFloors | None]:
        """What the training's own clouds say: without a look at a cloud, and moved onto it if that is asked for.

        None where they are gone.
        """
        options = self.options
        if options.floors and len(self.categories) > 1:
            raise ValueError(f"`floors` (=True) must come with `category`, one of {', '.join(self.categories)}")
        try:
            train = self.task.annotated(self.run, "train")
        except (ValueError, OSError) as error:
            if options.floors:
                raise
            log.warning("no floor, for the training clouds cannot be read: %s", error)
            return None, None
        template = training_template(train, self.task.frame)
        if not options.floors:
            return template, None
        return template, ShapeFloors(train, scaled=not options.floors_rigid, mirrored=options.floors_mirrored)

    def find(self, batch: Batch) -> dict[str, Any]:
        clouds = batch.to_data_list()
        read_out = self.options.read_out
        turns = cloud_turns(self.options, [cloud.model_id for cloud in clouds], cast(Up, self.dataset.up))
        located = locate_turned(
            lambda given: self.task.locate(self.run, given, read_out, self.radius),
            [cloud.pos for cloud in clouds],
            turns,
        )
        maps = read_maps(
            clouds,
            located.logits,
            self.task.frame,
            (read_out, located.position),
            radius=self.correct_threshold,
            compared=(*self.options.compared, *map(ball_named, self.options.ball_radii)),
            temperature=self.run.calibration.temperature,
            template=self.template,
            bases=bases_of(self.run.config),
        )
        if self.floors is not None:
            placed = [
                self.floors.place(cloud.pos, None if turns is None else turns[i]) for i, cloud in enumerate(clouds)
            ]
            maps.position.update({name: torch.stack([p[name] for p in placed]) for name in placed[0]})
        logits = [x[:, c.visible[0]] for x, c in zip(located.logits, clouds, strict=True)]
        together = torch.stack(list(maps.position.values()), 1)
        asked = list(maps.position).index(read_out)
        symmetric, geodesic, geodesic_symmetric, places, scored = [], [], [], [], []
        for i, cloud in enumerate(clouds):
            groups = rotation_groups(cloud.rotation[0], cloud.is_circle[0])
            category = cloud.category if "category" in cloud else self.dataset.category
            candidates, index = rotated_labelings(
                cloud.pos, cloud.keypoints[0], cloud.visible[0], groups, category=category
            )
            places.append(self.categories.index(category))
            index[0] = cloud.keypoint_index[0]
            position, visible = located.position[i], cloud.visible[0]
            choice = symmetric_error(position, candidates, visible, logits=located.logits[i], index=index).choice
            symmetric.append(candidates[choice])
            paths = geodesic_distances(cloud.pos, index[0][visible]) if self.options.geodesic else None
            scored.append(score_read_outs(together[i], cloud, paths))
            if self.options.geodesic:
                # The paths from the annotated points are those of all read-outs.
                error = own = scored[-1].geodesic[asked]  # type: ignore[index]  # measured above
                if choice:
                    error = geodesic_error(position, cloud.pos, index[choice], visible)
                geodesic.append(own)
                geodesic_symmetric.append(error)
            if len(self.pictures) < self.num_pictures:
                self.pictures.append(
                    self.task.scene(self.run, cloud.pos, located, i, read_out, title=cloud.model_id, annotated=cloud)
                )
        kinds = [kind for kind in Scored._fields if getattr(scored[0], kind) is not None]
        record = {
            "metrics": {
                "predicted": located.position,
                "target": batch.keypoints,
                "visible": batch.visible,
                "category": torch.tensor(places),
                "symmetric_target": torch.stack(symmetric),
                "geodesic": torch.stack(geodesic) if geodesic else None,
                "geodesic_symmetric": torch.stack(geodesic_symmetric) if geodesic else None,
                "confidence": located.confidence.clamp(0, 1),
                "presence_logits": located.outputs["presence"],
            },
            "visible": batch.visible,
            "distances": {
                name: {kind: torch.stack([getattr(s, kind)[r] for s in scored]) for kind in kinds}
                for r, name in enumerate(maps.position)
            },
            "mass": maps.mass,
            "confidence": maps.confidence,
            "alone": torch.stack([alone(cloud) for cloud in clouds]),
            "diagonal": diagonals(clouds),
            "confusion": confused_keypoints(
                located.position, batch.keypoints, batch.visible, batch.reflection
            )._asdict(),
            **rater_records(clouds),
        }
        if "marks" in clouds[0]:
            held = [
                hold(cloud, scores, position, self.task.frame, bases_of(self.run.config))
                for cloud, scores, position in zip(clouds, located.logits, located.position, strict=True)
            ]
            record["marks"] = Held(*map(torch.cat, zip(*held, strict=True)))._asdict()
        if self.run.calibration.split is not None:
            record["as_trained"] = self._masses(clouds, logits, maps.position, [1.0] * len(clouds))
        if self.options.fit_temperature or self.options.cross_fit:
            # Those of annotated keypoints alone count.
            record["logits"] = logits
            record["index"] = [cloud.keypoint_index[0][cloud.visible[0]] for cloud in clouds]
            record["pos"] = [cloud.pos for cloud in clouds]
            record["position"] = maps.position
        return record

    def _masses(
        self,
        clouds: Sequence[Data],
        logits: Sequence[Tensor],
        position: Mapping[str, Tensor],
        temperatures: Sequence[float],
    ) -> dict[str, Tensor]:
        """Probability within the threshold of every read-out, ``[n, K]``, with a temperature for each cloud."""
        found = []
        for i, (cloud, scores, temperature) in enumerate(zip(clouds, logits, temperatures, strict=True)):
            places = {name: at[i] for name, at in position.items() if name not in FLOORS}
            how: dict[str, Any] = {"radius": self.correct_threshold, "temperature": temperature}
            found.append(ball_masses(cloud, scores, places, self.task.frame, **how))
        return {name: torch.stack([masses[name] for masses in found]) for name in found[0]}

    def take(self, record: dict[str, Any]) -> None:
        self.metrics.update(**record["metrics"])
        self.beliefs.append({name: value for name, value in record.items() if name != "metrics"})

    def scores(self) -> dict[str, Any]:
        return {**self.metrics.compute(), **self._belief(), **self._marks()}

    def _marks(self) -> dict[str, Any]:
        if "marks" not in self.beliefs[0]:
            return {}
        held = Held(*(torch.cat([record["marks"][name] for record in self.beliefs]) for name in Held._fields))
        ids, known = self.dataset.model_ids, self.dataset.groups
        whole = len(ids) == len(held.marked)
        # Where some clouds could not be read, which are left is not known here.
        alone = [f"={i}" for i in range(len(held.marked))]
        groups = [known.get(name, f"={name}") for name in ids] if whole else alone
        scores = mark_scores(held, self.run.labels.names, groups, deal(groups))
        if scores is None:
            return {}
        return {"marks": {**scores, "per_shape": written(held, ids, groups) if whole else {}}}

    def _belief(self) -> dict[str, Any]:
        def all_of(*path: str) -> Tensor:
            parts: list[Any] = [functools.reduce(operator.getitem, path, record) for record in self.beliefs]
            return torch.cat(parts)

        def listed(name: str) -> list[Tensor]:
            return [value for record in self.beliefs for value in record[name]]

        first, thresholds, visible = self.beliefs[0], self.options.thresholds, all_of("visible")
        calibration = self.run.calibration
        masses = {name: {"mass": all_of("mass", name)} for name in first["mass"]}
        for name in first.get("as_trained", ()):
            masses[name]["as_trained"] = all_of("as_trained", name)
        fitted: dict[str, Any] = {}
        if self.options.fit_temperature or self.options.cross_fit:
            logits, index = listed("logits"), listed("index")
            found = cross_fit(logits, index)
            on = self.header.get("fold", self.split)
            if self.options.fit_temperature:
                self.fitted = Calibration(found.temperature, on)
            stored = {"stored": self.options.fit_temperature}
            fitted = {"temperature": found.temperature, "on": on, "cross_fitted": found.of_others, **stored}
            if found.of_others:
                clouds = [Data(pos=p, visible=v[None]) for p, v in zip(listed("pos"), visible, strict=True)]
                position = {name: all_of("position", name) for name in first["position"]}
                for name, mass in self._masses(clouds, logits, position, found.of_others).items():
                    masses[name]["cross_fitted"] = mass
        distances = {
            name: {kind: all_of("distances", name, kind) for kind in kinds}
            for name, kinds in first["distances"].items()
        }
        return {
            "read_outs": {
                name: read_out_scores(
                    kinds,
                    masses.get(name, {}),
                    visible,
                    thresholds,
                    self.correct_threshold,
                )
                for name, kinds in distances.items()
            },
            "confidence": {
                "threshold": self.correct_threshold,
                "temperature": calibration.temperature,
                "fitted_on": calibration.split,
                **({"fitted": fitted} if fitted else {}),
                "candidates": confidence_scores(
                    {name: all_of("confidence", name) for name in first["confidence"]},
                    distances[self.options.read_out]["euclidean"],
                    visible,
                    self.correct_threshold,
                ),
            },
            "per_shape": shape_distances(
                self.dataset.model_ids,
                visible,
                {
                    r: {**d, **{name: x for name, x in masses.get(r, {}).items() if name in _BY_SHAPE}}
                    for r, d in distances.items()
                },
                all_of("diagonal"),
            ),
            "labels": label_scores(self.mirrored, all_of("alone"), visible, thresholds),
            **self._held_against(distances, visible, all_of),
        }

    def _held_against(
        self, distances: Mapping[str, Mapping[str, Tensor]], visible: Tensor, all_of: Callable[..., Tensor]
    ) -> dict[str, Any]:
        """The other keypoints, floors that look at the shape, and the people who marked it."""
        diagonal, names = all_of("diagonal"), self.run.labels.names
        confusion = Confusion(*(all_of("confusion", name) for name in Confusion._fields))
        found: dict[str, Any] = {"confusion": confusion_scores(confusion, names)}
        if self.floors is not None:
            asked = self.options.read_out
            found["floors"] = floor_scores(distances, visible, diagonal, names, asked, self.floors.about)
        if "rater_distance" in self.beliefs[0]:
            found["raters"] = rater_scores(all_of("rater_distance"), all_of("rater_counted"), diagonal, names)
        return found


def detection_table(metrics: Mapping[str, Any]) -> str:
    """What ``pcsa evaluate`` prints of a detector."""
    overall, thresholds = metrics["overall"], metrics["thresholds"]
    shown = shown_thresholds(thresholds)
    missing = f" ({metrics['num_missing']} clouds missing)" if metrics["num_missing"] else ""
    rows = []
    for key, name in (
        ("euclidean", "Euclidean"),
        ("euclidean_symmetric", "Euclidean, rotational symmetry"),
        ("geodesic", "geodesic"),
        ("geodesic_symmetric", "geodesic, rotational symmetry"),
    ):
        if key in overall:
            row = overall[key]
            error = row["mean_error"]
            curve = [number(100 * row["pck"][i], 1) for i in shown]
            rows.append([name, *curve, "unreachable" if error is None else number(error, 4)])
    heads = ["distance (units of the dataset)", *(f"PCK@{thresholds[i]:g}" for i in shown), "mean error"]
    calibration = overall["calibration"]
    confidence = "the confidence" if metrics.get("radius") else "peak probability"
    return "\n".join(
        [
            f"{metrics['category']}, {metrics.get('fold', metrics['split'])}: {metrics['num_items']} clouds, "
            f"{overall['num_keypoints']} annotated keypoints{missing}; read-out: {metrics['read_out']}"
            + (f", radius {metrics['radius']:g}" if metrics.get("radius") else "")
            + (f"; thinned clouds: {metrics['thinned']}" if metrics.get("thinned") else "")
            + (f"; clouds turned: {metrics['rotated']}" if metrics.get("rotated") else ""),
            "",
            markdown_table(heads, rows),
            *category_table(metrics, shown),
            "",
            f"presence, average precision: {number(overall['presence_average_precision'], 3)}",
            *confusion_lines(metrics),
            f"Pearson r of {confidence} with error < {calibration['threshold']:g}: {number(calibration['pearson'], 3)}",
            "",
            format_belief(metrics),
            *floor_table(metrics),
            *(["", format_marks(metrics["marks"])] if "marks" in metrics else []),
        ]
    )
