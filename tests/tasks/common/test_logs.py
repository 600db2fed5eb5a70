"""Rows of a log survive what happens to their process and their disk."""

import csv
import errno
import os
import sys
import types

import pytest

from pcsa.scripts.report import read_log
from pcsa.tasks.common import logs
from pcsa.tasks.common.logs import RowLogger, describe_run, make_loggers


def rows(logger):
    with open(os.path.join(logger.log_dir, "metrics.csv"), newline="") as lines:
        return [{key: value for key, value in row.items() if value} for row in csv.DictReader(lines)]


def log(logger, step, **values):
    logger.log_metrics(values, step=step)
    logger.save()


def test_rows_are_those_of_lightning(tmp_path):
    from lightning.pytorch.loggers import CSVLogger

    written = []
    for kind in (CSVLogger, RowLogger):
        logger = kind(tmp_path / kind.__name__, name="log")
        log(logger, 1, a=1.5)
        log(logger, 2, a=2.5, b=3)
        log(logger, 3, a=0.1)
        logger.finalize("success")
        written.append((tmp_path / kind.__name__ / "log" / "version_0" / "metrics.csv").read_bytes())
    assert written[0] == written[1]
    assert len(written[1].splitlines()) == 4


def test_a_header_is_replaced_with_all_rows_or_not_at_all(tmp_path, monkeypatch):
    logger = RowLogger(tmp_path, name="log")
    log(logger, 1, a=1.5)

    def broken(*_):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", broken)
        with pytest.raises(OSError, match="what it held before is kept") as error:
            log(logger, 2, b=1.5)
        # The training's own error is the one to hear of.
        logger.finalize("failed")
    assert error.value.filename.endswith("metrics.csv")
    assert rows(logger) == [{"a": "1.5", "step": "1"}]


def test_a_row_that_finds_no_room_is_not_there_and_is_written_later_once(tmp_path, monkeypatch):
    logger = RowLogger(tmp_path, name="log")
    log(logger, 1, a=1.5)

    def no_room(file, content):
        raise OSError(errno.ENOSPC, "No space left on device", file.name)

    with monkeypatch.context() as patch:
        patch.setattr(logs, "append", no_room)
        with pytest.raises(OSError, match="No space"):
            log(logger, 2, a=2.5)
        with pytest.raises(OSError, match="No space"):
            logger.finalize("success")
    logger.finalize("failed")
    assert rows(logger) == [{"a": "1.5", "step": "1"}, {"a": "2.5", "step": "2"}]


@pytest.mark.parametrize("cut", [1, 2, 3, 5])
def test_a_line_that_is_cut_off_is_left_out_and_the_rest_is_read(tmp_path, caplog, cut):
    logger = RowLogger(tmp_path, name="log")
    for step in (1, 2):
        log(logger, step, a=step + 0.25)
    file = tmp_path / "log" / "version_0" / "metrics.csv"
    content = file.read_bytes()
    assert content.endswith(b"2.25,2\r\n")
    file.write_bytes(content[:-cut])
    steps, values = read_log(tmp_path / "log")["a"]
    whole = cut == 1  # the end of a line has two bytes
    assert (steps.tolist(), values.tolist()) == (([1, 2], [1.25, 2.25]) if whole else ([1], [1.25]))
    assert ("its last line is cut off" in caplog.text) == (not whole)
    file.write_bytes(content[:3])
    assert read_log(tmp_path / "log") == {}


def test_the_csv_file_is_always_there_and_tensorboard_beside_it(tmp_path):
    for turn in range(2):
        rows_, board = make_loggers("tensorboard", tmp_path)
        log(rows_, 1, a=1.5)
        board.log_metrics({"a": 1.5}, step=1)
        board.finalize("success")
        folder = tmp_path / "log" / f"version_{turn}"
        assert [file.name.split(".")[0] for file in sorted(folder.iterdir())] == ["events", "hparams", "metrics"]
    assert [type(logger) for logger in make_loggers("csv", tmp_path)] == [RowLogger]


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_what_is_not_installed_is_named_before_anything_begins(name, monkeypatch, tmp_path):
    monkeypatch.setattr(logs, "find_spec", lambda package: None)
    with pytest.raises(ValueError, match=rf"`trainer.logger` \(='{name}'\) needs .*: pip install {name}"):
        make_loggers(name, tmp_path)


class FakeTrackio(types.ModuleType):
    """What TrackioLogger calls of trackio."""

    def __init__(self):
        super().__init__("trackio")
        self.begun, self.rows, self.ended, self.config = [], [], 0, {}

    def init(self, **options):
        self.begun.append(options)
        return self

    def log(self, metrics, step):
        self.rows.append((step, metrics))

    def finish(self):
        self.ended += 1


@pytest.fixture
def trackio(monkeypatch):
    fake = FakeTrackio()
    monkeypatch.setitem(sys.modules, "trackio", fake)
    monkeypatch.setattr(logs, "find_spec", lambda package: object())
    return fake


def test_trackio_gets_the_configuration_and_the_rows(trackio, tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_PROJECT", "mine")
    rows_, logger = make_loggers("trackio", tmp_path / "bed")
    describe_run([rows_, logger], {"task": "oct", "version": "1", "config": {"seed": 3}})
    for each in (rows_, logger):
        log(each, 4, a=0.5)
        each.finalize("success")
    assert trackio.begun == [
        {"project": "mine", "name": "bed", "group": "bed", "auto_log_gpu": False, "auto_log_cpu": False}
    ]
    assert trackio.config == {"seed": 3, "task": "oct", "pcsa": "1"}
    assert trackio.rows == [(4, {"a": 0.5})]
    assert trackio.ended == 1
    assert rows(rows_) == [{"a": "0.5", "step": "4"}]
    # A resumed run is another one of the same group.
    assert make_loggers("trackio", tmp_path / "bed")[1].version == "bed-1"


def test_a_run_that_cannot_begin_is_a_users_mistake(trackio, tmp_path):
    trackio.init = lambda **options: {}["api_key"]
    with pytest.raises(ValueError, match=r"`trainer.logger` \(='trackio'\) cannot begin a run: 'api_key'"):
        describe_run(make_loggers("trackio", tmp_path), {"task": "oct", "version": "1", "config": {}})


def test_weights_and_biases_offline(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    for _ in range(2):
        rows_, logger = make_loggers("wandb", tmp_path / "bed")
        describe_run([rows_, logger], {"task": "oct", "version": "1", "config": {"seed": 3}})
        assert dict(wandb.run.config) == {"seed": 3, "task": "oct", "pcsa": "1"}
        assert (wandb.run.project, wandb.run.group) == ("pcsa", "bed")
        logger.log_metrics({"a": 0.5}, step=4)
        logger.finalize("success")
        # The next training has a run of its own.
        assert wandb.run is None
    assert len(list((tmp_path / "bed" / "log" / "wandb").glob("offline-run-*"))) == 2
