import dataclasses
import itertools
import json
import shutil

import pytest
import torch
from torch_geometric.data import Batch, Data

from pcsa.datasets.pcd import write_pcd
from pcsa.datasets.procedural import generate
from pcsa.datasets.transforms import Augment, Normalize
from pcsa.skeleton import num_segments
from pcsa.training import TrainerConfig, load_about, load_detector
from pcsa.unsupervised import (
    ReconstructionConfig,
    ShapesConfig,
    ShapesData,
    SkeletonConfig,
    SkeletonTraining,
    UnsupervisedConfig,
    UnsupervisedOptimizerConfig,
    build_merger,
    find_anchors,
    load_skeleton_merger,
    open_clouds,
    reconstruction,
    subset,
    train_unsupervised,
)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return generate(tmp_path_factory.mktemp("chairs"), "chair", 12, num_points=256, split=(0.7, 0.15, 0.15))


@pytest.fixture(scope="module")
def config(root, tmp_path_factory):
    """Eight training clouds, two steps an epoch, three epochs."""
    return UnsupervisedConfig(
        data=ShapesConfig(root=root, augment=Augment(axis_scale=0.1, jitter=0.01)),
        model=SkeletonConfig(num_keypoints=4, out_channels=16, anchors="farthest"),
        objective=ReconstructionConfig(num_samples=2, num_loss_points=100, mirror_weight=0.1, separation_weight=0.1),
        optimizer=UnsupervisedOptimizerConfig(steps=6, batch_size=4),
        trainer=TrainerConfig(accelerator="cpu", progress=False, validate_every=1),
        out=tmp_path_factory.mktemp("run"),
    )


@pytest.fixture(scope="module")
def checkpoint(config):
    return train_unsupervised(config)


def _weights(path):
    return torch.load(path, weights_only=True)["state_dict"]


def _equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def test_checkpoint_says_what_it_is_and_loads_weights_only(config, checkpoint):
    stored = torch.load(checkpoint, weights_only=True)
    assert stored["global_step"] == 6
    about = json.loads((checkpoint.parent / "config.json").read_text())
    assert stored["pcsa"] == about == load_about(checkpoint)
    assert about["kind"] == "pcsa skeleton merger"
    assert about["names"] == ["0", "1", "2", "3"]
    merger, _ = load_skeleton_merger(checkpoint)
    assert not merger.training
    state = stored["state_dict"]
    assert torch.equal(merger.offsets, state["merger.offsets"])
    data = ShapesData(config)
    assert torch.equal(merger.anchors, data.anchors())


def test_checkpoints_of_other_models_are_refused(checkpoint, tmp_path):
    with pytest.raises(ValueError, match=r"must be a 'pcsa keypoint detector' checkpoint, is 'pcsa skeleton merger'"):
        load_detector(checkpoint)
    other = torch.load(checkpoint, weights_only=True)
    other["pcsa"]["kind"] = "pcsa keypoint detector"
    torch.save(other, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match=r"other\.ckpt.*must be a 'pcsa skeleton merger' checkpoint"):
        load_skeleton_merger(tmp_path / "other.ckpt")
    with pytest.raises(FileNotFoundError, match=r"none\.ckpt"):
        load_skeleton_merger(tmp_path / "none.ckpt")


def test_log_has_losses_activations_and_validation(checkpoint):
    header = (checkpoint.parent / "log" / "version_0" / "metrics.csv").read_text().splitlines()[0].split(",")
    wanted = "loss loss_fidelity loss_coverage loss_offsets loss_separation loss_mirror activation active_segments"
    assert {*wanted.split(), "nearest_keypoints", "temperature", "val_loss", "val_coverage"} <= set(header)


def test_same_seed_same_weights_other_seed_others(config, checkpoint, tmp_path):
    workers = dataclasses.replace(config.trainer, num_workers=1)
    again = train_unsupervised(dataclasses.replace(config, trainer=workers, out=tmp_path / "again"))
    assert _equal(_weights(checkpoint), _weights(again))
    other = train_unsupervised(dataclasses.replace(config, out=tmp_path / "other", seed=1))
    assert not _equal(_weights(checkpoint), _weights(other))


