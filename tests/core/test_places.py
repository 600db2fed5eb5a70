import torch
from hypothesis import given, settings, strategies as st

from pcsa._core.places import first_in_place

COORDINATE = st.sampled_from([-0.0, 0.0, 1.0, -1.0, 1e-30, 3e38])


@settings(deadline=None, derandomize=True)
@given(
    rows=st.lists(st.tuples(st.integers(0, 2), COORDINATE, COORDINATE), min_size=1),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_against_a_dictionary(rows, dtype):
    rows.sort(key=lambda row: row[0])
    seen = {}
    # In Python too -0.0 is 0.0.
    expected = [seen.setdefault(row, i) for i, row in enumerate(rows)]
    pos = torch.tensor([row[1:] for row in rows], dtype=dtype)
    assert first_in_place(pos, torch.tensor([row[0] for row in rows])).tolist() == expected


def test_many_places_are_different():
    # Whole numbers differ in few bits: a weak mix of them would call some of these a copy.
    pos = torch.cartesian_prod(*[torch.arange(64.0)] * 3)
    first = first_in_place(pos, torch.arange(4).repeat_interleave(len(pos) // 4))
    assert torch.equal(first, torch.arange(len(pos)))
