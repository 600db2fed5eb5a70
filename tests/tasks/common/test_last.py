"""The checkpoint to resume from: when it is written, and how."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from pcsa.tasks import get_task
from pcsa.tasks.common import last
from pcsa.tasks.common.last import WholeCheckpoints


def test_a_kill_while_a_checkpoint_is_written_leaves_the_one_before(tmp_path, monkeypatch):
    path = tmp_path / "last.ckpt"
    WholeCheckpoints().save_checkpoint({"state_dict": {}, "global_step": 1}, path)

    def cut_short(checkpoint, file):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", cut_short)
    with pytest.raises(KeyboardInterrupt):
        WholeCheckpoints().save_checkpoint({"state_dict": {}, "global_step": 2}, path)
    assert torch.load(path, weights_only=True) == {"state_dict": {}, "global_step": 1}


def test_checkpoints_of_earlier_versions_are_resumed_without_a_warning(tmp_path):
    now = last.LastCheckpoint(tmp_path, 2, 5.0)
    before = ModelCheckpoint(dirpath=tmp_path, filename="last", every_n_epochs=2, save_on_train_epoch_end=True)
    assert now.state_key == before.state_key


@pytest.mark.parametrize(
    ("seconds", "every", "expected"),
    # Epochs of two steps and three seconds; the training ends in the middle of the eighth, and writes one more.
    [(0.0, 1, [2, 4, 6, 8, 10, 12, 14, 15, 15]), (3.0, 1, [2, 4, 6, 8, 10, 12, 14, 15, 15]), (0.0, 3, [6, 12, 15]),
     (7.0, 1, [2, 8, 14, 15]), (7.0, 2, [4, 12, 15]), (1e6, 1, [2, 15])],
)  # fmt: skip
def test_a_checkpoint_is_written_after_the_first_epoch_and_then_not_too_often(
    tiny, tmp_path, monkeypatch, seconds, every, expected
):
    task, config = get_task("landmarks"), replace(tiny("landmarks"), out=tmp_path)
    now = [-3.0]
    monkeypatch.setattr(last, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(last.LastCheckpoint, "on_train_epoch_start", lambda *_: now.append(now.pop() + 3.0))
    write, written = last.write_checkpoint, []

    def noted(path, checkpoint):
        written.append(checkpoint["global_step"])
        write(path, checkpoint)

    monkeypatch.setattr(last, "write_checkpoint", noted)
    trainer = replace(config.trainer, save_seconds=seconds, save_every=every)
    path = task.train(replace(config, trainer=trainer, optimizer=replace(config.optimizer, steps=15)))
    assert written == expected
    assert torch.load(path, weights_only=True)["global_step"] == 15
