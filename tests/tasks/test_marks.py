"""Training a detector on all marks of its keypoints, and holding its covariances against them."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch_geometric.data import Batch

from pcsa import losses
from pcsa.datasets.custom import LabeledCloud, write_labeled
from pcsa.datasets.transforms import Augment
from pcsa.scripts.cli import main
from pcsa.tasks import get_task
from pcsa.tasks.common.clouds import open_annotated
from pcsa.tasks.common.detection_loss import detection_loss, places_to_learn
from pcsa.tasks.common.held_to_marks import deal
from pcsa.tasks.supervised import DetectionItems, ObjectiveConfig

TASK = get_task("supervised")
NAMES = ["nose", "tail", "top"]


def write(root, marks=5, count=12, together=2, category="blob"):
    """Ellipsoids whose three ends several people marked; every two of them are of one animal."""
    rng = np.random.default_rng(0)
    clouds = []
    for i in range(count):
        direction = rng.normal(size=(200, 3))
        pos = direction / np.linalg.norm(direction, axis=1, keepdims=True) * [3 + 0.1 * i, 2, 1] + 5
        ends = pos[[pos[:, 0].argmax(), pos[:, 0].argmin(), pos[:, 2].argmax()]]
        spread = np.array([0.05, 0.1, 0.3])
        # They disagree, and some left one out.
        made = [
            place + s * rng.normal(size=(marks - (i % 2 and marks > 1), 3))
            for place, s in zip(ends, spread, strict=True)
        ]
        means = np.array([m.mean(0) for m in made])
        clouds.append(LabeledCloud(pos, means, NAMES, None, f"{i:02d}", made))
    groups = [str(i // together) for i in range(count)]
    write_labeled(root, category, clouds, snap=False, fractions=(0.5, 0.5, 0), seed=0, groups=groups)
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write(tmp_path_factory.mktemp("marked"))


@pytest.fixture(scope="module")
def config(tiny, root):
    config = tiny("supervised")
    data = replace(config.data, root=root, category="blob", augment=Augment(scale=0.1, shift=0.1, rotate=10))
    return replace(config, data=data, objective=ObjectiveConfig(method="nll", targets="marks"))


def test_a_batch_has_marks_only_where_they_are_learned(config):
    train = open_annotated(config.data, "train")
    plain, marked = (DetectionItems(train, config.data.augment, 0, marks=m) for m in (False, True))
    assert "marks" not in plain[0, 0]
    item = marked[0, 0]
    assert item.marks.shape == (1, 3, 5, 3)
    assert item.marks.dtype == torch.float32
    # Whatever was drawn, the mean of the marks is the keypoint, and the draws are the same.
    mean = torch.where(item.marked[..., None], item.marks, 0.0).sum(2) / item.marked.sum(2)[..., None]
    torch.testing.assert_close(mean, item.keypoints, atol=1e-5, rtol=1e-5)
    assert torch.equal(item.pos, plain[0, 0].pos)


@pytest.fixture
def batch(config):
    items = DetectionItems(open_annotated(config.data, "train"), Augment(), 0, marks=True)
    return Batch.from_data_list([items[0, i] for i in range(4)])


@pytest.fixture
def predicted():
    logits = torch.randn(800, 3, generator=torch.Generator().manual_seed(0))
    return {"logits": logits, "presence": torch.zeros(4, 3)}


@pytest.mark.parametrize("method", ["nll", "cross_entropy", "soft_label"])
def test_the_loss_is_that_of_each_mark(batch, predicted, method):
    assert not batch.marked.all()
    generator = torch.Generator().manual_seed(0)
    objective = ObjectiveConfig(method=method, targets="marks", bandwidth=0.1, presence_weight=0.0)
    term = {
        "nll": lambda target, **o: losses.mixture_nll(predicted["logits"], batch.pos, 0.1, target, **o),
        "cross_entropy": lambda target, **o: losses.nearest_point_cross_entropy(
            predicted["logits"], batch.pos, target, **o
        ),
        "soft_label": lambda target, **o: losses.soft_label_cross_entropy(
            predicted["logits"], batch.pos, 0.03, target, **o
        ),
    }[method]
    each = [
        term(batch.marks[:, :, m], ptr=batch.ptr, visible=batch.marked[:, :, m], reduction="none") for m in range(5)
    ]
    expected = (sum(each) / batch.marked.sum(2)).mean()
    for size in (None, 200):
        loss, parts = detection_loss(objective, predicted, batch, 1.0, generator, size)
        torch.testing.assert_close(loss, expected)
        torch.testing.assert_close(parts["localization"], expected)


def test_the_expectation_beside_all_marks_learns_their_mean(batch, predicted):
    generator = torch.Generator()
    both, alone = (
        ObjectiveConfig(method="nll", plus=plus, targets="marks", bandwidth=0.1, presence_weight=0.0)
        for plus in ((("soft", 2.0),), ())
    )
    (loss, parts), (marks, _) = (detection_loss(o, predicted, batch, 1.0, generator) for o in (both, alone))
    soft = losses.expectation_error(
        predicted["logits"], batch.pos, batch.keypoints, ptr=batch.ptr, visible=batch.visible, norm="l2"
    )
    torch.testing.assert_close(loss, marks + 2 * soft)
    torch.testing.assert_close((parts["nll"], parts["soft"]), (marks, soft))


def test_a_keypoint_that_nobody_marked_has_its_own_place():
    marks, marked = torch.randn(1, 3, 2, 3), torch.tensor([[[True, True], [False, False], [False, False]]])
    keypoints, visible = torch.randn(1, 3, 3), torch.tensor([[True, True, False]])
    places, there = places_to_learn(marks, marked, keypoints, visible)
    assert there[0].tolist() == [[True, True], [True, False], [False, False]]
    assert torch.equal(places[0, 0], marks[0, 0])
    assert torch.equal(places[0, 1, 0], keypoints[0, 1])


def test_one_mark_is_the_training_of_today_bit_for_bit(config, weights, same, tmp_path):
    data = replace(config.data, root=write(tmp_path / "one", marks=1))
    optimizer = replace(config.optimizer, steps=3)

    def trained(targets, method="nll"):
        objective = ObjectiveConfig(method=method, targets=targets)
        made = replace(
            config, data=data, objective=objective, optimizer=optimizer, out=tmp_path / f"{targets}-{method}"
        )
        return weights(TASK.train(made))

    for method in ("nll", "cross_entropy"):
        assert same(trained("mean", method), trained("marks", method))


@pytest.mark.parametrize("method", ["sampling", "soft", "discrete", "mixture"])
def test_an_objective_of_one_place_is_refused(config, method):
    message = f"`objective.targets` .='marks'. must be 'mean' with the method '{method}'"
    with pytest.raises(ValueError, match=message):
        replace(config, objective=ObjectiveConfig(method=method, norm="squared", targets="marks"))
    if method != "soft":
        with pytest.raises(ValueError, match=message):
            replace(config, objective=replace(config.objective, plus=((method, 1.0),), norm="squared"))


def test_labels_along_the_surface_are_refused(config):
    objective = ObjectiveConfig(method="soft_label", label_distance="geodesic", targets="marks")
    with pytest.raises(ValueError, match=r"`objective.label_distance` \(='geodesic'\) must be 'euclidean'"):
        replace(config, objective=objective)


def test_a_root_without_marks_is_refused(config, clouds_root):
    data = replace(config.data, root=clouds_root, category="chair")
    with pytest.raises(ValueError, match=r"`objective.targets` \(='marks'\) must be 'mean' for `data.root` .*'chair'"):
        TASK.training(replace(config, data=data))


def test_trained_on_marks_and_held_against_them(config, tmp_path, capsys):
    made = replace(config, optimizer=replace(config.optimizer, steps=8), out=tmp_path / "run")
    path = TASK.train(made)
    out = tmp_path / "metrics.json"
    flags = "--no-geodesic --no-progress --device cpu --read-out median"
    assert main(["evaluate", str(path), *flags.split(), "--out", str(out)]) == 0
    table = capsys.readouterr().out
    metrics = json.loads(out.read_text())
    found = metrics["marks"]
    val = open_annotated(config.data, "val")
    count = sum(int(val[i].marked.sum()) for i in range(len(val)))
    assert (found["num_marks"], found["num_keypoints"], found["num_shapes"]) == (count, 3 * len(val), len(val))
    for part in ("people's marks", "inside 80 %", "a constant one for each keypoint", "the mixture, calibrated"):
        assert part in table
    line = next(line for line in table.splitlines() if line.startswith("| as predicted"))
    assert f"{100 * found['rows']['predicted']['coverage'][1]:.1f} (" in line
    assert list(found["per_keypoint"]) == NAMES
    # People disagree the more the farther the keypoint is down the list.
    spread = [one["human_spread"] for one in found["per_keypoint"].values()]
    assert spread == sorted(spread)
    assert spread == pytest.approx([0.05 * 3**0.5, 0.1 * 3**0.5, 0.3 * 3**0.5], rel=0.5)
    assert set(found["per_shape"]) == set(val.model_ids)
    # Clouds of one animal lie in one part: what one is judged by has seen neither.
    groups = [found["per_shape"][name]["group"] for name in val.model_ids]
    assert len(set(groups)) == 3
    assert groups == [val.groups[name] for name in val.model_ids]
    parts = deal(groups)
    assert len(set(parts)) == 3
    away = np.concatenate([np.array(m).reshape(-1, 3) for s in found["per_shape"].values() for m in s["away"]])
    assert found["mark_distance"] == pytest.approx(np.linalg.norm(away, axis=1).mean(), rel=1e-4)


def test_a_root_without_marks_has_no_such_table(trained, tmp_path, capsys):
    _, _, path = trained("supervised")
    out = tmp_path / "metrics.json"
    assert main(["evaluate", str(path), "--no-geodesic", "--no-progress", "--device", "cpu", "--out", str(out)]) == 0
    assert "people's marks" not in capsys.readouterr().out
    assert "marks" not in json.loads(out.read_text())
