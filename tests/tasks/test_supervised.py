"""What is special to the training of detectors: its objectives, its keypoints, and neighbors found before."""

import csv
import json
import logging
import shutil
from dataclasses import replace

import pytest
import torch
from torch_geometric.data import Data

from pcsa.datasets.custom import write_labeled
from pcsa.datasets.pcd import read_pcd, write_pcd
from pcsa.datasets.transforms import Augment, denormalize
from pcsa.tasks import get_task, open_run
from pcsa.tasks.common.clouds import open_annotated
from pcsa.tasks.common.engine import StepTraining
from pcsa.tasks.common.fitting import scale_of
from pcsa.tasks.supervised import (
    ObjectiveConfig,
    SupervisedConfig,
    SupervisedData,
    SupervisedEvaluateOptions,
    most_annotated,
    normalized,
)

TASK = get_task("supervised")


@pytest.fixture(scope="module")
def config(tiny):
    return tiny("supervised")


def logged(out, name):
    with (out / "log" / "version_0" / "metrics.csv").open() as file:
        return [float(row[name]) for row in csv.DictReader(file) if row[name]]


def test_labels_are_those_of_the_training_clouds(trained):
    _, config, path = trained("supervised")
    run, train = open_run(path), open_annotated(config.data, "train")
    assert run.labels.category == "chair"
    assert run.labels.semantic_ids == tuple(train.semantic_ids)
    assert run.labels.names == tuple(str(name) for name in train.names)


def test_log_has_every_loss_and_the_validation(trained):
    _, _, path = trained("supervised")
    header = (path.parent / "log" / "version_0" / "metrics.csv").read_text().splitlines()[0].split(",")
    wanted = "loss loss_localization loss_presence temperature val_pck@0.01 val_pck@0.05 val_error"
    assert set(wanted.split()) <= set(header)


def test_precomputed_neighbors_leave_a_step_nothing_to_search(config, weights, same, tmp_path, monkeypatch):
    # Without augmentation the searches of the steps are those done before: the same training but for rounding.
    still = replace(config.data, augment=Augment(), precompute=False)
    config = replace(config, optimizer=replace(config.optimizer, steps=4))
    trainer = replace(config.trainer, validate_every=10)
    searched = TASK.train(replace(config, data=still, trainer=trainer, out=tmp_path / "searched"))

    def searches(*_, **__):
        raise RuntimeError("searches")

    def without_searches(name, augment, num_workers):
        data = replace(still, augment=augment, precompute=True)
        workers = replace(trainer, num_workers=num_workers)
        changed = replace(config, data=data, trainer=workers, out=tmp_path / name)
        TASK.training(changed)  # searches, and keeps what it finds with the dataset
        with monkeypatch.context() as patch:
            for module in ("pcsa.models.pointnet2", "pcsa.bandwidth"):
                for search in ("knn", "ball_query", "farthest_points", "interpolation_weights"):
                    patch.setattr(f"{module}.{search}", searches, raising=False)
            return weights(TASK.train(changed))

    kept = without_searches("kept", Augment(), 0)
    for key, value in weights(searched).items():
        torch.testing.assert_close(kept[key], value, rtol=1e-3, atol=1e-4, msg=key)
    moving = Augment(mirror=0.5, rotate=30.0, scale=0.1, shift=0.1)
    moved = without_searches("moved", moving, 0)
    assert not same(kept, moved)
    assert same(moved, without_searches("worker", moving, 1))


