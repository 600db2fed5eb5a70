"""Every reader of files as a target of the fuzzing: the file that varies, those around it, and what reads them."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path

import fuzz_outputs as outputs
import fuzz_seeds as seeds
import numpy as np


def _nothing(folder: Path) -> None: ...


@dataclass(frozen=True)
class Target:
    """A reader: files like ``seeds`` are written to ``file``, and read."""

    file: str
    seeds: Callable[[], list[bytes]]
    read: Callable[[Path], object]
    """What reads it, given the folder."""
    around: Callable[[Path], None] = _nothing
    """Writes what else the folder holds."""
    inside: str = ""
    """How the content is packed, if it is: changes of what is packed get further than changes of the packing."""
    weight: float = 1.0
    """Share of the inputs, by how quick it is."""
    readable: bool = True
    """Whether the seeds are read; those of a network that nobody trusts are refused as they are."""


def _cloud(folder: Path) -> None:
    from pcsa.datasets.points import read_cloud

    (file,) = folder.iterdir()
    read_cloud(file, num_points=16, drop_invalid=True)


def _checked_cloud(folder: Path) -> None:
    from pcsa.datasets.points import check_cloud

    (file,) = folder.iterdir()
    check_cloud(file)
    _cloud(folder)


def _hdf5_batches(folder: Path) -> None:
    from pcsa.datasets.check import check_data
    from pcsa.datasets.shapenet import ShapeNetPoints

    check_data(folder, "hdf5")
    ShapeNetPoints(folder, None, "train")[0]


def _matlab(folder: Path) -> None:
    from pcsa.datasets.matlab import read_matlab

    read_matlab(folder / "a.mat", ["joints", "cells"])


def _keypointnet(folder: Path) -> None:
    from pcsa.datasets.pcd import write_pcd

    for name in "abc":
        (folder / "pcds" / "02818832").mkdir(parents=True, exist_ok=True)
        write_pcd(folder / "pcds" / "02818832" / f"{name}.pcd", seeds.POINTS, binary=True)
    for name in ("annotations", "splits"):
        (folder / name).mkdir()
    (folder / "annotations" / "bed.json").write_bytes(seeds.annotations()[0])
    for split in ("train", "val", "test"):
        (folder / "splits" / f"{split}.txt").write_bytes(seeds.splits()[0])


def _annotated(folder: Path) -> None:
    from pcsa.datasets.keypointnet import KeypointNet, check_root

    check_root(folder)
    cache = folder / "cache"
    try:
        dataset = KeypointNet(folder, "bed", "train", cache_dir=cache)
        for i in range(len(dataset)):
            dataset[i], dataset.symmetry(i)
    finally:
        shutil.rmtree(cache, ignore_errors=True)


def _split(folder: Path) -> None:
    from pcsa.datasets.keypointnet import KeypointNet, check_root

    check_root(folder)
    KeypointNet(folder, "bed", "train", cache_dir=folder / "cache")


def _misaligned(folder: Path) -> None:
    from pcsa.datasets.keypointnet.layout import misaligned_models

    misaligned_models(folder, "03624134")


def _listed(folder: Path) -> None:
    from pcsa.datasets.hdf5_splits import hdf5_files
    from pcsa.datasets.shapenet import check_hdf5

    check_hdf5(folder)
    hdf5_files(folder, "train")


def _batches(folder: Path) -> None:
    for name in ("train0.h5", "train1.h5"):
        (folder / name).write_bytes(seeds.batches_hdf5()[0])


def _picture(folder: Path, name: str = "7.png") -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(seeds.pictures()[0])


def _coco(folder: Path) -> None:
    _picture(folder)
    (folder / "truth.json").write_bytes(seeds.coco()[0])


def _persons(folder: Path) -> None:
    from pcsa.datasets.coco import CocoKeypoints, check_coco

    check_coco(folder / "truth.json", folder)
    dataset = CocoKeypoints(folder / "truth.json", folder)
    for i in range(min(3, len(dataset))):
        dataset.source(i), dataset.files(i)
    dataset.coco, dataset.coco_annotations()


def _detected(folder: Path) -> None:
    from pcsa.datasets.coco import CocoKeypoints, check_coco

    check_coco(folder / "truth.json", folder, folder / "boxes.json")
    dataset = CocoKeypoints(folder / "truth.json", folder, detections=folder / "boxes.json")
    for i in range(min(3, len(dataset))):
        dataset.source(i)


def _averaged(folder: Path) -> None:
    from pcsa.metrics.coco_file import file_faults, indexed, read_json, scored

    content = read_json(folder / "truth.json")
    if not list(file_faults(content, 17)):
        indexed(scored(content, 17))


def _lsp_pictures(folder: Path) -> None:
    for i in range(3):
        _picture(folder, f"images/im{i + 1}.png")


def _lsp(folder: Path) -> None:
    from pcsa.datasets.lsp import Lsp, check_lsp

    check_lsp(folder)
    dataset = Lsp(folder, "train")
    for i in range(len(dataset)):
        dataset.source(i)


def _mtfl(folder: Path) -> None:
    from pcsa.datasets.mtfl import Mtfl, check_mtfl

    check_mtfl(folder)
    dataset = Mtfl(folder, "train", num_test=1)
    dataset.source(0)


def _scans(folder: Path) -> None:
    from pcsa.datasets.oct import OctScans, check_oct
    from pcsa.datasets.scans import read_scan_file

    check_oct(folder)
    dataset = OctScans(folder, "train", input_size=(16, 8))
    for i in range(min(3, len(dataset))):
        dataset[i]
    read_scan_file(folder / "a.npz")


def _volume_around(folder: Path) -> None:
    for name in ("vol", "delineation"):
        (folder / name).mkdir()
    (folder / "vol" / "hc09_a.vol").write_bytes(seeds.volumes()[0])
    (folder / "delineation" / "hc09_a.mat").write_bytes(seeds.delineations()[0])


def _volume(folder: Path) -> None:
    from pcsa.datasets.oct import Mshc, check_oct

    check_oct(folder)
    dataset = Mshc(folder, "train", input_size=(8, 8))
    for i in range(min(3, len(dataset))):
        dataset[i]


def _image(folder: Path) -> None:
    from pcsa.datasets.images import check_readable, labeled_size, picture_header, read_image

    file = folder / "a.png"
    for read in (picture_header, labeled_size, check_readable, read_image):
        read(file)


def _grid(folder: Path) -> None:
    from pcsa.datasets.arrays import read_volume
    from pcsa.datasets.scans import read_scan_file

    (file,) = folder.iterdir()
    try:
        read_volume(file)
    except ValueError:
        read_scan_file(file)


def _body(folder: Path) -> None:
    _picture(folder, "S1/S1_Walk.54138969/S1_Walk.54138969_000001.png")
    (folder / "frames.npz").write_bytes(seeds.frames()[0])
    (folder / "cameras.json").write_bytes(seeds.cameras()[0])


def _frames(folder: Path) -> None:
    from pcsa.datasets.human36m import Human36M, check_human36m

    check_human36m(folder)
    dataset = Human36M(folder, "train")
    for i in range(len(dataset)):
        dataset.source(i)


def _study(folder: Path) -> None:
    from pcsa.scripts.reproduce.study import open_study

    study = open_study(str(folder / "a.toml"))
    for method in study.methods:
        study.arguments(method)


def _configuration(folder: Path) -> None:
    from pcsa.tasks import get_task
    from pcsa.tasks.common.config_file import read_configuration

    (file,) = folder.iterdir()
    read_configuration(file, "landmarks", get_task("landmarks").presets["quick"])


def _run_of(folder: Path) -> None:
    from pcsa.datasets.faults import reading
    from pcsa.scripts.report import _details, _row, read_run

    run = read_run(folder, "a", "val")
    with reading(folder, "a run"):
        _row(run), _details(run)


def _reported(folder: Path) -> None:
    from pcsa.scripts.report import ReportConfig, report

    out = folder / "out"
    try:
        report(ReportConfig((folder,), out))
    finally:
        import matplotlib.pyplot as plt

        plt.close("all")
        shutil.rmtree(out, ignore_errors=True)


def _log(folder: Path) -> None:
    from pcsa.scripts.report import read_log

    read_log(folder / "log")


def _results(folder: Path) -> None:
    from pcsa.scripts.reproduce.results import Results

    Results(folder)


def _rows_around(folder: Path) -> None:
    (folder / "results.jsonl").write_bytes(outputs.rows()[0])
    (folder / "shapes").mkdir()
    (folder / "shapes" / "bed.jsonl").write_bytes(outputs.shapes()[0])


def _journal(folder: Path) -> None:
    from pcsa.scripts.journal import Journal

    name = "out.npz" if (folder / "out.npz").exists() else "out.json"
    journal = Journal(folder / name, outputs.MADE_WITH)
    try:
        copies = {name: entry.items for name, entry in journal.entries.items()}
        json.dumps(copies)
    finally:
        journal.close()


class _Items(list[int]): ...


class _Evaluation:
    items = _Items([0, 1])

    def stamp(self, index: int) -> None: ...


def _records(folder: Path) -> None:
    from pcsa.scripts.records import Records

    found = Records(folder / "out.json", outputs.MADE_WITH, _Evaluation(), 2)
    try:
        for batch in found.batches:
            found.known(batch)
    finally:
        found.close()


def _boxes(folder: Path) -> None:
    from pcsa.tasks.common.map_inputs import read_boxes

    read_boxes(folder / "boxes.json")


def _labeled(folder: Path) -> None:
    from pcsa.datasets.custom import check_labeled

    try:
        items = json.loads((folder / "items.json").read_bytes())
    except (ValueError, RecursionError):
        return
    try:
        check_labeled(items)
    except ValueError as error:
        raise ValueError(f"`{folder}`: {error}") from error


def _landmarks(folder: Path) -> None:
    from pcsa.datasets.landmark_files import read_landmarks, write_landmarks

    (file,) = folder.iterdir()
    lists = read_landmarks(file)
    # What is read can be written, and is read again as it was.
    copy = folder / "copy.mrk.json"
    write_landmarks(copy, lists)
    try:
        again = read_landmarks(copy)
    finally:
        copy.unlink()
    for one, other in zip(lists, again, strict=True):
        whole = [name.strip() for name in one.names] == list(other.names)
        if not whole or not (one.points[one.there] == other.points[other.there]).all():
            raise UndocumentedError(f"{one} became {other}")


def _run(folder: Path) -> None:
    from pcsa.tasks import open_run

    open_run(folder / "last.ckpt")


def _outside(folder: Path) -> None:
    """Read a checkpoint as what a training begins with, or goes on from."""
    from pcsa.tasks.common.checkpoint import check_resumable, read_checkpoint, started_from
    from pcsa.tasks.landmarks import LandmarkModelConfig, LandmarksConfig, LandmarksData

    file = folder / "last.ckpt"
    read_checkpoint(file), started_from(file)
    config = LandmarksConfig(data=LandmarksData(input_size=(16, 16)), model=LandmarkModelConfig(channels=(2, 2)))
    check_resumable(config, file, "landmarks")


def _shared(folder: Path) -> None:
    """Open a shared model whose checksum is right, or what is left of one."""
    from pcsa.tasks import open_run
    from pcsa.tasks.common.shared import DESCRIPTION, WEIGHTS, _write_description

    try:
        described = json.loads((folder / DESCRIPTION).read_bytes())
        described.pop("checksum", None)
        _write_description(folder, described, (folder / WEIGHTS).read_bytes())
    except (ValueError, TypeError, AttributeError, RecursionError):
        pass  # no JSON, or no object: then the checksum is another
    open_run(folder)


def _weights(folder: Path) -> None:
    from pcsa.models.simple_pose import _read_state

    _read_state(folder / "a.pth")


def _kept(folder: Path) -> None:
    from pcsa.datasets.cache import kept

    kept(folder, "a", lambda: {"x": np.zeros(2)})


def _any(folder: Path) -> None:
    from pcsa.datasets.check import check_data

    check_data(folder, columns=None)


def _clicked(folder: Path) -> None:
    from pcsa.datasets.labeling.book import Book

    Book(folder, "a")


def _clicked_names(folder: Path) -> None:
    (folder / "labels" / "a").mkdir(parents=True)
    _put(folder, "labels/a/names.json", outputs.clicked_names)


TARGETS: dict[str, Target] = {
    "pcd": Target("a.pcd", seeds.pcd, _checked_cloud),
    "ply": Target("a.ply", seeds.ply, _cloud),
    "obj": Target("a.obj", seeds.obj, _cloud),
    "off": Target("a.off", seeds.off, _cloud),
    "stl": Target("a.stl", seeds.stl, _cloud),
    "gltf": Target("a.glb", seeds.gltf, _cloud),
    "las": Target("a.las", seeds.las, _cloud),
    "laz": Target("a.laz", seeds.laz, _cloud),
    "text": Target("a.csv", seeds.text, _checked_cloud),
    "npy": Target("a.npy", seeds.clouds_npy, _cloud),
    "npz": Target("a.npz", seeds.clouds_npz, _cloud, inside="zip"),
    "hdf5": Target("a.h5", seeds.clouds_hdf5, _cloud),
    "hdf5 batches": Target("train.h5", seeds.batches_hdf5, _hdf5_batches),
    "hdf5 lists": Target("train_files.txt", seeds.lists_of_files, _listed, _batches, weight=0.5),
    "mat": Target("a.mat", seeds.mat, _matlab, inside="mat"),
    "mat 7.3": Target("a.mat", seeds.mat73, _matlab),
    "annotations": Target("annotations/bed.json", seeds.annotations, _annotated, _keypointnet, weight=0.5),
    "splits": Target("splits/train.txt", seeds.splits, _split, _keypointnet, weight=0.3),
    "misaligned": Target("knife_misaligned.txt", seeds.splits, _misaligned),
    "coco": Target("truth.json", seeds.coco, _persons, _coco),
    "coco detections": Target("boxes.json", seeds.detections, _detected, _coco),
    "coco truth": Target("truth.json", seeds.coco, _averaged),
    "lsp": Target("joints.npz", seeds.lsp, _lsp, _lsp_pictures, inside="zip"),
    "lsp mat": Target("joints.mat", seeds.lsp_mat, _lsp, _lsp_pictures, inside="mat"),
    "mtfl": Target("training.txt", seeds.mtfl, _mtfl, _picture),
    "scans": Target("a.npz", seeds.scans, _scans, inside="zip"),
    "vol": Target("vol/hc09_a.vol", seeds.volumes, _volume, _volume_around),
    "delineations": Target("delineation/hc09_a.mat", seeds.delineations, _volume, _volume_around, "mat", weight=0.3),
    "images": Target("a.png", seeds.pictures, _image),
    "volumes": Target("a.npy", seeds.grids, _grid),
    "volumes npz": Target("a.npz", seeds.grids_npz, _grid, inside="zip"),
    "frames": Target("frames.npz", seeds.frames, _frames, _body, inside="zip"),
    "cameras": Target("cameras.json", seeds.cameras, _frames, _body),
    "studies": Target("a.toml", outputs.studies, _study),
    "configurations": Target("a.yaml", outputs.configurations, _configuration, weight=0.5),
    "metrics": Target("metrics-val.json", outputs.metrics, _run_of),
    "settings": Target(
        "config.json", outputs.settings, _run_of, lambda f: _put(f, "metrics-val.json", outputs.metrics)
    ),
    "report": Target("metrics-val.json", outputs.metrics, _reported, weight=0.02),
    "logs": Target("log/version_0/metrics.csv", outputs.logs, _log),
    "results": Target("results.jsonl", outputs.rows, _results, _rows_around, weight=0.2),
    "shapes": Target("shapes/bed.jsonl", outputs.shapes, _results, _rows_around, weight=0.2),
    "predictions": Target("out.json", outputs.predictions, _journal),
    "predictions npz": Target("out.npz", outputs.predictions_npz, _journal, inside="zip"),
    "journals": Target("out.json.partial", outputs.journals, _journal),
    "records": Target("out.json.partial", outputs.records, _records),
    "boxes": Target("boxes.json", outputs.boxes, _boxes),
    "own labels": Target("items.json", outputs.labeled, _labeled),
    "landmarks json": Target("a.mrk.json", seeds.markups, _landmarks),
    "landmarks fcsv": Target("a.fcsv", seeds.fiducials, _landmarks),
    "landmarks pp": Target("a.pp", seeds.picked_points, _landmarks),
    "landmarks csv": Target("a.csv", seeds.landmark_tables, _landmarks),
    "names of clicks": Target("labels/a/names.json", outputs.clicked_names, _clicked),
    "clicks": Target("labels/a/b.ply.json", outputs.clicks, _clicked, _clicked_names),
    "checkpoints": Target("last.ckpt", outputs.checkpoints, _run, inside="checkpoint", weight=0.3),
    "checkpoints to resume": Target("last.ckpt", outputs.checkpoints, _outside, inside="checkpoint", weight=0.3),
    "detectors": Target("last.ckpt", outputs.detectors, _run, inside="checkpoint", weight=0.2, readable=False),
    "shared weights": Target(
        "model.safetensors",
        outputs.shared_weights,
        _shared,
        lambda f: _put(f, "config.json", outputs.descriptions),
        weight=0.3,
    ),
    "shared models": Target(
        "config.json",
        outputs.descriptions,
        _shared,
        lambda f: _put(f, "model.safetensors", outputs.shared_weights),
        weight=0.3,
    ),
    "weights": Target("a.pth", outputs.weights, _weights),
    "cache": Target("a.npz", seeds.clouds_npz, _kept, weight=0.3),
}


def _put(folder: Path, name: str, make: Callable[[], list[bytes]]) -> None:
    (folder / name).write_bytes(make()[0])


def prepare(target: Target, folder: Path) -> None:
    """Write what is around the file."""
    target.around(folder)
    (folder / target.file).parent.mkdir(parents=True, exist_ok=True)


class UndocumentedError(Exception):
    """What a reader let through, or did."""


def attempt(target: Target, folder: Path, content: bytes) -> str:
    """Read a content: ``read`` or ``refused``, or whatever is raised that is not documented.

    Raises:
        UndocumentedError: If a documented error does not name a file.
    """
    file = folder / target.file
    file.write_bytes(content)
    try:
        # What libraries print is no part of it.
        with redirect_stderr(io.StringIO()):
            target.read(folder)
    except (ValueError, OSError) as error:
        where = getattr(error, "filename", None)
        if str(folder) not in f"{error} {where if isinstance(where, (str, Path)) else ''}":
            raise UndocumentedError(f"an error without its file: {type(error).__name__}: {error}") from error
        return "refused"
    return "read"
