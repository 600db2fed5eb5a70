"""Whole numbers that are sent to a device once."""

import torch

from pcsa.neighbors import ragged
from pcsa.neighbors.ragged import on_device, tables_kept

META = torch.device("meta")


def test_tables_are_sent_once_where_they_are_kept():
    tables = {}
    with tables_kept(tables):
        first = on_device([0, 4, 8], META)
        assert on_device([0, 4, 8], META) is first
        assert on_device([0, 4, 9], META) is not first
        # On the host, a table costs nothing.
        assert on_device([0, 4], torch.device("cpu")).tolist() == [0, 4]
    assert len(tables) == 2
    assert on_device([0, 4, 8], META) is not first
    with tables_kept(tables):
        assert on_device([0, 4, 8], META) is first
    with tables_kept({}):
        assert on_device([0, 4, 8], META) is not first


def test_no_more_are_kept_than_a_network_needs():
    tables = {}
    with tables_kept(tables):
        for i in range(2 * ragged._MOST_TABLES):
            on_device([i], META)
    assert len(tables) == ragged._MOST_TABLES
