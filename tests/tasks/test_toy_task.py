"""A task of one's own: what is in this file is all that it takes for every command to know it."""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import lightning as L
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import pcsa
from pcsa import losses
from pcsa.datasets.arrays import read_arrays
from pcsa.scripts.cli import main
from pcsa.tasks import Run, Task, get_task, open_run, register, task_names
from pcsa.tasks.common import registry
from pcsa.tasks.common.config import Count, DataConfig, OptimizerConfig, SamplerConfig, TrainConfig
from pcsa.tasks.common.engine import StepData, StepTraining, Training, TrainingItems
from pcsa.tasks.common.objective import draw_samples
from pcsa.tasks.common.task import EvaluateOptions, Evaluation, Prediction, PredictOptions, Predictor, column
from pcsa.viz import Overlay

SIZE = 12
PIXELS = torch.cartesian_prod(torch.arange(float(SIZE)), torch.arange(float(SIZE))).flip(1)  # (x, y) of every pixel


@dataclass(frozen=True)
class DotsData(DataConfig):
    """Images with a bright and a dark dot."""

    num_images: Count = 8
    """Images to train on."""
    noise: float = 0.05
    """Noise of an image, drawn anew whenever it is trained on."""


@dataclass(frozen=True)
class DotsModel:
    """One filter per dot."""

    kernel: Count = 5


@dataclass(frozen=True)
class DotsObjective(SamplerConfig):
    """What is minimized, in pixels."""

    read_out: str = "sampling"
    """Error of samples (sampling), or of the expectation (soft)."""


@dataclass(frozen=True)
class DotsConfig(TrainConfig):
    """Everything that determines a training on dots."""

    data: DotsData = field(default_factory=DotsData)
    model: DotsModel = field(default_factory=DotsModel)
    objective: DotsObjective = field(default_factory=DotsObjective)
    out: Path = Path("runs/dots")


@dataclass(frozen=True)
class DotsLabels:
    names: tuple[str, ...]


class Dots(TrainingItems[dict[str, Tensor]]):
    """Images that their numbers determine."""

    def __init__(self, first: int, size: int, noise: float = 0.0, seed: int = 0) -> None:
        super().__init__(seed)
        self.first, self.size, self.noise = first, size, noise

    def __len__(self) -> int:
        return self.size

    def plain(self, index: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(self.first + index)
        keypoints = 2 + (SIZE - 5) * torch.rand(2, 2, generator=generator)
        near = (-(torch.cdist(keypoints, PIXELS) ** 2) / 2).exp().view(2, SIZE, SIZE)
        return {"image": 0.5 + 0.5 * (near[:1] - near[1:]), "keypoints": keypoints}

    def varied(self, index: int, generator: torch.Generator) -> dict[str, Tensor]:
        item = self.plain(index)
        return {**item, "image": item["image"] + self.noise * torch.randn(1, SIZE, SIZE, generator=generator)}


def located(network: nn.Module, image: Tensor) -> pcsa.Localization:
    logits = network(image).flatten(2).transpose(1, 2)
    return pcsa.localize(logits, PIXELS.expand(len(image), -1, -1), 1.0)


class DotsTraining(StepTraining[DotsConfig]):
    def loss(
        self, batch: dict[str, Tensor], temperature: float, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor], int]:
        target = batch["keypoints"]
        size = len(target)
        logits, visible = self.network(batch["image"]).flatten(2).transpose(1, 2), torch.ones_like(target[..., 0]) > 0
        pos = PIXELS.expand(size, -1, -1)
        if self.config.objective.read_out == "soft":
            loss = losses.expectation_error(logits, pos, target, visible=visible)
        else:
            ptr = torch.arange(size + 1) * SIZE**2
            flat = logits.flatten(0, 1), pos.flatten(0, 1)
            samples = draw_samples(self.config.objective, *flat, 1.0, ptr, temperature, generator)
            loss = losses.sample_error(samples, target, visible=visible)
        return loss, {"loss_dots": loss.detach()}, size

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        away = located(self.network, batch["image"]).position - batch["keypoints"]
        self.log("val_error", away.norm(dim=-1).mean(), batch_size=len(away))


