"""What is special to Skeleton Merger's training: its reconstruction, its anchors, and clouds without labels."""

import csv
import itertools
import shutil
from dataclasses import replace

import pytest
import torch
from torch_geometric.data import Batch, Data

from pcsa.datasets.pcd import write_pcd
from pcsa.datasets.transforms import Augment, Normalize
from pcsa.losses import keypoint_contrast, place_spread
from pcsa.skeleton import num_segments, segment_support
from pcsa.tasks import get_task, open_run
from pcsa.tasks.common.reconstruction import subset
from pcsa.tasks.unsupervised import (
    LEAST_SUPPORT,
    SUPPORT_RADIUS,
    MergerLabels,
    ReconstructionConfig,
    SkeletonConfig,
    UnsupervisedConfig,
    find_anchors,
    open_clouds,
    reconstruction,
)

TASK = get_task("unsupervised")


@pytest.fixture(scope="module")
def config(tiny):
    return tiny("unsupervised")


def test_keypoints_are_numbered_and_anchors_are_kept(trained):
    _, config, path = trained("unsupervised")
    run = open_run(path)
    assert run.labels == MergerLabels("chair", ("0", "1", "2", "3"))
    anchors = TASK.training(config).data.train_items.anchors(config.model)
    assert anchors.shape == (4, 3)
    assert torch.equal(run.model.anchors, anchors)


def test_log_has_losses_activations_and_validation(trained):
    _, _, path = trained("unsupervised")
    header = (path.parent / "log" / "version_0" / "metrics.csv").read_text().splitlines()[0].split(",")
    wanted = "loss loss_fidelity loss_coverage loss_offsets loss_separation loss_mirror activation active_segments"
    assert {*wanted.split(), "nearest_keypoints", "temperature", "val_loss", "val_coverage"} <= set(header)


@pytest.mark.parametrize(
    ("objective", "model", "optimizer"),
    [
        (
            {"read_out": "soft"},
            {"anchors": "corners", "box_features": True},
            {"kind": "adadelta", "lr": 1.0, "schedule": "constant"},
        ),
        (
            {"tempering": "logits", "bandwidth": 0.01, "basis_noise": "mixture"},
            {"competition": True, "anchors": "corners"},
            {"epochs": 1},
        ),
        ({"temperature": "constant", "temperature_start": 2.0}, {"scales": "merger", "anchors": "none"}, {}),
        ({"contrast_weight": 0.1, "spread_weight": 1.0}, {"anchors": "repeated"}, {}),
    ],
    ids=["soft", "tempered logits", "merger's network", "terms between shapes"],
)
def test_every_option_takes_finite_steps(config, weights, objective, model, optimizer, tmp_path):
    changed = replace(
        config,
        objective=replace(config.objective, **objective),
        model=replace(config.model, **model),
        optimizer=replace(config.optimizer, **{"steps": 2, **optimizer}),
        out=tmp_path,
    )
    path = TASK.train(changed)
    assert torch.load(path, weights_only=True)["global_step"] == 2
    assert all(value.isfinite().all() for value in weights(path).values())
    open_run(path, task="unsupervised")


@pytest.mark.slow
def test_training_lowers_the_loss(config, tmp_path):
    changed = replace(
        config,
        data=replace(config.data, augment=Augment()),
        # From the middle of the clouds, where there is most to learn, and without noise.
        model=SkeletonConfig(num_keypoints=5, out_channels=16, anchors="none", box_features=False),
        objective=ReconstructionConfig(read_out="soft", num_loss_points=None),
        optimizer=replace(config.optimizer, steps=40, lr=5e-3),
        trainer=replace(config.trainer, validate_every=20),
        out=tmp_path,
    )
    TASK.train(changed)
    with (tmp_path / "log" / "version_0" / "metrics.csv").open() as file:
        values = [float(row["loss"]) for row in csv.DictReader(file) if row["loss"]]
    assert len(values) == 4
    assert values[-1] < 0.75 * values[0]


def test_clouds_are_in_the_frame_of_the_dual_alignment_score(config):
    items = TASK.training(config).data.train_items
    for key in (0, (0, 0), (5, 1)):  # as it is, and augmented
        pos = items[key].pos
        assert pos.min() == pytest.approx(-1, abs=1e-6)
        assert pos.max() == pytest.approx(1, abs=1e-6)
    first, again, later = (items[key].pos for key in ((0, 0), (0, 0), (1, 0)))
    assert torch.equal(first, again)
    assert not torch.equal(first, later)


