"""Mosaic, mixup and jitter: flat pictures by hand, and painted objects that are where their boxes say."""

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from dethead.data import joining
from dethead.data.joining import jitter, mixup, mosaic
from dethead.data.samples import PAD_VALUE, Sample
from dethead.structures import GroundTruth

Boxes = Sequence[Sequence[float]]


def flat(
    value: int,
    boxes: Boxes = (),
    ignored: Boxes = (),
    *,
    size: tuple[int, int] = (100, 100),
    weight: float | None = 1.0,
) -> Sample:
    """A picture of one grey; object k has label k, those of odd labels are of unknown class."""
    labels = torch.arange(len(boxes))
    truth = GroundTruth.from_labels(
        torch.tensor(boxes).view(-1, 4).float(), labels, 4, torch.tensor(ignored).view(-1, 4).float()
    )
    weights = None if weight is None else torch.full((len(boxes),), weight)
    known = labels % 2 == 0
    return Sample(
        torch.full((3, *size), value, dtype=torch.uint8), truth._replace(class_known=known, weights=weights)
    )


def in_turn(samples: Sequence[Sample]) -> tuple[Iterator[Sample], joining.Read]:
    """The partners in this order; what is left of them was not asked for."""
    left = iter(samples)
    return left, lambda: next(left)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch):
    """Draw what is given, in place of random numbers: of a mosaic its scale, then y and x of its centre."""

    def use(*values: float) -> None:
        left = iter(values)
        monkeypatch.setattr(joining, "_draw", lambda low, high: next(left))

    return use


FOUR = [
    flat(10, [[60, 60, 90, 90]]),
    flat(20, [[10, 60, 30, 90]]),
    flat(30, [[60, 10, 90, 40]]),
    flat(40, [[5, 5, 45, 45]]),
]


def quarters(image: Tensor) -> list[int]:
    """The one value of each quarter of a 100 x 100 picture."""
    parts = [image[:, y : y + 50, x : x + 50] for y in (0, 50) for x in (0, 50)]
    assert all((part == part[0, 0, 0]).all() for part in parts)
    return [int(part[0, 0, 0]) for part in parts]


def test_four_images_of_the_input_size_show_the_corners_that_meet(drawn) -> None:
    drawn(1.0, 1.0, 1.0)

    joined = mosaic(FOUR[0], in_turn(FOUR[1:])[1], (100, 100))

    assert quarters(joined.image) == [10, 20, 30, 40]
    assert joined.truth.boxes.tolist() == [
        [10, 10, 40, 40],
        [60, 10, 80, 40],
        [10, 60, 40, 90],
        [55, 55, 95, 95],
    ]


def test_at_scale_a_half_the_four_are_whole(drawn) -> None:
    drawn(0.5, 1.0, 1.0)

    joined = mosaic(FOUR[0], in_turn(FOUR[1:])[1], (100, 100))

    assert quarters(joined.image) == [10, 20, 30, 40]
    assert joined.truth.boxes.tolist() == [
        [30, 30, 45, 45],
        [55, 30, 65, 45],
        [30, 55, 45, 70],
        [52.5, 52.5, 72.5, 72.5],
    ]


def test_the_image_itself_takes_the_largest_quarter(drawn) -> None:
    # Meets at y 30, x 30: below and right of it are 70 x 70 px, the top left corner of the image.
    drawn(1.0, 0.8, 0.8)

    joined = mosaic(FOUR[0], in_turn(FOUR[1:])[1], (100, 100))

    assert (joined.image[:, 30:, 30:] == 10).all()
    # Of its own object 11 % would be left, of the last one nothing.
    assert joined.truth.boxes.tolist() == [[40, 0, 60, 20], [0, 40, 20, 70]]


def test_images_out_of_sight_are_not_read(drawn) -> None:
    drawn(1.5, 1.5, 1.0)  # meets below the picture: two are left
    left, partner = in_turn(FOUR[1:])

    joined = mosaic(FOUR[0], partner, (100, 100))

    assert len([*left]) == 2
    assert (joined.image[:, :, :50] == 10).all()
    assert (joined.image[:, :, 50:] == 20).all()


@pytest.mark.parametrize(("left", "kept"), [(12, 1), (8, 0)])  # 10 of 48 px is 20.8 %, of 52 px 19.2 %
def test_an_object_stays_with_a_fifth_of_its_area(drawn, left: float, kept: int) -> None:
    drawn(1.0, 1.0, 1.0)
    own = flat(10, [[left, 60, 60, 80]])

    joined = mosaic(own, in_turn([flat(0)] * 3)[1], (100, 100))

    assert joined.truth.boxes.tolist() == [[0, 10, 10, 30]] * kept


