"""Multi-scale training: which batch has which size."""

from collections import Counter

import pytest

from dethead.data.input_sizes import InputSizes, SizedKey
from dethead.data.orders import Uniform
from dethead.data.sampling import EpochBatches

CHOICES = ((32, 32), (64, 64), (96, 64))


def sizes_of(sampler: EpochBatches) -> list[tuple[int, int]]:
    """The size of each batch, which all its keys must have."""
    found = []
    for batch in sampler:
        sizes = {key.size for key in batch if isinstance(key, SizedKey)}
        assert len(sizes) == 1
        found.append(sizes.pop())
    return found


def batches(
    rank: int = 0, processes: int = 1, start: int = 0, epoch: int = 0, **options: int
) -> EpochBatches:
    return EpochBatches(
        Uniform(80),
        4,
        seed=1,
        epoch=epoch,
        drop_last=True,
        rank=rank,
        processes=processes,
        start=start,
        sizes=InputSizes(CHOICES, **options),
    )


def test_all_sizes_come_alike_often() -> None:
    sizes = InputSizes(CHOICES)

    drawn = Counter(sizes(0, epoch, batch) for epoch in range(30) for batch in range(100))

    assert drawn.keys() == {*CHOICES}
    assert all(900 < count < 1100 for count in drawn.values())  # 1000 +- 26


def test_the_size_is_a_function_of_seed_epoch_and_batch() -> None:
    first = sizes_of(batches())

    assert sizes_of(batches()) == first
    assert sizes_of(batches(epoch=1)) != first
    assert [InputSizes(CHOICES)(2, 0, batch) for batch in range(20)] != first


@pytest.mark.parametrize("processes", [2, 4])
def test_all_processes_have_the_same_sizes(processes: int) -> None:
    for rank in range(processes):
        assert sizes_of(batches(rank, processes)) == sizes_of(batches())


@pytest.mark.parametrize("start", [1, 7])
def test_a_resume_goes_on_with_the_sizes_that_were_left(start: int) -> None:
    assert sizes_of(batches(start=start)) == sizes_of(batches())[start:]


def test_micro_batches_of_a_step_share_the_size_of_the_step() -> None:
    halves = sizes_of(batches(micro_batches=2))

    assert halves[::2] == halves[1::2]
    assert halves[::2] == sizes_of(batches())[:10]


def test_without_sizes_keys_are_as_before() -> None:
    plain = EpochBatches(Uniform(80), 4, seed=1, epoch=0, drop_last=True)

    assert [[key.key for key in batch] for batch in batches()] == [*plain]