def test_expectation_of_the_reconstruction_ignores_samples_and_subsets(config):
    torch.manual_seed(0)
    model = SkeletonConfig(num_keypoints=4, out_channels=16, anchors="none")
    merger = TASK.build(replace(config, model=model), MergerLabels("chair", ("0", "1", "2", "3"))).eval()
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


def test_terms_between_shapes_are_those_of_the_maps(config):
    torch.manual_seed(0)
    model = SkeletonConfig(num_keypoints=4, out_channels=16, anchors="none")
    merger = TASK.build(replace(config, model=model), MergerLabels("chair", ("0", "1", "2", "3"))).eval()
    pos = torch.rand(3, 80, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([2.0, 1.0, 0.5]) - 0.3
    batch = Batch.from_data_list([Data(pos=p) for p in pos])
    plain = ReconstructionConfig(read_out="soft", num_loss_points=None)

    def terms(**weights):
        weighted = replace(plain, **weights)
        return reconstruction(weighted, merger, batch, 0.5, torch.Generator())

    without, parts = terms()
    assert not {"loss_contrast", "loss_spread"} & set(parts)
    with_both, parts = terms(contrast_weight=0.5, contrast_temperature=0.3, spread_weight=2.0)
    torch.testing.assert_close(with_both, without + 0.5 * parts["loss_contrast"] + 2 * parts["loss_spread"])
    looks, places = [], []
    for cloud in pos:
        out = merger(None, cloud, with_features=True)
        low, high = cloud.amin(0), cloud.amax(0)
        prob = out["logits"].softmax(0)
        looks.append(prob.t() @ out["features"])
        # A mean in the box is the box's place of the mean.
        places.append((2 * out["keypoints"][0] - low - high) / (high - low))
    torch.testing.assert_close(parts["loss_contrast"], keypoint_contrast(torch.stack(looks), temperature=0.3))
    torch.testing.assert_close(parts["loss_spread"], place_spread(torch.stack(places)))
    with_both.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in merger.parameters())


def test_pictures_show_the_segments_that_a_shape_has(trained):
    _, config, path = trained("unsupervised")
    run = open_run(path)
    pos = open_clouds(config.data, "val")[0].pos
    located = TASK.locate(run, [pos], "expectation")
    scene = TASK.scene(run, pos, located, 0, "expectation", title="one")
    diagonal = float((pos.amax(0) - pos.amin(0)).norm())
    support = segment_support(located.position.to(pos), pos, radius=SUPPORT_RADIUS * diagonal)[0]
    assert scene.activation.tolist() == pytest.approx([x if x >= LEAST_SUPPORT else 0.0 for x in support.tolist()])
    assert len(scene.segments) == num_segments(config.model.num_keypoints)
    # A cloud without extent has none.
    point = torch.zeros(1, 3)
    assert TASK.scene(run, point, TASK.locate(run, [point], "expectation"), 0, "expectation", title="").segments is None


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


def test_anchors_lie_on_what_the_clouds_share():
    generator = torch.Generator().manual_seed(0)
    corners = torch.tensor([[-1.0, -1, -1], [1, 1, -1], [1, -1, 1], [-1, 1, 1]])
    clouds = [(corners[:, None] + 0.02 * torch.randn(4, 50, 3, generator=generator)).flatten(0, 1) for _ in range(6)]
    clouds[0] = torch.cat([clouds[0], torch.tensor([[3.0, 3.0, 3.0]])])  # one point that one cloud has
    anchors = find_anchors(clouds, 4, "farthest")
    away = torch.cdist(anchors, corners)
    assert sorted(away.argmin(1).tolist()) == [0, 1, 2, 3]
    assert away.amin(1).max() < 0.15
    assert torch.equal(anchors, find_anchors(clouds, 4, "farthest"))
    # The corners of the box of everything, and what is far from them.
    box = find_anchors(clouds, 9, "corners")
    everything = torch.cat(clouds)
    assert {tuple(c) for c in box[:8].tolist()} == {
        (x, y, z) for x, y, z in itertools.product(*torch.stack([everything.amin(0), everything.amax(0)], 1).tolist())
    }
    assert torch.cdist(box[8:], corners).min() < 0.15
    # More keypoints than there are places.
    assert find_anchors([torch.zeros(3, 3)], 5, "farthest").tolist() == [[0.0] * 3] * 5


