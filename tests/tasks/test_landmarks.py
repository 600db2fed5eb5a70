"""What is special to landmarks of faces; of maps in general, also two processes and learning by heart."""

from dataclasses import replace

import lightning as L
import pytest
import torch
from PIL import Image
from torch.utils.data import default_collate

from pcsa.datasets.crops import CropAugment
from pcsa.datasets.transforms import item_generator
from pcsa.tasks import get_task, open_run
from pcsa.tasks.common.config import TrainerConfig
from pcsa.tasks.common.engine import EpochSampler
from pcsa.tasks.common.map_task import labels_of
from pcsa.tasks.common.maps import MapObjectiveConfig, map_optimizer
from pcsa.tasks.landmarks import LandmarkModelConfig, LandmarksConfig, LandmarksData

TASK = get_task("landmarks")
STILL = CropAugment(flip=0.0, scale=0.0, rotation=0.0)


@pytest.mark.parametrize("name", ["num_images", "num_test"])
def test_a_bad_value_is_refused_by_its_name(name):
    config = LandmarksConfig()
    with pytest.raises(ValueError, match=rf"`data.{name}` \(=0\) must be at least 1"):
        replace(config, data=replace(config.data, **{name: 0}))


def test_where_positions_count_from_is_configured(tmp_path):
    for i in range(3):
        Image.new("RGB", (100, 80)).save(tmp_path / f"{i}.png")
    (tmp_path / "training.txt").write_text(
        "".join(f"{i}.png 40 60 50 44 56 30 31 40 50 51 1 2 2 3\n" for i in range(3))
    )
    data = LandmarksData(root=tmp_path, num_test=1, input_size=(32, 32))
    for one_based in (True, False):
        items = TASK.open(LandmarksConfig(data=replace(data, one_based=one_based)), "train")
        assert items.source(0)["keypoints"][0].tolist() == [40 - one_based, 30 - one_based]


@pytest.mark.slow
def test_two_processes_step_along_the_mean_of_their_gradients(train_quietly, tmp_path):
    train_quietly(
        f"""landmarks small --data.num-images 12 --data.input-size 32 32 --model.channels 8 8
        --objective.method soft --optimizer.steps 1 --optimizer.batch-size 4 --optimizer.clip 0 --out {tmp_path}
        --trainer.accelerator cpu --trainer.no-progress --trainer.devices 2 --trainer.strategy ddp"""
    )
    run = open_run(tmp_path / "last.ckpt")
    network, config = run.model, run.config
    # By hand. Normalization is over each process's own items, so that one process with all of them steps elsewhere.
    training = TASK.training(config)
    items, module = training.data.train_items, training.module
    before = {name: value.detach().clone() for name, value in module.network.named_parameters()}
    batches = []
    for rank in (0, 1):
        keys = list(EpochSampler(12, config.seed, lambda: 0, rank, 2, 4))[:2]
        batches.append(
            default_collate([items.varied(index, item_generator(config.seed, 0, index)) for _, index in keys])
        )
    counts = [int(batch["visible"].sum()) for batch in batches]
    for batch, count in zip(batches, counts, strict=True):
        # A mean over the landmarks of both.
        loss, _, _ = module.loss(batch, 1.0, torch.Generator())
        (loss * count / sum(counts)).backward()
    assert counts[0] != counts[1]
    right = total = 0
    after = dict(network.named_parameters())
    for name, parameter in module.network.named_parameters():
        # Adam's first step is as long everywhere, against the sign of the gradient; rounding may turn a tiny one.
        sure = parameter.grad.abs() > 1e-3 * parameter.grad.abs().max()
        right += int(((after[name] - before[name])[sure] * parameter.grad[sure] < 0).sum())
        total += int(sure.sum())
    assert total > 1000
    assert right / total > 0.995


@pytest.mark.slow
@pytest.mark.parametrize("method", ["soft", "sampling"])
def test_four_faces_are_learned_by_heart(tmp_path, method):
    config = LandmarksConfig(
        data=LandmarksData(input_size=(32, 32), num_images=4, augment=STILL),
        model=LandmarkModelConfig(channels=(8, 16)),
        objective=MapObjectiveConfig(
            **{"method": method, "norm": "l2", "tempering": "logits", "num_samples": 10},
            **{"temperature": "linear", "temperature_start": 2.0, "temperature_end": 0.5},
        ),
        optimizer=map_optimizer(steps=300, batch_size=4, lr=1e-2),
        trainer=TrainerConfig(accelerator="cpu", progress=False, validate_every=1000, save_every=1000),
        out=tmp_path,
    )
    items = TASK.items(config, "train")
    batch = default_collate([items[i] for i in range(4)])

    def error(network):
        away = (TASK.locate(config, network, batch["image"]).position - batch["keypoints"]).norm(dim=-1)
        return away[batch["visible"]].mean().item()

    L.seed_everything(0, verbose=False)
    untrained = error(TASK.build(config, labels_of(items)).eval())
    network = open_run(TASK.train(config)).model
    assert untrained > 4
    assert error(network) < 0.25 * untrained