def test_ignore_regions_weights_and_unknown_classes_of_all_four_come_through(drawn) -> None:
    drawn(1.0, 1.0, 1.0)
    # A twentieth of the region is in sight, and stays.
    own = flat(0, [[55, 55, 90, 90], [60, 60, 80, 80]], [[0, 60, 55, 70]], weight=0.5)
    partners = [flat(0, [[0, 60, 20, 90]], weight=None), flat(0), flat(0, [], [[0, 0, 40, 40]])]

    truth = mosaic(own, in_turn(partners)[1], (100, 100)).truth

    assert truth.ignore_boxes.tolist() == [[0, 10, 5, 20], [50, 50, 90, 90]]
    assert truth.targets.argmax(dim=1).tolist() == [0, 1, 0]
    assert truth.class_known.tolist() == [True, False, True]
    assert truth.weights is not None
    assert truth.weights.tolist() == [0.5, 0.5, 1]


def test_images_of_any_shape_are_fitted_and_grey_fills_the_rest(drawn) -> None:
    drawn(0.5, 1.0, 1.0)
    wide = flat(10, [[0, 0, 200, 100]], size=(100, 200))  # fits as 50 x 100, here at half of that

    joined = mosaic(wide, in_turn([wide] * 3)[1], (100, 100))

    assert joined.truth.boxes.tolist() == [
        [0, 25, 50, 50],
        [50, 25, 100, 50],
        [0, 50, 50, 75],
        [50, 50, 100, 75],
    ]
    assert (joined.image[:, 25:75] == 10).all()
    assert (joined.image[:, :25] == PAD_VALUE).all()
    assert (joined.image[:, 75:] == PAD_VALUE).all()


def test_four_empty_images_make_an_empty_one() -> None:
    joined = mosaic(flat(0, weight=None), in_turn([flat(0, weight=None)] * 3)[1], (64, 96))

    assert joined.image.shape == (3, 64, 96)
    assert joined.truth.boxes.shape == (0, 4)
    assert joined.truth.targets.shape == (0, 4)
    assert joined.truth.weights is None


