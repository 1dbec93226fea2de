"""Orders of images: how often each is shown, counted by hand, the same for the same seed and epoch."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from coco_files import annotation, image

from dethead.data.coco import CocoSet
from dethead.data.orders import ClassAware, InTurn, Order, RepeatFactor, Uniform
from dethead.data.sampling import EpochBatches
from dethead.data.seeds import seed_of

PERSON, CAR, TRUCK = 1, 3, 8


@pytest.fixture
def coco(write_coco: Callable[..., Path]) -> Callable[[Sequence[Sequence[int]]], CocoSet]:
    """Make the set whose image k has objects of the categories k."""

    def make(categories: Sequence[Sequence[int]]) -> CocoSet:
        boxes = [(place, category) for place, found in enumerate(categories) for category in found]
        return CocoSet.read(
            write_coco(
                [
                    annotation(number, place, category=category)
                    for number, (place, category) in enumerate(boxes)
                ],
                images=[image(place) for place in range(len(categories))],
            )
        )

    return make


Make = Callable[[Sequence[Sequence[int]]], CocoSet]

# 16 images: cars in 12 of them, persons in 4, a truck in 1 beside cars, 2 images without objects.
STREET = [[CAR]] * 9 + [[CAR, CAR, TRUCK], [CAR, PERSON], [CAR, PERSON], [PERSON], [PERSON], [], []]


def test_uniform_is_the_permutation_that_every_run_so_far_was_trained_with() -> None:
    generator = torch.Generator().manual_seed(seed_of(7, 3))

    assert Uniform(50)(7, 3) == torch.randperm(50, generator=generator).tolist()


def test_repeat_factors_by_hand(coco: Make) -> None:
    # f = 4/16, 12/16, 1/16; with t = 1/2: sqrt(2), 1, sqrt(8).
    factors = RepeatFactor.of(coco(STREET), 0.5).factors.tolist()

    assert factors[:9] == [1] * 9
    assert factors[9:14] == pytest.approx([8**0.5] + [2**0.5] * 4, rel=1e-12)
    assert factors[14:] == [1, 1]


def test_a_crowd_and_an_object_of_unknown_class_make_no_image_one_of_a_class(
    write_coco: Callable[..., Path],
) -> None:
    boxes = [annotation(1, 0, iscrowd=1), annotation(2, 1, category=None), annotation(3, 2)]
    found = CocoSet.read(write_coco(boxes, images=[image(place) for place in range(3)]))

    assert RepeatFactor.of(found, 1.0).factors.tolist() == pytest.approx([1, 1, 3**0.5])
    assert ClassAware.of(found).rest.tolist() == [0, 1]


def test_every_epoch_shows_an_image_its_factor_rounded_down_or_up_times(coco: Make) -> None:
    # 11 images of factor 1, one of 2.83, four of 1.41: 19.49 in all, so 19 in an epoch. A twentieth is cut.
    order = RepeatFactor.of(coco(STREET), 0.5)

    assert order.length == 19
    for epoch in range(100):
        times = Counter(order(0, epoch))
        assert sum(times.values()) == 19
        assert sum(times[index] == 0 for index in range(16)) <= 1
        assert all(times[index] <= 2 for index in range(10, 14))
        assert times[9] in (1, 2, 3)
        assert all(times[index] <= 1 for index in [*range(9), 14, 15])


def test_over_many_epochs_images_are_shown_as_often_as_their_factors_say() -> None:
    factors = torch.tensor([1.0, 1.25, 1.5, 2.0, 2.75, 1.5])  # 10 in all: nothing is cut off

    shown = Counter(index for epoch in range(2000) for index in RepeatFactor(factors)(0, epoch))

    # A share p of 2000 epochs has a standard deviation of at most 0.011: four of them.
    assert [shown[index] / 2000 for index in range(6)] == pytest.approx(factors.tolist(), abs=0.045)


def test_images_of_equal_factors_are_not_repeated_in_fixed_company() -> None:
    order = RepeatFactor(torch.full((4,), 1.5))  # an epoch repeats two of the four

    pairs = {
        tuple(index for index, times in Counter(order(0, epoch)).items() if times == 2)
        for epoch in range(100)
    }

    assert {tuple(sorted(pair)) for pair in pairs} == {(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)}


def test_without_a_rare_class_repeat_factor_is_uniform_to_the_last_image(coco: Make) -> None:
    order = RepeatFactor.of(coco(STREET), 1 / 16)

    assert [order(3, epoch) for epoch in range(3)] == [Uniform(16)(3, epoch) for epoch in range(3)]


@pytest.mark.parametrize("seed", range(20))
def test_fractions_that_add_up_to_a_whole_number_never_make_an_epoch_short(seed: int) -> None:
    order = RepeatFactor(torch.full((30,), 1.1, dtype=torch.float64))

    assert order.length == 33
    assert len(order(seed, 0)) == 33


def test_every_class_is_drawn_equally_often(coco: Make) -> None:
    # 14 draws an epoch; in 3 epochs 42, 14 of each of the 3 classes. The truck is always image 9.
    order = ClassAware.of(coco([[CAR]] * 9 + [[TRUCK]] + [[PERSON]] * 4 + [[], []]))

    shown = Counter(index for epoch in range(3) for index in order(0, epoch))

    assert shown[9] == 14
    assert sum(shown[index] for index in range(9)) == 14
    assert sum(shown[index] for index in range(10, 14)) == 14


def test_an_image_of_a_class_comes_again_only_after_all_others_of_it(coco: Make) -> None:
    order = ClassAware.of(coco([[CAR]] * 9 + [[TRUCK]] + [[PERSON]] * 4 + [[], []]))
    drawn = [index for epoch in range(12) for index in order(5, epoch)]

    for images in (range(9), range(10, 14)):
        turns = [index for index in drawn if index in images]
        size = len(images)
        rounds = [turns[start : start + size] for start in range(0, len(turns) - size + 1, size)]
        assert len(rounds) >= 6
        assert all(sorted(one) == [*images] for one in rounds)
        assert rounds[0] != rounds[1]


def test_classes_come_in_rounds_each_once_in_changing_order(coco: Make) -> None:
    order = ClassAware.of(coco([[CAR]] * 6 + [[TRUCK]] * 2 + [[PERSON]]))
    classes = [0 if index < 6 else 1 if index < 8 else 2 for epoch in range(4) for index in order(1, epoch)]

    rounds = [tuple(classes[start : start + 3]) for start in range(0, len(classes), 3)]
    assert all(sorted(one) == [0, 1, 2] for one in rounds)
    assert len(set(rounds)) > 1


def test_images_without_objects_keep_their_share_and_change_their_places(coco: Make) -> None:
    order = ClassAware.of(coco(STREET))
    epochs = [order(0, epoch) for epoch in range(5)]

    for images in epochs:
        assert len(images) == order.length == 16
        assert images.count(14) == images.count(15) == 1
    assert len({(images.index(14), images.index(15)) for images in epochs}) > 1


def test_a_class_without_images_is_not_waited_for(coco: Make) -> None:
    order = ClassAware.of(coco([[CAR], [CAR], [PERSON]]))

    shown = Counter(order(0, 0) + order(0, 1))  # 3 rounds of the two classes

    assert shown[2] == shown[0] + shown[1] == 3


def test_a_set_without_objects_is_shown_whole(coco: Make) -> None:
    empty = coco([[], [], []])

    assert sorted(ClassAware.of(empty)(0, 0)) == [0, 1, 2]
    assert sorted(RepeatFactor.of(empty, 0.5)(0, 0)) == [0, 1, 2]


def orders(made: CocoSet) -> list[Order]:
    return [Uniform(len(made)), RepeatFactor.of(made, 0.5), ClassAware.of(made)]


@pytest.mark.parametrize("which", range(3))
def test_an_order_is_a_function_of_seed_and_epoch(coco: Make, which: int) -> None:
    order, again = orders(coco(STREET))[which], orders(coco(STREET))[which]
    order(9, 9)

    assert order(0, 4) == again(0, 4)
    assert order(0, 4) != order(0, 5)
    assert order(0, 4) != order(1, 4)
    assert order(0, 1) != order(1, 0)


@pytest.mark.parametrize("which", range(3))
def test_two_processes_share_the_batches_of_one_from_any_start(coco: Make, which: int) -> None:
    order = orders(coco(STREET))[which]
    whole = [*EpochBatches(order, 4, seed=2, epoch=1, drop_last=True)]

    for start in (0, 2):
        shares = [
            [*EpochBatches(order, 4, seed=2, epoch=1, drop_last=True, rank=rank, processes=2, start=start)]
            for rank in (0, 1)
        ]
        together = [sorted(one + two) for one, two in zip(*shares, strict=True)]
        assert together == [sorted(batch) for batch in whole[start:]]


def test_in_turn_is_the_order_of_the_data_set() -> None:
    assert InTurn(4)(3, 9) == [0, 1, 2, 3]