def test_a_category_without_annotations(clouds_root, config, tmp_path):
    shutil.copytree(clouds_root / "pcds", tmp_path / "pcds")
    data = replace(config.data, root=tmp_path)
    everything = open_clouds(data, "train")
    assert len(everything) == 12
    assert not hasattr(everything[0], "keypoints")
    with pytest.raises(FileNotFoundError, match="split 'val'"):
        open_clouds(data, "val")
    shutil.copytree(clouds_root / "splits", tmp_path / "splits")
    labeled = open_clouds(config.data, "train")
    assert open_clouds(data, "train").model_ids == labeled.model_ids
    assert torch.equal(open_clouds(data, "train")[0].pos, labeled[0].pos)
    # Trained on all, without anything to validate on.
    shutil.rmtree(tmp_path / "splits")
    path = TASK.train(replace(config, data=data, optimizer=replace(config.optimizer, steps=4), out=tmp_path / "run"))
    assert torch.load(path, weights_only=True)["global_step"] == 4


def test_bad_clouds_are_named(clouds_root, config, tmp_path):
    shutil.copytree(clouds_root / "pcds", tmp_path / "pcds")
    data = replace(config.data, root=tmp_path)
    folder = next((tmp_path / "pcds").iterdir())
    files = sorted(folder.iterdir())
    write_pcd(files[3], torch.rand(3, 3).numpy())
    with pytest.raises(ValueError, match=rf"`model.num_keypoints` \(=4\).*{files[3].stem} has 3"):
        TASK.train(replace(config, data=data, out=tmp_path / "run"))
    files[5].write_text(files[5].read_text()[:400])
    with pytest.raises(ValueError, match=files[5].name):
        TASK.train(replace(config, data=data, out=tmp_path / "run"))
    files[5].write_text(files[4].read_text().replace("DATA ascii\n", "DATA ascii\nnan nan nan 0\n", 1))
    with pytest.raises(ValueError, match=files[5].name):
        TASK.train(replace(config, data=data, out=tmp_path / "run"))
    assert not (tmp_path / "run").exists()
    with pytest.raises(FileNotFoundError, match="spaceship"):
        open_clouds(replace(data, category="spaceship"), "train")


@pytest.mark.parametrize(
    ("section", "values", "name"),
    [
        ("model", {"num_keypoints": 1}, "model.num_keypoints"),
        ("model", {"anchor_width": 0.0}, "model.anchor_width"),
        ("objective", {"num_loss_points": 0}, "objective.num_loss_points"),
        ("objective", {"min_points": 1}, "objective.min_points"),
        ("objective", {"max_points": 14}, "objective.max_points"),
        ("objective", {"spacing": 0.0}, "objective.spacing"),
        ("objective", {"uncovered": -1.0}, "objective.uncovered"),
        ("objective", {"mirror_weight": float("nan")}, "objective.mirror_weight"),
        ("objective", {"contrast_weight": -1.0}, "objective.contrast_weight"),
        ("objective", {"contrast_temperature": 0.0}, "objective.contrast_temperature"),
        ("objective", {"spread_weight": -1.0}, "objective.spread_weight"),
    ],
)
def test_a_bad_value_is_refused_by_its_name(section, values, name):
    part = replace(getattr(UnsupervisedConfig(), section), **values)
    with pytest.raises(ValueError, match=f"`{name}`"):
        UnsupervisedConfig(**{section: part})


def test_predictions_of_a_normalized_cloud_are_where_the_checkpoint_puts_them(trained):
    _, config, path = trained("unsupervised")
    merger, K = open_run(path).model, config.model.num_keypoints
    cloud = Normalize("min_max")(open_clouds(config.data, "val")[0])
    out = merger(None, cloud.pos)
    assert out["keypoints"].shape == (1, K, 3)
    assert out["activation"].shape == (1, num_segments(K))
    # Inside the convex hull of the cloud.
    assert (out["keypoints"] >= cloud.pos.amin(0)).all()
    assert (out["keypoints"] <= cloud.pos.amax(0)).all()