class DotsEvaluation(Evaluation):
    def __init__(self, run: Run[DotsConfig, DotsLabels], options: EvaluateOptions, split: Any) -> None:
        super().__init__(split, Dots(2000 if split == "test" else 1000, 4), num_pictures=options.pictures)
        self.run, self.options = run, options
        self.errors: list[float] = []

    def find(self, batch: dict[str, Tensor]) -> dict[str, Any]:
        found = located(self.run.model, batch["image"])
        for image, predicted, annotated in zip(batch["image"], found.position, batch["keypoints"], strict=True):
            self.pictures.append(Overlay(image, predicted=predicted, annotated=annotated, names=self.run.labels.names))
        return {"errors": (found.position - batch["keypoints"]).norm(dim=-1).flatten().tolist()}

    def take(self, record: dict[str, Any]) -> None:
        self.errors += record["errors"]

    def scores(self) -> dict[str, Any]:
        return {"num_items": len(self.items), "error": {"mean_px": float(np.mean(self.errors))}}


class DotsPredictor(Predictor):
    suffixes = (".npy",)

    def __init__(self, run: Run[DotsConfig, DotsLabels]) -> None:
        self.run = run

    def predict(self, file: Path) -> Iterator[Prediction]:
        image = torch.from_numpy(read_arrays(file)["array"]).float()[None]
        with torch.inference_mode():
            found = located(self.run.model, image[None])
        position, names = found.position[0], self.run.labels.names
        fields = {"position": position.tolist(), "confidence": found.peak[0].tolist()}
        yield Prediction(fields, lambda: Overlay(image, predicted=position, names=names, title=file.name))


