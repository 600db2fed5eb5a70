"""``pcsa evaluate``: PCK, mean error, presence and calibration on clouds not trained on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from torch import Tensor
from torch_geometric.data import Batch, Data
from torch_geometric.loader import DataLoader

import pcsa
from pcsa.datasets.keypointnet import KeypointNet, rotated_labelings, rotation_groups
from pcsa.datasets.transforms import Normalize, denormalize
from pcsa.localization import ReadOut
from pcsa.metrics import THRESHOLDS, KeypointMetrics, symmetric_error
from pcsa.metrics.geodesic import geodesic_error
from pcsa.models.detector import KeypointDetector
from pcsa.scripts.evaluate_unsupervised import evaluate_category, format_unsupervised_table
from pcsa.skeleton import segment_pairs
from pcsa.training import DataConfig, load_about, load_detector, open_dataset, task_of, write_json
from pcsa.unsupervised import SKELETON_KIND, load_skeleton_merger
from pcsa.viz import Scene, keypoint_scene, save_html, save_panels

COMPARED = ("mesh", "cloud", "keypoints", "annotated", "errors", "skeleton")
"""What pictures of predictions show; a page can show the rest too."""


@dataclass(frozen=True)
class EvaluateConfig:
    """Score a detector on clouds it was not trained on, in the dataset's own units.

    A checkpoint of pose2d, pose3d, oct or landmarks has other options: pcsa evaluate CHECKPOINT --help.
    """

    checkpoint: Annotated[Path, tyro.conf.Positional]
    """Written by `pcsa train`."""
    split: Literal["val", "test"] = "val"
    """Never the clouds trained on."""
    root: Path | None = None
    """Another root of the same category; default that of the training."""
    read_out: ReadOut = "expectation"
    """See pcsa.localize."""
    thresholds: tuple[float, ...] = THRESHOLDS
    """Of the PCK, in the dataset's own units; the default is for shapes of size 1."""
    correct_threshold: float = 0.01
    """Below it a keypoint counts as right, for the calibration."""
    geodesic: bool = True
    """Also measure distances along the surface, as KeypointNet's benchmark does."""
    pictures: int = 0
    """Draw this many clouds, predictions beside annotations, into predictions-<split>.png beside the metrics."""
    page: int = 0
    """Put this many clouds on a page to turn and look into, predictions-<split>.html beside the metrics."""
    batch_size: int = 8
    device: str = "auto"
    """cpu, cuda, or auto."""
    out: Path | None = None
    """Metrics file; default metrics-<split>.json beside the checkpoint."""


def main(argv: list[str]) -> int:
    """Parse options, evaluate, print the table."""
    if names_grid_checkpoint(argv):
        # Imported here: it needs libraries of its own, and pick_device of this module.
        from pcsa.scripts.evaluate_grid import main as evaluate_grid

        return evaluate_grid(argv)
    config = tyro.cli(EvaluateConfig, args=argv, prog="pcsa evaluate")
    result = evaluate(config)
    print(format_unsupervised_table(result) if "held_out" in result else format_table(result))
    print("\nwritten: " + ", ".join(result[key] for key in ("file", "picture", "page") if key in result))
    return 0


def names_grid_checkpoint(argv: list[str]) -> bool:
    """Whether the command is for a checkpoint of a grid task, which has options of its own."""
    if argv and not argv[0].startswith("-") and not Path(argv[0]).exists():
        raise FileNotFoundError(f"`{argv[0]}` is no checkpoint: there is no such file")
    for arg in argv:
        if Path(arg).is_file():
            try:
                return task_of(load_about(Path(arg))["kind"]) is not None
            except ValueError:  # not a checkpoint, but what is to be predicted, or an option's
                continue
    return False


