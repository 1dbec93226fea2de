"""Taking the cheapest, and keeping what several take."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from dethead.assigners.claims import STRETCH, Claims, cheapest, cheapest_pairs, highest

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
    got = list(zip(*(part.tolist() for part in taken), strict=True))
    assert got == [(n, i) for n, (row, count) in enumerate(rows) for i in first_of_stable_sort(row, count)]


def first_of_stable_sort(costs, count):
    """Places of the ``count`` lowest finite costs, of equal ones the first, in rising order."""
    finite = [i for i in range(len(costs)) if costs[i] < float("inf")]
    return sorted(sorted(finite, key=costs.__getitem__)[:count])


def test_the_cheapest_of_long_rows_are_the_first_of_a_stable_sort():
    generator = torch.Generator().manual_seed(0)
    for width in (1000, 1024, 1333):
        costs = torch.randint(40, (3, width), generator=generator).float()  # some 30 of each cost
        counts = torch.tensor([1, 7, 4])
        row, column = cheapest(costs, counts)
        for index, count in enumerate(counts.tolist()):
            assert column[row == index].tolist() == first_of_stable_sort(costs[index].tolist(), count)


def test_the_cheapest_pairs_are_those_of_each_box_alone():
    box = torch.tensor([0, 0, 0, 2, 2, 3])
    costs = torch.tensor([3.0, 1.0, 1.0, 5.0, 4.0, float("inf")])
    taken = cheapest_pairs(box, costs, torch.tensor([2, 4, 1, 1]))
    assert taken.tolist() == [1, 2, 4]
    assert cheapest_pairs(box[:0], costs[:0], torch.tensor([2])).tolist() == []


@given(width=st.sampled_from([1, 5, 3 * STRETCH, 9 * STRETCH, 9 * STRETCH + 7]), count=st.integers(1, 6))
def test_the_highest_are_the_first_of_a_sort_and_nothing_where_a_row_is_short(width, count):
    values = torch.randint(50, (3, width), generator=torch.Generator().manual_seed(width)).float() - 25
    wanted = torch.full((3, count), -torch.inf)
    wanted[:, :width] = values.sort(dim=1, descending=True).values[:, :count]
    assert torch.equal(highest(values, count), wanted)


def test_the_highest_claim_keeps_an_anchor_and_of_equal_ones_the_first():
    claims = Claims(4, torch.zeros(0))
    taken = torch.tensor([[True, True, False, False], [True, True, True, False]])
    claims.add(0, taken, torch.tensor([[1.0, 2.0, 9.0, 9.0], [3.0, 2.0, 0.5, 9.0]]))
    claims.add(2, torch.ones(1, 4, dtype=torch.bool), torch.tensor([[3.0, 2.5, 0.5, -7.0]]))
    assert claims.box.tolist() == [1, 2, 1, 2]


def test_of_equal_claims_the_first_box_keeps_the_anchor_in_whatever_order_pairs_come():
    claims = Claims(2, torch.zeros(0))
    claims.add_pairs(torch.tensor([3, 1, 2]), torch.tensor([0, 0, 1]), torch.tensor([1.0, 1.0, 0.5]))
    claims.add_pairs(torch.tensor([5, 4]), torch.tensor([0, 1]), torch.tensor([1.0, 0.75]))
    assert claims.box.tolist() == [1, 4]


def test_what_nobody_takes_belongs_to_no_box():
    claims = Claims(2, torch.zeros(0))
    claims.add(0, torch.zeros(3, 2, dtype=torch.bool), torch.ones(3, 2))
    assert claims.box.tolist() == [-1, -1]