class DotsTask(Task[DotsConfig, DotsLabels]):
    name = "dots"
    title = "two filters that find a bright and a dark dot"
    labels_type = DotsLabels
    methods: ClassVar = {"soft": {"read_out": "soft"}, "sampling": {"read_out": "sampling"}}
    columns = (column("error (px)", "error", "mean_px"), column("error (%)", "error", "mean_px", factor=100 / SIZE))
    presets: ClassVar = {
        "small": DotsConfig(optimizer=OptimizerConfig(steps=40, batch_size=4, lr=0.3)),
        "wide": DotsConfig(model=DotsModel(kernel=7)),
    }

    def training(self, config: DotsConfig) -> Training:
        data = StepData(
            config, Dots(0, config.data.num_images, config.data.noise, config.seed), Dots(1000, 2, seed=config.seed)
        )
        labels = DotsLabels(("bright", "dark"))
        L.seed_everything(config.seed, verbose=False)
        return Training(DotsTraining(config, self.build(config, labels), data.steps_per_epoch), data, labels)

    def build(self, config: DotsConfig, labels: DotsLabels) -> nn.Module:
        kernel = config.model.kernel
        return nn.Conv2d(1, len(labels.names), kernel, padding=kernel // 2)

    def evaluation(self, run: Run[DotsConfig, DotsLabels], options: EvaluateOptions) -> Evaluation:
        return DotsEvaluation(run, options, self.scored_split(run.config, options.split))

    def predictor(self, run: Run[DotsConfig, DotsLabels], options: PredictOptions) -> Predictor:
        return DotsPredictor(run)


@pytest.fixture(autouse=True)
def dots(monkeypatch):
    monkeypatch.setattr(registry, "_REGISTERED", dict(registry._REGISTERED))
    task = DotsTask()
    register(task)
    return task


TRAINER = "--trainer.accelerator cpu --trainer.no-progress --trainer.validate-every 5"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    out = tmp_path_factory.mktemp("dots")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_REGISTERED", dict(registry._REGISTERED))
        register(DotsTask())
        assert main(f"train dots small --data.noise 0.1 --out {out} {TRAINER}".split()) == 0
    return out / "last.ckpt"


def test_it_is_listed_beside_the_others(dots, capsys):
    assert task_names()[-1] == "dots"
    assert get_task("dots") is dots
    with pytest.raises(ValueError, match=r"`task` \(='dots'\) must have a name of its own"):
        register(DotsTask())
    assert main(["--help"]) == 0
    assert "landmarks, dots" in capsys.readouterr().out
    assert main(["train", "--help"]) == 0
    said = capsys.readouterr().out
    assert "dots          two filters that find a bright and a dark dot" in said
    assert "presets: small, wide" in said


def test_its_options_are_those_of_its_configuration(capsys):
    with pytest.raises(SystemExit) as left:
        main(["train", "dots", "wide", "--help"])
    assert left.value.code == 0
    said = capsys.readouterr().out
    assert "--data.num-images" in said
    assert "--model.kernel" in said
    assert "(default: 7)" in said
    with pytest.raises(SystemExit) as left:
        main(["train", "dots", "small", "--model.kernel", "0"])
    assert left.value.code == 2
    assert "`model.kernel` (=0) must be at least 1" in capsys.readouterr().err
    assert main(["train", "dots", "large"]) == 2
    assert "`preset` (='large') must be one of small, wide" in capsys.readouterr().err


def test_it_trains(checkpoint):
    run = open_run(checkpoint)
    assert run.task.name == "dots"
    small = get_task("dots").presets["small"]
    trainer = replace(small.trainer, accelerator="cpu", progress=False, validate_every=5)
    assert run.config == replace(small, data=replace(small.data, noise=0.1), trainer=trainer, out=checkpoint.parent)
    assert run.labels == DotsLabels(("bright", "dark"))
    assert run.step == 40
    with (checkpoint.parent / "log" / "version_0" / "metrics.csv").open() as file:
        errors = [float(row["val_error"]) for row in csv.DictReader(file) if row["val_error"]]
    assert len(errors) == 4
    untrained = run.task.training(run.config).module.network
    with torch.inference_mode():
        away = [
            located(untrained, item["image"][None]).position[0] - item["keypoints"]
            for item in map(Dots(1000, 2).plain, range(2))
        ]
    assert errors[-1] < 0.5 * torch.stack(away).norm(dim=-1).mean()


def test_it_is_scored(checkpoint, tmp_path, capsys):
    out = tmp_path / "metrics.json"
    flags = ["--split", "test", "--pictures", "3", "--no-progress", "--out", str(out)]
    assert main(["evaluate", str(checkpoint), *flags]) == 0
    metrics = json.loads(out.read_text())
    assert (metrics["task"], metrics["split"], metrics["num_items"]) == ("dots", "test", 4)
    network, away = open_run(checkpoint).model, []
    with torch.inference_mode():
        for item in map(Dots(2000, 4).plain, range(4)):
            away += (located(network, item["image"][None]).position[0] - item["keypoints"]).norm(dim=-1).tolist()
    error = metrics["error"]["mean_px"]
    assert error == pytest.approx(np.mean(away), rel=1e-5)
    # The table of a task that has none of its own is that of its columns.
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()[:4]]
    assert rows[0] == ["dots, test", "value"]
    assert rows[2:] == [["error (px)", f"{error:.3g}"], ["error (%)", f"{100 * error / SIZE:.3g}"]]
    assert (tmp_path / "predictions-test.png").stat().st_size > 1000
    assert main(["evaluate", str(checkpoint), "--page", "1"]) == 2
    assert "`page` (=1) must not be given for dots: only clouds have pages" in capsys.readouterr().err


