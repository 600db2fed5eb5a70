"""A training for turned clouds, and scores on turned clouds."""

from dataclasses import replace

import pytest
import torch

from pcsa.datasets.rotations import random_turn
from pcsa.datasets.transforms import item_generator
from pcsa.datasets.turning import frames_of
from pcsa.models import KeypointDetector, TurnedDetector
from pcsa.tasks import get_task, open_run
from pcsa.tasks.common.clouds import open_annotated
from pcsa.tasks.common.detector import DetectorConfig
from pcsa.tasks.common.training_clouds import statistics
from pcsa.tasks.common.turned_clouds import CloudEvaluateOptions, cloud_turns, locate_turned
from pcsa.tasks.supervised import DetectionItems

TASK = get_task("supervised")


@pytest.fixture(scope="module", params=["up", "any"])
def turned_run(request, tiny, tmp_path_factory):
    config = tiny("supervised")
    config = replace(
        config,
        model=replace(config.model, rotation=request.param),
        optimizer=replace(config.optimizer, steps=3),
        out=tmp_path_factory.mktemp(request.param),
    )
    return open_run(TASK.train(config))


def test_what_is_found_turns_with_the_cloud(turned_run):
    run = turned_run
    about = 1 if run.config.model.rotation == "up" else None
    assert isinstance(run.model, TurnedDetector)
    assert run.model.up == about
    data = TASK.annotated(run, "val")
    pos = data[0].pos
    plain = TASK.locate(run, [pos], "expectation")
    for seed in range(3):
        turn = random_turn(torch.Generator().manual_seed(seed), about).float()
        found = TASK.locate(run, [pos @ turn.mT], "expectation")
        torch.testing.assert_close(found.position, plain.position @ turn.mT, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(found.covariance, turn @ plain.covariance @ turn.mT, rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(found.logits[0], plain.logits[0], rtol=1e-3, atol=1e-3)
        # Nor is it unlike the training clouds for lying in another way.
        known = run.clouds
        assert known.novelty(pos @ turn.mT).score == pytest.approx(known.novelty(pos).score, rel=1e-3)
    if about is not None:
        # Turned about another axis it is another cloud.
        assert known.novelty(pos[:, [1, 0, 2]]).score != pytest.approx(known.novelty(pos).score, rel=0.01)


def test_training_clouds_come_in_one_of_their_frames(tiny):
    config = tiny("supervised")
    train = open_annotated(config.data, "train")
    plain = DetectionItems(train, config.data.augment, 3)
    framed = DetectionItems(train, config.data.augment, 3, turns="any")
    seen = []
    for epoch in range(12):
        # The same variation, then turned.
        pos = plain.varied(0, item_generator(3, epoch, 0)).pos
        out = framed.varied(0, item_generator(3, epoch, 0))
        assert ((pos @ frames_of(pos)) - out.pos).abs().amax((1, 2)).min() < 1e-5
        seen.append(bool(out.visible.any()))
    assert any(seen)
    assert not all(seen)
    assert torch.equal(framed.plain(0).pos, plain.plain(0).pos)


def test_without_rotation_it_is_the_detector_as_before():
    config = DetectorConfig(out_channels=16)
    assert config.turns("y") == "none"
    assert DetectorConfig(rotation="up").turns("z") == "z"
    assert DetectorConfig(rotation="any").turns("none") == "any"
    with pytest.raises(ValueError, match=r"`model.rotation` \(='up'\) must be 'any'"):
        DetectorConfig(rotation="up").turns("none")


def test_statistics_do_not_depend_on_the_turns_that_are_allowed():
    pos = torch.tensor([3.0, 2.0, 1.0]) * torch.randn(200, 3, generator=torch.Generator().manual_seed(0)).exp()
    for turns, about in (("any", None), ("x", 0), ("z", 2)):
        turn = random_turn(torch.Generator().manual_seed(5), about).float()
        for frame in ("unit_sphere", "min_max"):
            expected = torch.from_numpy(statistics(pos, frame, turns))
            found = torch.from_numpy(statistics(pos @ turn.mT, frame, turns))
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_clouds_are_located_turned_and_what_is_found_turns_back(trained):
    _, _, path = trained("supervised")
    run = open_run(path)
    assert type(run.model) is KeypointDetector
    data = TASK.annotated(run, "val")
    clouds = [data[i].pos.double() for i in range(len(data))]

    def find(given):
        return TASK.locate(run, given, "expectation")

    plain = find(clouds)
    assert torch.equal(locate_turned(find, clouds, None).position, plain.position)
    turns = cloud_turns(CloudEvaluateOptions(path, rotate="any"), data.model_ids, "y")
    found = locate_turned(find, clouds, turns)
    for i, (cloud, turn) in enumerate(zip(clouds, turns, strict=True)):
        middle = cloud.mean(0)
        alone = find([(cloud - middle) @ turn.mT + middle])
        torch.testing.assert_close((found.position[i] - middle) @ turn.mT + middle, alone.position[0])
        back = turn.to(alone.covariance)
        torch.testing.assert_close(back @ found.covariance[i] @ back.mT, alone.covariance[0])
    # This network is not made for it.
    assert (found.position - plain.position).abs().max() > 1e-3


def test_turns_depend_on_seed_and_id_alone(tmp_path):
    options = CloudEvaluateOptions(tmp_path, rotate="up")
    first = cloud_turns(options, ["a", "b"], "z")
    assert torch.equal(cloud_turns(options, ["b"], "z")[0], first[1])
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(cloud_turns(replace(options, rotate_seed=1), ["a"], "z")[0], first[0])
    for turn in first:
        assert turn[2].tolist() == [0, 0, 1]
    assert cloud_turns(CloudEvaluateOptions(tmp_path), ["a"], "none") is None
    with pytest.raises(ValueError, match=r"`rotate` \(='up'\)"):
        cloud_turns(options, ["a"], "none")