def test_killed_run_resumes_to_the_same_weights(config, checkpoint, tmp_path, monkeypatch):
    step = SkeletonTraining.training_step

    def dies(self, batch, batch_idx):
        if self.global_step == 5:  # in the middle of the third epoch
            raise RuntimeError("power cut")
        return step(self, batch, batch_idx)

    monkeypatch.setattr(SkeletonTraining, "training_step", dies)
    killed = dataclasses.replace(config, out=tmp_path)
    with pytest.raises(RuntimeError, match="power cut"):
        train_unsupervised(killed)
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 4
    monkeypatch.undo()
    resumed = train_unsupervised(dataclasses.replace(killed, resume=True))
    assert torch.load(resumed, weights_only=True)["global_step"] == 6
    assert _equal(_weights(checkpoint), _weights(resumed))


def test_what_may_not_be_resumed_or_overwritten(config, checkpoint, tmp_path):
    before = checkpoint.read_bytes()
    with pytest.raises(FileExistsError, match=r"last\.ckpt"):
        train_unsupervised(config)
    other = dataclasses.replace(config, objective=ReconstructionConfig(read_out="soft"), resume=True)
    with pytest.raises(ValueError, match="`objective`"):
        train_unsupervised(other)
    assert checkpoint.read_bytes() == before
    with pytest.raises(FileNotFoundError, match=r"last\.ckpt"):
        train_unsupervised(dataclasses.replace(config, resume=True, out=tmp_path))


@pytest.mark.parametrize(
    ("objective", "model", "optimizer"),
    [
        (
            {"read_out": "soft"},
            {"anchors": "kmeans", "box_features": True},
            {"kind": "adadelta", "lr": 1.0, "schedule": "constant"},
        ),
        (
            {"noise": "paper", "bandwidth": 0.01, "basis_noise": "mixture"},
            {"competition": True, "anchors": "corners"},
            {"epochs": 1},
        ),
        ({"temperature": "constant", "temperature_start": 2.0}, {"scales": "released", "anchors": "none"}, {}),
    ],
    ids=["soft", "paper noise", "released network"],
)
def test_every_option_takes_finite_steps(config, objective, model, optimizer, tmp_path):
    changed = dataclasses.replace(
        config,
        objective=dataclasses.replace(config.objective, **objective),
        model=dataclasses.replace(config.model, **model),
        optimizer=dataclasses.replace(config.optimizer, **{"steps": 2, **optimizer}),
        out=tmp_path,
    )
    path = train_unsupervised(changed)
    assert torch.load(path, weights_only=True)["global_step"] == 2
    assert all(v.isfinite().all() for v in _weights(path).values())
    load_skeleton_merger(path)


def test_bfloat16_trains_to_finite_weights(config, tmp_path):
    trainer = dataclasses.replace(config.trainer, precision="bf16-mixed")
    weights = _weights(train_unsupervised(dataclasses.replace(config, trainer=trainer, out=tmp_path)))
    assert all(v.isfinite().all() for v in weights.values())
    assert {v.dtype for v in weights.values()} == {torch.float32, torch.int64}


def test_training_lowers_the_loss(config, tmp_path):
    changed = dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, augment=Augment()),
        # From the middle of the clouds, where there is most to learn, and without noise.
        model=SkeletonConfig(num_keypoints=5, out_channels=16, anchors="none", box_features=False),
        objective=ReconstructionConfig(read_out="soft", num_loss_points=None),
        optimizer=UnsupervisedOptimizerConfig(steps=40, batch_size=4, lr=5e-3),
        trainer=dataclasses.replace(config.trainer, validate_every=20),
        out=tmp_path,
    )
    train_unsupervised(changed)
    rows = [line.split(",") for line in (tmp_path / "log" / "version_0" / "metrics.csv").read_text().splitlines()]
    column = rows[0].index("loss")
    values = [float(row[column]) for row in rows[1:] if row[column]]
    assert len(values) == 4
    assert values[-1] < 0.75 * values[0]


