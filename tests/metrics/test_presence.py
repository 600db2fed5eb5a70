import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from pcsa.metrics import presence_average_precision

NAN = math.nan


def test_average_precision_by_hand(bools):
    # Column 0, by falling score: present, absent, present, present, absent. Precision at the three:
    # 1, 2/3, 3/4; each adds 1/3 of recall. Column 1 ties all: precision 2/5 at recall 1.
    # Column 2: everybody has it; column 3: nobody.
    scores = torch.tensor([[5.0, 0, 0, 0], [4, 0, 1, 1], [3, 0, 2, 2], [2, 0, 3, 3], [1, 0, 4, 4]])
    present = bools("1110", "0010", "1010", "1110", "0010")
    result = presence_average_precision(scores, present)
    np.testing.assert_allclose(result, [(1 + 2 / 3 + 3 / 4) / 3, 2 / 5, NAN, NAN], rtol=1e-6)
    # Order is all that counts, also far up where a float32 sigmoid is flat.
    torch.testing.assert_close(presence_average_precision(scores + 100, present), result, equal_nan=True)
    torch.testing.assert_close(presence_average_precision(1e5 * (scores - 5), present), result, equal_nan=True)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=20))
def test_average_precision_against_a_loop(pairs):
    if len({p for _, p in pairs}) == 1:
        return
    result = presence_average_precision(
        torch.tensor([[float(s)] for s, _ in pairs]), torch.tensor([[p] for _, p in pairs])
    )
    positives = sum(p for _, p in pairs)
    expected = recall = 0.0
    for level in sorted({s for s, _ in pairs}, reverse=True):
        above = [p for s, p in pairs if s >= level]
        expected += (sum(above) / positives - recall) * (sum(above) / len(above))
        recall = sum(above) / positives
    assert result.item() == pytest.approx(expected, abs=1e-6)


P, T, V = torch.zeros(2, 3, 3), torch.ones(2, 3, 3), torch.ones(2, 3, dtype=torch.bool)
D = torch.ones(2, 3)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: presence_average_precision(D, V[:, :1]), "`present`"),
        (lambda: presence_average_precision(D.long(), V), "`scores`"),
        (lambda: presence_average_precision(D * NAN, V), "`scores`"),
    ],
)
def test_bad_input(call, match):
    with pytest.raises(ValueError, match=match):
        call()