def test_a_killed_run_with_dropout_resumes_to_the_same_weights(config, weights, same, tmp_path, monkeypatch):
    model = replace(config.model, local_blocks=1, attention_blocks=1, drop_path=0.3, dropout=0.3)
    config = replace(config, model=model, optimizer=replace(config.optimizer, steps=4))
    whole = weights(TASK.train(replace(config, out=tmp_path / "whole")))
    step = StepTraining.training_step

    def dies(self, batch, batch_idx):
        if self.global_step == 3:
            raise RuntimeError("power cut")
        return step(self, batch, batch_idx)

    killed = replace(config, out=tmp_path / "killed")
    with monkeypatch.context() as patch:
        patch.setattr(StepTraining, "training_step", dies)
        with pytest.raises(RuntimeError, match="power cut"):
            TASK.train(killed)
    torch.rand(3)  # torch's own generator plays no part
    assert same(whole, weights(TASK.train(replace(killed, resume=True))))
    without = replace(config, model=replace(model, drop_path=0.0, dropout=0.0), out=tmp_path / "without")
    assert not same(whole, weights(TASK.train(without)))


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(train_quietly, clouds_root, tmp_path):
    # No noise, a keypoint that every chair has and no batch statistics: the mean of two half batches' gradients is the
    # whole batch's, if the halves are different clouds.
    flags = f"""supervised soft --data.root {clouds_root} --data.num-keypoints 1 --data.augment.mirror 0
        --model.out-channels 16 --model.norm group --optimizer.steps 6 --optimizer.batch-size 4
        --trainer.accelerator cpu --trainer.no-progress --trainer.validate-every 1"""
    errors = []
    for devices, strategy in ((1, "auto"), (2, "ddp")):
        out = tmp_path / str(devices)
        train_quietly(f"{flags} --trainer.strategy {strategy} --trainer.devices {devices} --out {out}")
        open_run(out / "last.ckpt", task="supervised")
        errors.append(logged(out, "val_error"))
    assert len(errors[0]) == 3
    assert errors[1] == pytest.approx(errors[0], rel=1e-4)
    assert errors[0][0] != pytest.approx(errors[0][2], rel=1e-3)


@pytest.mark.parametrize(
    "objective",
    [
        ObjectiveConfig(method="soft", norm="l1", regularization="variance"),
        ObjectiveConfig(method="soft", regularization="js"),
        ObjectiveConfig(method="discrete"),
        ObjectiveConfig(method="mixture", norm="squared"),
        ObjectiveConfig(method="nll", bandwidth=0.05),
        ObjectiveConfig(method="cross_entropy", presence_weight=0.0),
        ObjectiveConfig(tempering="logits", basis_noise="mixture", temperature="cosine", num_samples=1),
        ObjectiveConfig(temperature="constant", temperature_start=1.0, bandwidth=0.01),
        ObjectiveConfig(method="soft_label", label_distance="geodesic"),
        ObjectiveConfig(estimator="straight_through"),
        ObjectiveConfig(estimator="reinmax", norm="squared"),
        ObjectiveConfig(estimator="implicit", bandwidth=0.05),
        ObjectiveConfig(method="cross_entropy", plus=(("sampling", 0.1), ("mixture", 2.0)), norm="bounded"),
    ],
    ids=lambda o: f"{o.method}-{o.regularization}-{o.tempering}-{o.temperature}-{len(o.plus)}-{o.estimator}",
)
def test_every_objective_takes_finite_steps(config, weights, objective, tmp_path):
    optimizer = replace(config.optimizer, steps=2)
    path = TASK.train(replace(config, objective=objective, optimizer=optimizer, out=tmp_path))
    assert torch.load(path, weights_only=True)["global_step"] == 2
    assert all(value.isfinite().all() for value in weights(path).values())


def test_each_term_of_a_sum_is_logged_by_its_name(config, tmp_path):
    objective = ObjectiveConfig(method="soft", plus=(("cross_entropy", 0.25), ("soft_label", 0.5)), presence_weight=0.0)
    optimizer = replace(config.optimizer, steps=10)
    TASK.train(replace(config, objective=objective, optimizer=optimizer, out=tmp_path))
    found = {name: logged(tmp_path, f"loss_{name}") for name in ("soft", "cross_entropy", "soft_label", "localization")}
    assert all(found.values())
    for soft, hard, label, total in zip(*found.values(), strict=True):
        assert total == pytest.approx(soft + 0.25 * hard + 0.5 * label, rel=1e-5)


@pytest.mark.slow
def test_training_lowers_the_error(config, tmp_path):
    # 40 steps on eight chairs bring the error of the expectation to less than 3/4 of what it was after ten.
    changed = replace(
        config,
        objective=ObjectiveConfig(method="soft"),
        optimizer=replace(config.optimizer, steps=40, lr=1e-2),
        trainer=replace(config.trainer, validate_every=20),
        out=tmp_path,
    )
    TASK.train(changed)
    values = logged(tmp_path, "loss_localization")
    assert len(values) == 4
    assert values[-1] < 0.75 * values[0]


