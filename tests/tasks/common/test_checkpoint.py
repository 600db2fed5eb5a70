"""Files of a run: whole or not there, and a checkpoint that can be resumed."""

import json

import pytest
import torch

from pcsa.datasets.files import replacing
from pcsa.tasks.common.checkpoint import check_resumable, read_checkpoint, write_checkpoint, write_json
from pcsa.tasks.common.config import TrainConfig, to_plain


def test_a_file_is_whole_or_as_it_was(tmp_path):
    file = tmp_path / "new" / "a.json"
    write_json(file, {"a": [1.5, None]})
    assert json.loads(file.read_text()) == {"a": [1.5, None]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(file, {"a": float("nan")})

    def cut_short():
        with replacing(file) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cut_short()
    assert json.loads(file.read_text()) == {"a": [1.5, None]}
    assert [f.name for f in file.parent.iterdir()] == ["a.json"]


def test_a_checkpoint_of_before_there_was_an_option_is_resumed(tmp_path):
    config = TrainConfig()
    plain = to_plain(config)
    del plain["optimizer"]["averaging"], plain["init_from"]
    file = tmp_path / "last.ckpt"
    torch.save({"pcsa": {"task": "oct", "config": plain}}, file)
    check_resumable(config, file, "oct")
    plain["optimizer"]["lr"] = 7.0
    torch.save({"pcsa": {"task": "oct", "config": plain}}, file)
    with pytest.raises(ValueError, match=r"`optimizer` .* must be what .* was trained with"):
        check_resumable(config, file, "oct")


def test_a_checkpoint_with_an_option_that_there_is_not_is_named(tmp_path):
    config = TrainConfig()
    plain = to_plain(config)
    plain["optimizer"]["e\x7fochs"] = plain["optimizer"].pop("epochs")
    torch.save({"pcsa": {"task": "oct", "config": plain}}, tmp_path / "last.ckpt")
    with pytest.raises(ValueError, match=r"`optimizer` .* must be what .*last.ckpt` was trained with"):
        check_resumable(config, tmp_path / "last.ckpt", "oct")


@pytest.mark.parametrize("section", ["data", "optimizer", "seed"])
def test_a_checkpoint_that_lost_a_part_is_named(tmp_path, section):
    config = TrainConfig()
    plain = to_plain(config)
    file = tmp_path / "last.ckpt"
    torch.save({"pcsa": {"task": "oct", "config": plain}}, file)
    check_resumable(config, file, "oct")
    del plain[section]
    torch.save({"pcsa": {"task": "oct", "config": plain}}, file)
    with pytest.raises(ValueError, match=f"last.ckpt` must say what it was trained with, .* it has no `{section}`"):
        check_resumable(config, file, "oct")
    torch.save({"pcsa": {"task": "oct"}}, file)
    with pytest.raises(ValueError, match="it has no `data`"):
        check_resumable(config, file, "oct")


def test_a_text_names_a_checkpoint(tmp_path):
    write_checkpoint(str(tmp_path / "a.ckpt"), {"pcsa": {"task": "oct"}, "state_dict": {}})
    assert read_checkpoint(str(tmp_path / "a.ckpt"))["pcsa"] == {"task": "oct"}
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        read_checkpoint(str(tmp_path / "none.ckpt"))