def test_clouds_are_in_the_frame_of_the_dual_alignment_score(config):
    data = ShapesData(config)
    for key in (0, (0, 0), (5, 1)):  # as it is, and augmented
        pos = data.train_items[key].pos
        assert pos.min() == pytest.approx(-1, abs=1e-6)
        assert pos.max() == pytest.approx(1, abs=1e-6)
    first, again, later = (data.train_items[key].pos for key in ((0, 0), (0, 0), (1, 0)))
    assert torch.equal(first, again)
    assert not torch.equal(first, later)


def test_expectation_of_the_reconstruction_ignores_samples_and_subsets(config):
    torch.manual_seed(0)
    merger = build_merger(SkeletonConfig(num_keypoints=4, out_channels=16, anchors="none")).eval()
    pos = torch.rand(2, 80, 3) * 2 - 1
    batch = Batch.from_data_list([Data(pos=p) for p in pos])
    plain = ReconstructionConfig(read_out="soft", num_loss_points=None)
    drawn = ReconstructionConfig(num_samples=3, num_loss_points=20)
    values = [
        reconstruction(c, merger, batch, 0.5, torch.Generator().manual_seed(seed), sample=sample)[0]
        for c, seed, sample in ((plain, 0, True), (drawn, 0, False), (drawn, 0, True), (drawn, 1, True))
    ]
    assert values[0] == values[1]
    assert len({v.item() for v in values}) == 3


def test_subset_of_each_cloud():
    pos, ptr = torch.zeros(17, 3), torch.tensor([0, 10, 13, 17])
    rows, kept = subset(pos, ptr, 4, torch.Generator().manual_seed(0))
    assert kept.tolist() == [0, 4, 7, 11]
    first, second, third = rows.split([4, 3, 4])
    assert len(set(first.tolist())) == 4
    assert set(first.tolist()) <= set(range(10))
    assert sorted(second.tolist()) == [10, 11, 12]
    assert sorted(third.tolist()) == [13, 14, 15, 16]
    drawn = torch.stack([subset(pos, ptr, 4, torch.Generator().manual_seed(s))[0][:4] for s in range(200)])
    # Each of ten points in 80 of 200 draws, with a standard deviation of 7.
    assert (torch.bincount(drawn.flatten(), minlength=10) - 80).abs().max() < 40


@pytest.mark.parametrize("kind", ["farthest", "kmeans"])
def test_anchors_lie_on_what_the_clouds_share(kind):
    generator = torch.Generator().manual_seed(0)
    corners = torch.tensor([[-1.0, -1, -1], [1, 1, -1], [1, -1, 1], [-1, 1, 1]])
    clouds = [(corners[:, None] + 0.02 * torch.randn(4, 50, 3, generator=generator)).flatten(0, 1) for _ in range(6)]
    clouds[0] = torch.cat([clouds[0], torch.tensor([[3.0, 3.0, 3.0]])])  # one point that one cloud has
    anchors = find_anchors(clouds, 4, kind)
    away = torch.cdist(anchors, corners)
    assert sorted(away.argmin(1).tolist()) == [0, 1, 2, 3]
    assert away.amin(1).max() < 0.15
    assert torch.equal(anchors, find_anchors(clouds, 4, kind))
    # The corners of the box of everything, and what is far from them.
    box = find_anchors(clouds, 9, "corners")
    everything = torch.cat(clouds)
    assert {tuple(c) for c in box[:8].tolist()} == {
        (x, y, z) for x, y, z in itertools.product(*torch.stack([everything.amin(0), everything.amax(0)], 1).tolist())
    }
    assert torch.cdist(box[8:], corners).min() < 0.15
    # More keypoints than there are places.
    assert find_anchors([torch.zeros(3, 3)], 5, kind).tolist() == [[0.0] * 3] * 5


