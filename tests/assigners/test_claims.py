"""Taking the cheapest, and keeping what several take."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from dethead.assigners.claims import Claims, cheapest

COSTS = st.sampled_from([-1.0, 0.0, 0.5, 2.0, float("inf")])  # few values: ties are the rule


@given(
    rows=st.integers(1, 7).flatmap(
        lambda width: st.lists(
            st.tuples(st.lists(COSTS, min_size=width, max_size=width), st.integers(0, 9)),
            min_size=1,
            max_size=4,
        )
    )
)
def test_the_cheapest_are_the_first_of_a_stable_sort(rows):
    costs = torch.tensor([row for row, _ in rows]).reshape(len(rows), -1)
    taken = cheapest(costs, torch.tensor([count for _, count in rows], dtype=torch.int64))
    for (row, count), got in zip(rows, taken, strict=True):
        finite = [i for i in range(len(row)) if row[i] < float("inf")]
        assert got.nonzero()[:, 0].tolist() == sorted(sorted(finite, key=row.__getitem__)[:count])


def test_the_highest_claim_keeps_an_anchor_and_of_equal_ones_the_first():
    claims = Claims(4, torch.zeros(0))
    taken = torch.tensor([[True, True, False, False], [True, True, True, False]])
    claims.add(0, taken, torch.tensor([[1.0, 2.0, 9.0, 9.0], [3.0, 2.0, 0.5, 9.0]]))
    claims.add(2, torch.ones(1, 4, dtype=torch.bool), torch.tensor([[3.0, 2.5, 0.5, -7.0]]))
    assert claims.box.tolist() == [1, 2, 1, 2]


def test_what_nobody_takes_belongs_to_no_box():
    claims = Claims(2, torch.zeros(0))
    claims.add(0, torch.zeros(3, 2, dtype=torch.bool), torch.ones(3, 2))
    assert claims.box.tolist() == [-1, -1]