def evaluate(config: EvaluateConfig) -> dict[str, Any]:
    """Everything that is printed and written, as JSON types."""
    if config.batch_size < 1:
        raise ValueError(f"`batch-size` (={config.batch_size}) must be at least 1")
    if config.pictures < 0:
        raise ValueError(f"`pictures` (={config.pictures}) must be at least 0")
    if config.page < 0:
        raise ValueError(f"`page` (={config.page}) must be at least 0")
    device = pick_device(config.device)
    if load_about(config.checkpoint)["kind"] == SKELETON_KIND:
        return _evaluate_merger(config, device)
    detector, about = load_detector(config.checkpoint, device)
    data = dict(about["config"]["data"])
    root = config.root or (Path(data["root"]) if data["root"] else None)
    data_config = DataConfig(
        root=root, category=about["category"], num_shapes=data["num_shapes"], strict=data["strict"]
    )
    dataset = open_dataset(data_config, config.split, tuple(about["semantic_ids"]))
    metrics = KeypointMetrics(
        thresholds=config.thresholds,
        correct_threshold=config.correct_threshold,
        categories=(dataset.category,),
        keypoint_names={dataset.category: [str(n) for n in dataset.names]},
    )
    scenes: list[Scene] = []
    with torch.inference_mode():
        for batch in DataLoader(dataset, batch_size=config.batch_size):
            logits = _update(metrics, detector, batch, dataset, config, device)
            for i, cloud in enumerate(batch.to_data_list()):
                if len(scenes) < max(config.pictures, config.page):
                    rows = slice(int(batch.ptr[i]), int(batch.ptr[i + 1]))
                    scenes.append(labelled_scene(cloud, logits[rows], dataset, config.read_out))
    result = {
        "checkpoint": str(config.checkpoint),
        "category": dataset.category,
        "split": config.split,
        "read_out": config.read_out,
        "num_clouds": len(dataset),
        "num_clouds_missing": len(dataset.missing),
        "units": "the dataset's own",
        **metrics.compute(),
    }
    return _write(config, result, scenes, dataset.category)


def _evaluate_merger(config: EvaluateConfig, device: torch.device) -> dict[str, Any]:
    """Keypoints found without labels: scores and floors, over the whole category and on the split alone."""
    merger, about = load_skeleton_merger(config.checkpoint, device)
    data = about["config"]["data"]
    root = config.root or (Path(data["root"]) if data["root"] else None)
    name = about["category"]
    if root is not None and not (root / "annotations" / f"{name}.json").is_file():
        raise FileNotFoundError(
            f"`{root / 'annotations' / name}.json` is missing: without annotations there is nothing to score against; "
            "`root` may name other clouds of the category"
        )
    data_config = DataConfig(root=root, category=name, num_shapes=data["num_shapes"])
    category = open_dataset(data_config, "all")
    held_out = open_dataset(data_config, config.split)
    shown = set(held_out.model_ids[: max(config.pictures, config.page)])
    normalize = Normalize("min_max")
    predicted: list[Tensor] = []
    scenes: list[Scene] = []
    segments = segment_pairs(merger.num_keypoints).t()
    with torch.inference_mode():
        for batch in DataLoader(category, batch_size=config.batch_size):
            clouds = batch.to_data_list()
            normal = Batch.from_data_list([normalize(Data(pos=cloud.pos)) for cloud in clouds]).to(device)
            out = merger(None, normal.pos, ptr=normal.ptr)
            bandwidth = pcsa.knn_bandwidth(normal.pos, ptr=normal.ptr)
            found = pcsa.localize(out["logits"], normal.pos, bandwidth, ptr=normal.ptr, read_out=config.read_out)
            predicted += list(denormalize(found.position, normal.offset, normal.scale).cpu())
            for i, cloud in enumerate(clouds):
                if cloud.model_id in shown:
                    logits = out["logits"][normal.ptr[i] : normal.ptr[i + 1]]
                    known = {"segments": segments, "activation": out["activation"][i], "names": about["names"]}
                    scenes.append(
                        keypoint_scene(cloud.pos, logits, title=cloud.model_id, read_out=config.read_out, **known)
                    )
    scores = evaluate_category(
        predicted, category, open_dataset(data_config, "train"), held_out, geodesic=config.geodesic
    )
    result = {"checkpoint": str(config.checkpoint), "split": config.split, "read_out": config.read_out, **scores}
    return _write(config, result, scenes, name)


def _write(config: EvaluateConfig, result: dict[str, Any], scenes: list[Scene], category: str) -> dict[str, Any]:
    """Write metrics, picture and page, and say where they are."""
    file = config.out or config.checkpoint.parent / f"metrics-{config.split}.json"
    result["file"] = str(file)
    write_json(file, result)
    if config.pictures > 0:
        picture = file.with_name(f"predictions-{config.split}.png")
        save_panels(picture, scenes[: config.pictures], layers=COMPARED)
        result["picture"] = str(picture)
    if config.page > 0:
        page = file.with_name(f"predictions-{config.split}.html")
        save_html(page, scenes[: config.page], title=f"{category}, {config.split}", layers=COMPARED)
        result["page"] = str(page)
    return result