def test_it_predicts(checkpoint, tmp_path, capsys):
    folder = tmp_path / "images"
    folder.mkdir()
    images = Dots(3000, 3)
    for i in range(3):
        np.save(folder / f"{i}.npy", images[i]["image"][0].numpy())
    pictures = tmp_path / "pictures"
    flags = ["--no-progress", "--png", str(pictures)]
    assert main(["predict", str(checkpoint), str(folder), "--out", str(tmp_path / "p.json"), *flags]) == 0
    assert "3 predictions of 2" in capsys.readouterr().out
    found = json.loads((tmp_path / "p.json").read_text())
    assert (found["task"], found["names"]) == ("dots", ["bright", "dark"])
    assert [Path(item["input"]).name for item in found["items"]] == ["0.npy", "1.npy", "2.npy"]
    with torch.inference_mode():
        expected = located(open_run(checkpoint).model, torch.stack([images[i]["image"] for i in range(3)]))
    np.testing.assert_allclose([item["position"] for item in found["items"]], expected.position, rtol=1e-4)
    assert sorted(file.name for file in pictures.iterdir()) == [f"{i}.npy.png" for i in range(3)]

    assert main(["predict", str(checkpoint), str(folder / "1.npy"), "--out", str(tmp_path / "p.npz")]) == 0
    arrays = np.load(tmp_path / "p.npz")
    np.testing.assert_allclose(arrays["position"], expected.position[1:2], rtol=1e-4)
    np.testing.assert_allclose(arrays["confidence"], expected.peak[1:2], rtol=1e-4)
    assert arrays["names"].tolist() == ["bright", "dark"]
    (folder / "x.obj").touch()
    assert main(["predict", str(checkpoint), str(folder / "x.obj")]) == 2
    assert "must be a file of .npy" in capsys.readouterr().err


def test_its_methods_are_compared_and_reported(tmp_path, capsys):
    out, flags = tmp_path / "compare", f"--optimizer.steps 4 --data.noise 0.2 {TRAINER}".split()
    assert main(["compare", "dots", "--seeds", "2", "--out", str(out), "--", *flags]) == 0
    table = capsys.readouterr().out
    assert "objective" in table
    for name in ("soft", "sampling"):
        errors = []
        for seed in (0, 1):
            folder = out / "dots" / f"{name}-{seed}"
            config = open_run(folder / "last.ckpt").config
            # The first preset is trained where a task names no other.
            assert (config.seed, config.objective.read_out, config.model.kernel) == (seed, name, 5)
            assert config.data.noise == 0.2
            metrics = json.loads((folder / "metrics-test.json").read_text())
            errors.append(metrics["error"]["mean_px"])
        (row,) = (line for line in table.splitlines() if line.startswith(f"| {name} "))
        assert f"{np.mean(errors):.3g} ± {(max(errors) - min(errors)) / 2:.2g}" in row
    assert main(["compare", "dots", "--methods", "spaceship"]) == 2
    assert "must be out of 'soft', 'sampling'" in capsys.readouterr().err

    runs = [str(out / "dots" / f"{name}-0") for name in ("soft", "sampling")]
    assert main(["report", *runs, "--split", "test", "--out", str(tmp_path / "report")]) == 0
    page = (tmp_path / "report" / "report.html").read_text()
    for expected in ("soft-0", "sampling-0", "<td>dots</td>", "<th>error (px)</th>", "<th>error (%)</th>"):
        assert expected in page


def test_it_is_resumed(checkpoint, tmp_path, capsys):
    flags = f"train dots small --data.noise 0.1 --out {checkpoint.parent} {TRAINER}".split()
    assert main(flags) == 2
    assert "exists: set `resume`" in capsys.readouterr().err
    assert main([*flags, "--resume", "--model.kernel", "3"]) == 2
    assert "to resume it" in capsys.readouterr().err


def test_a_checkpoint_of_a_task_that_is_not_registered_says_so(checkpoint):
    registry._REGISTERED.pop("dots")
    with pytest.raises(ValueError, match=r"last\.ckpt` must fit pcsa .* `task` \(='dots'\) must be one of supervised"):
        open_run(checkpoint)
