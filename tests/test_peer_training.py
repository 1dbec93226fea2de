"""torchvision's detectors train beside dethead's: labels as each counts them, and a killed run goes on."""

import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from coco_tree import IDS, write_coco_2017

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def peers() -> ModuleType:
    sys.path.insert(0, str(FOLDER))
    try:
        return __import__("peer_training")
    finally:
        sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_coco_2017(tmp_path_factory.mktemp("coco"))


def start(peers: ModuleType, data: Path, peer: str, *more: str):
    options = peers.parse([peer, str(data), "out", "--size", "64", "--batch", "2", "--epochs", "2", *more])
    torch.manual_seed(options.seed)
    return peers.Training(options, peers.Photographs(data, "train", peers.FIRST_LABEL[peer], augmented=True))


@pytest.mark.parametrize(
    ("peer", "lowest"), [("retinanet", 0), ("fcos", 0), ("ssdlite", 1), ("fasterrcnn", 1)]
)
def test_labels_start_where_the_peer_counts_the_first_class(peers, data, peer, lowest):
    images = peers.Photographs(data, "val", peers.FIRST_LABEL[peer], augmented=False)
    image, target = images[0]
    assert image.shape == (3, 60, 80)
    assert image.max() <= 1
    assert target["labels"].tolist() == [IDS.index(i) + lowest for i in (1, 3, 8, 90)]
    assert (
        target["boxes"][:, 2:] > target["boxes"][:, :2]
    ).all()  # x1, y1, x2, y2; the crowd is not among them


@pytest.mark.parametrize("peer", ["retinanet", "fcos", "ssdlite", "fasterrcnn"])
def test_every_class_and_no_other_can_be_found(peers, data, peer):
    images = peers.Photographs(data, "val", peers.FIRST_LABEL[peer], augmented=False)
    torch.manual_seed(0)
    model = peers.make(peer, len(IDS) + images.first_label, 64, None)
    labels = set()
    for found in peers.detect(model, images, lambda done: None):
        labels |= set(found.labels.tolist())
        assert (found.scores.diff() <= 0).all()
    assert labels
    assert labels <= set(range(len(IDS)))
    if peer == "fasterrcnn":  # finds few of 80 classes by chance, the others many
        assert model.roi_heads.box_predictor.cls_score.out_features == len(IDS) + 1
    else:
        assert len(labels) > len(IDS) // 3


def test_a_killed_training_goes_on_to_the_same_numbers(peers, data, tmp_path):
    whole = start(peers, data, "ssdlite")
    whole.run_epoch(lambda done: None)
    whole.save(tmp_path / "last.pt")
    loss = whole.run_epoch(lambda done: None)

    other = start(peers, data, "ssdlite")
    torch.manual_seed(7)
    other.load(tmp_path / "last.pt")
    assert other.run_epoch(lambda done: None) == loss
    assert other.epoch == 2
    for name, value in whole.model.state_dict().items():
        assert torch.equal(other.model.state_dict()[name], value), name


def test_another_trainings_checkpoint_is_refused(peers, data, tmp_path):
    start(peers, data, "ssdlite").save(tmp_path / "last.pt")
    with pytest.raises(ValueError, match=r"last\.pt: a training with seed 0, not 7; name another folder"):
        start(peers, data, "ssdlite", "--seed", "7").load(tmp_path / "last.pt")


def test_objects_of_unknown_class_are_left_out(peers, data, monkeypatch):
    images = peers.Photographs(data, "val", 0, augmented=False)
    truth = images.coco.truth(0)
    known = torch.tensor([True, False, True, False])
    monkeypatch.setattr(peers.CocoSet, "truth", lambda coco, index: truth._replace(class_known=known))
    _, target = images[0]
    assert torch.equal(target["boxes"], truth.boxes[known])
    assert target["labels"].tolist() == [IDS.index(i) for i in (1, 8)]


def test_less_than_a_batch_of_images_is_refused(peers, data):
    with pytest.raises(ValueError, match="4 training images make no batch of 5"):
        start(peers, data, "ssdlite", "--batch", "5")


def test_faster_rcnn_learns_from_as_many_regions_as_asked(peers, data):
    assert start(peers, data, "fasterrcnn").model.roi_heads.fg_bg_sampler.batch_size_per_image == 512
    few = start(peers, data, "fasterrcnn", "--regions", "16")
    assert few.model.roi_heads.fg_bg_sampler.batch_size_per_image == 16


def test_the_backbone_alone_learns_more_slowly(peers, data):
    training = start(peers, data, "fcos")
    slow, rest = training.optimizer.param_groups
    assert slow["initial_lr"] == pytest.approx(rest["initial_lr"] / 3)
    pyramid = training.model.backbone.pyramid
    assert {*map(id, slow["params"])} == {*map(id, pyramid.backbone.parameters())}
    assert len(slow["params"]) + len(rest["params"]) == len([*training.model.parameters()])
