"""Numbers by class from the training set: by hand, written out before anything is built, shown."""

import json

import pytest
import torch
from tiny_runs import CATEGORIES, load_run, train_tiny
from yaml import safe_load

from dethead.config import ConfigError
from dethead.data import CocoSet
from dethead.losses.imbalance import ClassCounts, class_shares, weights_by_recipe
from dethead.schemes import SoftmaxCE
from dethead.training.by_class import count_classes, plain, resolve, table

# A crowd and an object of unknown class come on top, and count nowhere.
BOXES = {1: [1, 1, 1, 3], 2: [1], 3: [8, 8]}


@pytest.fixture
def coco(tmp_path):
    annotations = [
        {"id": 10 * image + n, "image_id": image, "category_id": category, "bbox": [1, 1, 5, 5], "iscrowd": 0}
        for image, categories in BOXES.items()
        for n, category in enumerate(categories)
    ]
    annotations.append({**annotations[0], "id": 98, "iscrowd": 1})
    annotations.append({**annotations[0], "id": 99, "category_id": None})
    images = [{"id": image, "file_name": f"{image}.png", "height": 40, "width": 40} for image in BOXES]
    categories = [{"id": number, "name": name} for number, name in CATEGORIES.items()]
    path = tmp_path / "train.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return CocoSet.read(path)


def test_boxes_and_their_company_are_counted(coco):
    counts = count_classes(coco)
    assert counts.boxes.tolist() == [4, 1, 2]
    assert counts.company.tolist() == [5, 4, 2]  # 4 + 1 boxes in images with a car
    assert counts.total == 7


@pytest.mark.parametrize(
    ("recipe", "raw"),
    [
        ("inverse", [1 / 4, 1, 1 / 2]),
        ("sqrt_inverse", [1 / 2, 1, 2**-0.5]),
        # frequencies 4/5, 1/4, 1; their median 4/5
        ("median_frequency", [1, 0.8 / 0.25, 0.8]),
    ],
)
def test_recipes_by_hand_have_mean_1_over_the_boxes(coco, recipe, raw):
    mean = (4 * raw[0] + raw[1] + 2 * raw[2]) / 7
    assert weights_by_recipe(count_classes(coco), recipe).tolist() == pytest.approx([w / mean for w in raw])


def test_effective_number_by_hand(coco):
    raw = [0.1 / (1 - 0.9**n) for n in (4, 1, 2)]
    mean = (4 * raw[0] + raw[1] + 2 * raw[2]) / 7
    weights = weights_by_recipe(count_classes(coco), "effective_number", 0.9).tolist()
    assert weights == pytest.approx([w / mean for w in raw])
    assert weights_by_recipe(count_classes(coco), "effective_number", 0.0).tolist() == [1, 1, 1]


def test_a_class_without_boxes_gets_a_finite_weight(coco):
    counts = count_classes(coco)
    counts = counts._replace(boxes=counts.boxes * counts.boxes.new_tensor([1, 0, 1]))
    assert all(0 < w < 100 for w in weights_by_recipe(counts, "inverse").tolist())


def test_a_recipe_becomes_numbers(coco):
    run = resolve(load_run("class_scheme.class_weights={recipe: inverse}"), coco)
    assert run.class_scheme.class_weights == pytest.approx([7 / 12, 7 / 3, 7 / 6], abs=1e-6)


def test_weights_by_name_are_1_for_the_others(coco):
    run = resolve(load_run("class_scheme={name: sigmoid_bce, pos_weight: {truck: 3.0}}"), coco)
    assert run.class_scheme.pos_weight == [1, 1, 3]


def test_a_class_that_is_not_there_is_named(coco):
    run = load_run("class_scheme.class_weights={trucks: 3.0}")
    with pytest.raises(
        ConfigError, match=r"class_scheme.class_weights: unknown class 'trucks'; did you mean 'truck'"
    ):
        resolve(run, coco)


def test_class_counts_and_prior_come_from_the_data(coco):
    run = resolve(load_run("class_scheme={name: balanced_softmax}", "head.class_prior=data"), coco)
    assert run.class_scheme.class_counts == [4, 1, 2]
    assert run.head.class_prior == pytest.approx([5 / 10, 2 / 10, 3 / 10])  # one more of each


def test_the_prior_of_a_thousand_classes_still_sums_to_1(coco):
    # 999 shares of 1.4e-6: each rounded at the sixth decimal place, they would lack 4e-4 together
    counts = torch.zeros(1000, dtype=torch.int64)
    counts[0] = 713_286
    shares = class_shares(ClassCounts(counts, counts, int(counts.sum())))
    SoftmaxCE().initial_bias(1000, plain(shares))


def test_the_share_of_a_very_rare_class_is_not_rounded_to_0():
    assert plain(torch.tensor([2.5e-7])) == [2.5e-7]


def test_a_list_of_another_length_than_the_data_have_classes_is_refused(tiny_data, tmp_path):
    short = ("data.classes=null", "class_scheme.class_weights=[1.0, 2.0]")
    with pytest.raises(ConfigError, match=r"class_weights has 2 values for 3 classes of .*train\.json"):
        train_tiny(tiny_data, tmp_path / "run", *short)


def test_a_config_without_such_numbers_stays_as_it_is(coco):
    run = load_run("class_scheme={name: sigmoid_bce, class_weights: [1.0, 2.0, 3.0]}")
    assert resolve(run, coco) is run


def test_the_table_shows_counts_and_numbers(coco):
    shown = table(resolve(load_run("class_scheme.class_weights={recipe: inverse}"), coco), coco)
    assert shown is not None
    columns = [[str(cell) for cell in column.cells] for column in shown.columns]
    assert columns == [["car", "pedestrian", "truck"], ["4", "1", "2"], ["0.5833", "2.333", "1.167"]]
    assert table(load_run(), coco) is None


def test_a_run_saves_the_numbers_it_was_trained_with_and_resumes(tiny_data, tmp_path, capsys):
    options = (
        "class_scheme={name: ldam, max_margin: 0.5, class_weights: {recipe: sqrt_inverse}}",
        "training.epochs=1",
    )
    train_tiny(tiny_data, tmp_path / "run", *options)
    saved = safe_load((tmp_path / "run" / "config.yaml").read_text())["class_scheme"]
    assert saved["class_counts"] == [4, 4, 4]
    assert saved["class_weights"] == [1, 1, 1]
    assert "numbers by class" in capsys.readouterr().out
    train_tiny(tiny_data, tmp_path / "run", *options, resume=True)