def test_most_annotated_keypoints_are_kept(clouds_root):
    everything = open_annotated(SupervisedData(root=clouds_root), "train")
    assert most_annotated(SupervisedData(root=clouds_root)) is None
    chosen = most_annotated(SupervisedData(root=clouds_root, num_keypoints=3))
    few = open_annotated(SupervisedData(root=clouds_root), "val", keypoint_ids=chosen)
    counts = torch.stack([everything[i].visible[0] for i in range(len(everything))]).sum(0)
    kept = [everything.semantic_ids.index(i) for i in few.semantic_ids]
    assert few.num_keypoints == 3
    assert counts[kept].min() >= counts.sort(descending=True).values[2]


def test_validation_and_scores_are_of_the_keypoints_that_were_trained_on(config, trained, clouds_root):
    few = replace(config, data=replace(config.data, num_keypoints=3))
    training = TASK.training(few)
    assert len(training.labels.names) == len(training.labels.semantic_ids) == 3
    for items in (training.data.train_items, training.data.val_items):
        assert tuple(items.dataset.semantic_ids) == training.labels.semantic_ids
    _, _, path = trained("supervised")
    run = replace(open_run(path), labels=training.labels)
    assert tuple(TASK.annotated(run, "test").semantic_ids) == training.labels.semantic_ids


def test_more_keypoints_than_are_annotated(config, clouds_root):
    everything = open_annotated(config.data, "train").num_keypoints
    data = replace(config.data, num_keypoints=everything + 1)
    with pytest.raises(ValueError, match=rf"`data.num_keypoints` \(={everything + 1}\) must be at most"):
        most_annotated(data)
    with pytest.raises(ValueError, match=rf"`data.num_keypoints` \(={everything + 1}\) must be at most"):
        TASK.training(replace(config, data=data))


@pytest.mark.parametrize(
    ("section", "values", "name"),
    [
        ("data", {"num_keypoints": 0}, "data.num_keypoints"),
        ("data", {"num_shapes": 0}, "data.num_shapes"),
        ("data", {"precompute": True}, "data.augment.axis_scale"),
        ("data", {"precompute": True, "augment": Augment(jitter=0.01)}, "data.augment.jitter"),
        ("objective", {"method": "mixture"}, "objective.norm"),
        ("objective", {"bandwidth": 0.0}, "objective.bandwidth"),
        ("objective", {"presence_weight": -1.0}, "objective.presence_weight"),
    ],
)
def test_a_bad_value_is_refused_by_its_name(section, values, name):
    part = replace(getattr(SupervisedConfig(), section), **values)
    with pytest.raises(ValueError, match=f"`{name}`"):
        SupervisedConfig(**{section: part})