def test_a_category_without_annotations(root, config, tmp_path):
    shutil.copytree(root / "pcds", tmp_path / "pcds")
    data = dataclasses.replace(config.data, root=tmp_path)
    everything = open_clouds(data, "train")
    assert len(everything) == 12
    assert not hasattr(everything[0], "keypoints")
    with pytest.raises(FileNotFoundError, match="split 'val'"):
        open_clouds(data, "val")
    shutil.copytree(root / "splits", tmp_path / "splits")
    labelled = open_clouds(config.data, "train")
    assert open_clouds(data, "train").model_ids == labelled.model_ids
    assert torch.equal(open_clouds(data, "train")[0].pos, labelled[0].pos)
    # Trained on all, without anything to validate on.
    shutil.rmtree(tmp_path / "splits")
    path = train_unsupervised(
        dataclasses.replace(config, data=data, optimizer=UnsupervisedOptimizerConfig(steps=4), out=tmp_path / "run")
    )
    assert torch.load(path, weights_only=True)["global_step"] == 4


def test_bad_clouds_are_named(root, config, tmp_path):
    shutil.copytree(root / "pcds", tmp_path / "pcds")
    data = dataclasses.replace(config.data, root=tmp_path)
    folder = next((tmp_path / "pcds").iterdir())
    files = sorted(folder.iterdir())
    write_pcd(files[3], torch.rand(3, 3).numpy())
    with pytest.raises(ValueError, match=rf"`model.num-keypoints` \(=4\).*{files[3].stem} has 3"):
        train_unsupervised(dataclasses.replace(config, data=data, out=tmp_path / "run"))
    files[5].write_text(files[5].read_text()[:400])
    with pytest.raises(ValueError, match=files[5].name):
        train_unsupervised(dataclasses.replace(config, data=data, out=tmp_path / "run"))
    files[5].write_text(files[4].read_text().replace("DATA ascii\n", "DATA ascii\nnan nan nan 0\n", 1))
    with pytest.raises(ValueError, match=files[5].name):
        train_unsupervised(dataclasses.replace(config, data=data, out=tmp_path / "run"))
    assert not (tmp_path / "run").exists()
    with pytest.raises(FileNotFoundError, match="spaceship"):
        open_clouds(dataclasses.replace(data, category="spaceship"), "train")


def test_bad_input():
    for section, values, name in (
        ("model", {"num_keypoints": 1}, "model.num-keypoints"),
        ("model", {"anchor_width": 0.0}, "model.anchor-width"),
        ("optimizer", {"steps": 0}, "optimizer.steps"),
        ("optimizer", {"epochs": 0}, "optimizer.epochs"),
        ("optimizer", {"lr": 0.0}, "optimizer.lr"),
        ("objective", {"num_samples": 0}, "objective.num-samples"),
        ("objective", {"num_loss_points": 0}, "objective.num-loss-points"),
        ("objective", {"min_points": 1}, "objective.min-points"),
        ("objective", {"max_points": 14}, "objective.max-points"),
        ("objective", {"spacing": 0.0}, "objective.spacing"),
        ("objective", {"uncovered": -1.0}, "objective.uncovered"),
        ("objective", {"mirror_weight": float("nan")}, "objective.mirror-weight"),
        ("trainer", {"devices": 3}, "optimizer.batch-size"),
    ):
        part = dataclasses.replace(getattr(UnsupervisedConfig(), section), **values)
        with pytest.raises(ValueError, match=f"`{name}`"):
            UnsupervisedConfig(**{section: part})
    with pytest.raises(ValueError, match=r"`seed` \(=-1\)"):
        UnsupervisedConfig(seed=-1)
    with pytest.raises(ValueError, match="`anchors`"):
        build_merger(SkeletonConfig(anchors="kmeans"))


def test_predictions_of_a_normalized_cloud_are_where_the_checkpoint_puts_them(checkpoint, root, config):
    merger, about = load_skeleton_merger(checkpoint)
    cloud = Normalize("min_max")(open_clouds(config.data, "val")[0])
    out = merger(None, cloud.pos)
    K = about["config"]["model"]["num_keypoints"]
    assert out["keypoints"].shape == (1, K, 3)
    assert out["activation"].shape == (1, num_segments(K))
    # Inside the convex hull of the cloud.
    assert (out["keypoints"] >= cloud.pos.amin(0)).all()
    assert (out["keypoints"] <= cloud.pos.amax(0)).all()