def labelled_scene(cloud: Data, logits: Tensor, dataset: KeypointNet, read_out: ReadOut, **options: Any) -> Scene:
    """Predictions beside annotations, of the keypoints that the cloud has."""
    return keypoint_scene(
        cloud.pos,
        logits,
        title=cloud.model_id,
        names=[str(n) for n in dataset.names],
        ids=dataset.semantic_ids,
        annotated=cloud.keypoints[0],
        visible=cloud.visible[0],
        present=cloud.visible[0],
        read_out=read_out,
        **options,
    )


def _update(
    metrics: KeypointMetrics,
    detector: KeypointDetector,
    batch: Batch,
    dataset: KeypointNet,
    config: EvaluateConfig,
    device: torch.device,
) -> Tensor:
    normalize = Normalize("unit_sphere")
    normal = Batch.from_data_list([normalize(cloud) for cloud in batch.to_data_list()]).to(device)
    predicted = detector(None, normal.pos, ptr=normal.ptr)
    bandwidth = pcsa.knn_bandwidth(normal.pos, ptr=normal.ptr)
    found = pcsa.localize(predicted["logits"], normal.pos, bandwidth, ptr=normal.ptr, read_out=config.read_out)
    position = denormalize(found.position, normal.offset, normal.scale).cpu()
    logits = predicted["logits"].float().cpu()

    symmetric, geodesic, geodesic_symmetric = [], [], []
    for i, cloud in enumerate(batch.to_data_list()):
        groups = rotation_groups(cloud.rotation[0], cloud.is_circle[0])
        candidates, index = rotated_labelings(
            cloud.pos, cloud.keypoints[0], cloud.visible[0], groups, category=dataset.category
        )
        index[0] = cloud.keypoint_index[0]
        scores = logits[batch.ptr[i] : batch.ptr[i + 1]]
        choice = symmetric_error(position[i], candidates, cloud.visible[0], logits=scores, index=index).choice
        symmetric.append(candidates[choice])
        if config.geodesic:
            distances = [
                geodesic_error(position[i], cloud.pos, target, cloud.visible[0]) for target in (index[0], index[choice])
            ]
            geodesic.append(distances[0])
            geodesic_symmetric.append(distances[1])
    metrics.update(
        position,
        batch.keypoints,
        batch.visible,
        symmetric_target=torch.stack(symmetric),
        geodesic=torch.stack(geodesic) if geodesic else None,
        geodesic_symmetric=torch.stack(geodesic_symmetric) if geodesic else None,
        confidence=found.peak.clamp(0, 1).cpu(),
        presence_logits=predicted["presence"].float().cpu(),
    )
    return logits


def pick_device(name: str) -> torch.device:
    """A device from an option; ``auto`` takes CUDA where there is one."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"`device` (={name!r}) cannot be used: {str(error).splitlines()[0]}") from None
    return device


def format_table(result: dict[str, Any]) -> str:
    """The table that ``pcsa evaluate`` prints."""
    overall, thresholds = result["overall"], result["thresholds"]
    shown = [i for i, t in enumerate(thresholds) if t in (0.01, 0.02, 0.05, 0.1)]
    if len(shown) < 4:  # not the default ones
        shown = sorted({round(i * (len(thresholds) - 1) / 3) for i in range(4)})
    lines = [
        f"{result['category']}, {result['split']}: {result['num_clouds']} clouds, "
        f"{overall['num_keypoints']} annotated keypoints"
        + (f" ({result['num_clouds_missing']} clouds missing)" if result["num_clouds_missing"] else "")
        + f"; read-out: {result['read_out']}",
        "",
        f"{'distance (units of the dataset)':34}" + "".join(f"PCK@{thresholds[i]:<6g}" for i in shown) + "mean error",
    ]
    for key, name in (
        ("euclidean", "Euclidean"),
        ("euclidean_symmetric", "Euclidean, rotational symmetry"),
        ("geodesic", "geodesic"),
        ("geodesic_symmetric", "geodesic, rotational symmetry"),
    ):
        if key in overall:
            row, error = overall[key], overall[key]["mean_error"]
            lines.append(
                f"{name:34}"
                + "".join(f"{100 * row['pck'][i]:<10.1f}" for i in shown)
                + ("unreachable" if error is None else f"{error:.4f}")
            )
    pearson, presence = overall["calibration"]["pearson"], overall["presence_average_precision"]
    lines += [
        "",
        f"presence, average precision:                       {_number(presence)}",
        f"Pearson r of peak probability with error < {overall['calibration']['threshold']:g}:  {_number(pearson)}",
    ]
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