def test_a_split_without_keypoints_stops_before_the_training(tmp_path, config):
    points = torch.rand(40, 3).numpy()
    items = [(points, points[:1], ["nose"])] + [(points, [], [])] * 5
    write_labeled(tmp_path / "root", "fish", items)
    data = replace(config.data, root=tmp_path / "root", category="fish")
    with pytest.raises(ValueError, match=r"`data\.root` .* none of the \d clouds of 'fish' in split '(train|val)'"):
        TASK.train(replace(config, data=data, out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.fixture
def in_unit(clouds_root, tmp_path):
    """The root of the chairs in another unit."""

    def make(unit):
        root = shutil.copytree(clouds_root, tmp_path / f"unit-{unit:g}")
        for path in root.glob("pcds/*/*.pcd"):
            write_pcd(path, read_pcd(path).points.astype("float64") * unit)
        for path in root.glob("annotations/*.json"):
            records = json.loads(path.read_text())
            for record in records:
                points = read_pcd(root / "pcds" / record["class_id"] / f"{record['model_id']}.pcd").points
                for keypoint in record["keypoints"]:
                    keypoint["xyz"] = points[keypoint["pcd_info"]["point_index"]].tolist()
            path.write_text(json.dumps(records))
        return root

    return make


def test_scores_of_another_unit_are_refused_or_warned_of(trained, in_unit, caplog):
    _, _, path = trained("supervised")
    run = open_run(path)
    tiny_clouds = in_unit(1e-6)
    options = SupervisedEvaluateOptions(path, root=tiny_clouds, geodesic=False)
    with pytest.raises(ValueError, match=r"`thresholds` \(=0, 0\.01, .*\) must be below .*`--thresholds 0 [\d.e-]+ "):
        TASK.evaluation(run, options)
    with caplog.at_level(logging.WARNING):
        TASK.evaluation(run, replace(options, root=in_unit(1000)))
    assert "nearly no prediction can be right" in caplog.text
    # The thresholds that the message names give the scores of the unit that the defaults are for.
    scale = scale_of([cloud.pos for cloud in open_annotated(replace(run.config.data, root=tiny_clouds), "val")])
    assert scale.diagonal == pytest.approx(1e-6, rel=0.1)
    same = TASK.evaluation(run, replace(options, root=None, thresholds=(0.1, 0.2)))
    other = TASK.evaluation(run, replace(options, thresholds=(1e-7, 2e-7)))
    found = []
    for evaluation in (same, other):
        for batch in evaluation.loader(evaluation.items, batch_size=8):
            evaluation.update(batch)
        found.append(evaluation.scores()["overall"])
    assert found[0]["euclidean"]["pck"] == pytest.approx(found[1]["euclidean"]["pck"])
    assert found[0]["euclidean"]["mean_error"] == pytest.approx(1e6 * found[1]["euclidean"]["mean_error"], rel=1e-3)
    assert found[1]["calibration"]["threshold"] == pytest.approx(1e-8, rel=0.1)


def test_the_pck_of_the_log_is_in_the_unit_of_the_clouds(config, in_unit):
    def thresholds(root):
        return TASK.training(replace(config, data=replace(config.data, root=root))).module.pck.thresholds

    assert thresholds(config.data.root) == (0.01, 0.05)
    assert thresholds(in_unit(1000)) == pytest.approx((10, 50), rel=0.1)
    assert thresholds(in_unit(1e-6)) == pytest.approx((1e-8, 5e-8), rel=0.1)


def test_a_cloud_far_from_the_origin_is_trained_on_as_one_near_it():
    generator = torch.Generator().manual_seed(0)
    pos = torch.rand(100, 3, generator=generator, dtype=torch.float64)
    far = pos + torch.tensor([5e5, 4.6e6, 100.0], dtype=torch.float64)
    near, moved = (normalized(Data(pos=x, keypoints=x[None, :4], visible=torch.ones(1, 4) > 0)) for x in (pos, far))
    assert moved.pos.dtype == moved.keypoints.dtype == torch.float32
    torch.testing.assert_close(moved.pos, near.pos)
    torch.testing.assert_close(moved.keypoints, near.keypoints)
    back = denormalize(moved.keypoints, moved.offset, moved.scale)
    torch.testing.assert_close(back[0], far[:4], rtol=0, atol=1e-6)


def test_a_part_of_the_release_without_validation_clouds_is_trained_on(config, tmp_path, caplog):
    points = torch.rand(3, 64, 3).double().numpy()
    write_labeled(tmp_path / "root", "fish", [(cloud, cloud[:2], ["nose", "tail"]) for cloud in points])
    (cloud,) = [line[5:] for line in (tmp_path / "root/splits/val.txt").read_text().splitlines()]
    (tmp_path / f"root/pcds/fish/{cloud}.pcd").unlink()
    data = SupervisedData(root=tmp_path / "root", category="fish")
    small = replace(config, data=data, optimizer=replace(config.optimizer, steps=2), out=tmp_path / "run")
    with caplog.at_level(logging.WARNING):
        path = TASK.train(small)
    assert "nothing to validate on, the training goes on without" in caplog.text
    with pytest.raises(FileNotFoundError, match="1 of the 1 fish clouds that split 'val' names are missing"):
        TASK.train(replace(small, data=replace(data, strict=True), out=tmp_path / "strict"))
    options = SupervisedEvaluateOptions(path)
    with pytest.raises(FileNotFoundError, match=r"are missing.*; so there is nothing to score on: .*`fractions`"):
        TASK.evaluation(open_run(path), options)
