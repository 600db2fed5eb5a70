"""Rows of a log survive what happens to their process and their disk."""

import csv
import errno
import os

import pytest

from pcsa.scripts.report import read_log
from pcsa.tasks.common import logs
from pcsa.tasks.common.logs import RowLogger


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
