import pytest

from dethead.data.orders import InTurn, Order, Uniform
from dethead.data.sampling import EpochBatches, Key


class Repeated:
    """Image 0, 1, ... 4, and again."""

    length = 11

    def __call__(self, seed: int, epoch: int) -> list[int]:
        return [place % 5 for place in range(self.length)]


def keys_of(order: Order, batch_size: int = 4, **options: int) -> list[list[Key]]:
    settings = {"seed": 0, "epoch": 0, "drop_last": True} | options
    sampler = EpochBatches(order, batch_size, **settings)  # type: ignore[arg-type]
    batches = [*sampler]
    assert len(batches) == len(sampler)
    return batches


def plan(num_images: int = 23, batch_size: int = 4, shuffle: bool = True, **options: int) -> list[list[int]]:
    order = Uniform(num_images) if shuffle else InTurn(num_images)
    return [[key[1] for key in batch] for batch in keys_of(order, batch_size, **options)]


def test_an_epoch_shows_every_image_once() -> None:
    batches = plan(drop_last=False)

    assert sorted(index for batch in batches for index in batch) == [*range(23)]
    assert [len(batch) for batch in batches] == [4, 4, 4, 4, 4, 3]


def test_drop_last_leaves_out_the_rest() -> None:
    assert [len(batch) for batch in plan()] == [4] * 5


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    assert plan() == plan()
    assert plan(epoch=1) != plan()
    assert plan(seed=1) != plan()
    # seed + epoch would make these two the same.
    assert plan(seed=1, epoch=0) != plan(seed=0, epoch=1)


def test_unshuffled_is_the_order_of_the_data_set() -> None:
    assert plan(num_images=5, batch_size=2, shuffle=False, drop_last=False) == [[0, 1], [2, 3], [4]]


@pytest.mark.parametrize("processes", [2, 3, 4])
def test_processes_share_the_same_global_batches(processes: int) -> None:
    shares = [plan(rank=rank, processes=processes) for rank in range(processes)]

    for step, batch in enumerate(plan()):
        assert sorted(index for share in shares for index in share[step]) == sorted(batch)


@pytest.mark.parametrize("num_images", [1, 7, 8, 9, 13])
def test_evaluation_shows_every_image_once_over_all_processes(num_images: int) -> None:
    options = {"num_images": num_images, "shuffle": False, "drop_last": False, "processes": 4}

    seen = [index for rank in range(4) for batch in plan(rank=rank, **options) for index in batch]

    assert sorted(seen) == [*range(num_images)]


@pytest.mark.parametrize("start", [0, 1, 5])
@pytest.mark.parametrize("rank", [0, 1])
def test_a_resume_sees_exactly_what_was_left(start: int, rank: int) -> None:
    assert plan(start=start, rank=rank, processes=2) == plan(rank=rank, processes=2)[start:]


def test_keys_carry_the_epoch_and_set_epoch_moves_on() -> None:
    sampler = EpochBatches(Uniform(6), 2, seed=0, epoch=0, drop_last=True, start=1)
    sampler.set_epoch(5)

    keys = [key for batch in sampler for key in batch]

    assert {key[0] for key in keys} == {5}
    assert [key[1] for key in keys] == [index for batch in plan(6, 2, epoch=5) for index in batch]


def test_keys_count_how_often_the_epoch_showed_an_image_before() -> None:
    batches = keys_of(Repeated(), 4, epoch=2, drop_last=False)

    assert batches == [
        [(2, 0), (2, 1), (2, 2), (2, 3)],
        [(2, 4), (2, 0, 1), (2, 1, 1), (2, 2, 1)],
        [(2, 3, 1), (2, 4, 1), (2, 0, 2)],
    ]


def test_repetitions_count_alike_after_a_resume_and_on_every_process() -> None:
    whole = keys_of(Repeated())

    assert keys_of(Repeated(), start=1) == whole[1:]
    shares = [keys_of(Repeated(), rank=rank, processes=2, start=1) for rank in (0, 1)]
    assert [sorted(first + second) for first, second in zip(*shares, strict=True)] == [
        sorted(batch) for batch in whole[1:]
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 2, "processes": 3}, "batch_size 2 .* at least processes 3"),
        ({"rank": 2, "processes": 2}, r"rank 2 be in \[0, 2\)"),
        ({"num_images": 3}, "3 images do not fill one batch of 4"),
        ({"num_images": 9, "drop_last": False, "processes": 2}, "a last batch of 1 images is too small"),
        ({"start": 6}, r"start 6 in \[0, 5\]"),
        ({"epoch": -1}, "epoch -1"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plan(**options)