def coloured(channel: int, height: int, width: int) -> Sample:
    """An object of full brightness in one channel, on black; it covers a random part of the image."""
    top, left = (int(torch.randint(side // 3, ())) for side in (height, width))
    bottom, right = (int(torch.randint(side // 2, side, ())) for side in (height, width))
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    image[channel, top:bottom, left:right] = 255
    box = torch.tensor([[left, top, right, bottom]]).float()
    return Sample(image, GroundTruth.from_labels(box, torch.tensor([channel]), 3))


def bright(image: Tensor, channel: int) -> list[float] | None:
    """The box around what is brighter than half: edges are there, however they were smoothed."""
    rows, columns = (image[channel] >= 128).nonzero(as_tuple=True)
    if not len(rows):
        return None
    return [float(v) for v in (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)]


SHAPES = [(90, 120), (120, 50), (200, 333), (30, 40)]
BLACK = Sample(torch.zeros(3, 77, 99, dtype=torch.uint8), flat(0).truth._replace(targets=torch.zeros(0, 3)))


def assert_boxes_fit(sample: Sample) -> int:
    """Each kept box lies inside the picture and around what was painted, to a pixel; gives their number."""
    height, width = sample.image.shape[1:]
    for box, channel in zip(sample.truth.boxes, sample.truth.targets.argmax(dim=1).tolist(), strict=True):
        assert (box >= 0).all()
        assert (box <= torch.tensor([width, height] * 2) + 1e-3).all()
        found = bright(sample.image, channel)
        if found is None:  # too thin to be bright anywhere
            assert (box[2:] - box[:2]).min() < 1.5
        else:
            assert (torch.tensor(found) - box).abs().max() <= 1
    return len(sample.truth.boxes)


def test_painted_objects_fill_their_boxes_in_mosaics() -> None:
    kept = 0
    for _ in range(60):
        one, two, three = (coloured(c, *SHAPES[int(torch.randint(4, ()))]) for c in range(3))
        kept += assert_boxes_fit(mosaic(one, in_turn([two, three, BLACK])[1], (96, 128)))
    assert kept > 100


def test_painted_objects_fill_their_boxes_after_jitter() -> None:
    kept = sum(
        assert_boxes_fit(jitter(coloured(0, *SHAPES[number % 4]), (96, 128), 0.3, 2.5))
        for number in range(60)
    )

    assert kept > 30


def test_jitter_of_factor_one_is_the_fitted_image(drawn) -> None:
    drawn(1.0)
    sample = coloured(1, 50, 128)

    same = jitter(sample, (96, 128), 0.1, 2.0)

    assert torch.equal(same.image[:, :50], sample.image)
    assert (same.image[:, 50:] == PAD_VALUE).all()
    assert torch.equal(same.truth.boxes, sample.truth.boxes)


def test_jitter_of_a_half_leaves_grey_right_and_below(drawn) -> None:
    drawn(0.5)

    small = jitter(flat(9, [[20, 40, 60, 80]], [[0, 0, 100, 100]]), (100, 100), 0.1, 2.0)

    assert (small.image[:, :50, :50] == 9).all()
    assert (small.image == PAD_VALUE).sum() == 3 * 7500
    assert small.truth.boxes.tolist() == [[10, 20, 30, 40]]
    assert small.truth.ignore_boxes.tolist() == [[0, 0, 50, 50]]


def test_jitter_of_two_shows_half_of_each_side_at_a_random_place(drawn) -> None:
    drawn(*[2.0] * 40)
    objects = [[x, y, x + 10, y + 10] for x, y in ((0, 0), (90, 0), (0, 90), (90, 90))]

    seen = [jitter(flat(9, objects), (100, 100), 0.1, 2.0) for _ in range(40)]

    assert all((one.image == 9).all() for one in seen)
    assert all(len(one.truth.boxes) <= 1 for one in seen)  # of 100 px the window has 50: one corner at most
    boxes = torch.cat([one.truth.boxes for one in seen])
    assert len(boxes) > 1
    assert ((boxes[:, 2:] - boxes[:, :2]) <= 20).all()


def test_jitter_drops_what_has_its_centre_outside_as_every_crop_does(drawn, monkeypatch) -> None:
    drawn(2.0, 2.0)
    monkeypatch.setattr(torch, "randint", lambda high, size: torch.tensor(0))  # the top left corner

    inside, outside = (jitter(flat(9, [[x, 10, x + 20, 30]]), (100, 100), 1, 2) for x in (39, 41))

    assert inside.truth.boxes.tolist() == [[78, 20, 100, 60]]
    assert outside.truth.boxes.shape == (0, 4)


def test_the_factors_of_jitter_are_uniform() -> None:
    white = flat(255, size=(200, 200))

    sides = [(jitter(white, (200, 200), 0.25, 0.75).image[0, 0] == 255).sum() for _ in range(400)]

    shares = np.sort(np.array(sides) / 200)
    assert shares[0] >= 0.25
    assert shares[-1] <= 0.75
    # Kolmogorov's distance to the uniform law; 0.08 is exceeded by chance once in a hundred.
    assert np.abs((shares - 0.25) / 0.5 - (np.arange(400) + 0.5) / 400).max() < 0.08


def test_mixup_is_the_mean_rounded_down_with_the_objects_of_both() -> None:
    one, two = flat(0, [[0, 0, 9, 9]], [[5, 5, 6, 6]], weight=0.25), flat(0, [[1, 1, 8, 8]], weight=None)
    first, second = (torch.randint(0, 256, (3, 100, 100), dtype=torch.uint8) for _ in range(2))

    mixed = mixup(one._replace(image=first), two._replace(image=second))

    wanted = (first.numpy().astype(int) + second.numpy().astype(int)) // 2
    assert (mixed.image.numpy() == wanted).all()
    assert mixed.truth.boxes.tolist() == [[0, 0, 9, 9], [1, 1, 8, 8]]
    assert mixed.truth.ignore_boxes.tolist() == [[5, 5, 6, 6]]
    assert mixed.truth.weights is not None
    assert mixed.truth.weights.tolist() == [0.25, 1]


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (700, 2)])
def test_images_of_odd_shapes_are_joined_and_jittered(size: tuple[int, int]) -> None:
    height, width = size
    thin = flat(9, [[0, 0, width, height]], size=size)
    for _ in range(20):
        for made in (mosaic(thin, lambda: thin, (64, 96)), jitter(thin, (64, 96), 0.1, 2.0)):
            assert made.image.shape == (3, 64, 96)
            assert (made.truth.boxes[:, 2:] > made.truth.boxes[:, :2]).all()


def test_the_images_that_are_joined_are_not_changed() -> None:
    samples = [coloured(c, 60, 80) for c in range(3)]
    before = [sample.image.clone() for sample in samples]

    for _ in range(5):
        mosaic(samples[0], in_turn([*samples[1:], BLACK])[1], (64, 64))
        mixup(jitter(samples[0], (64, 64), 0.5, 2), jitter(samples[1], (64, 64), 0.5, 2))

    assert all(torch.equal(sample.image, old) for sample, old in zip(samples, before, strict=True))
