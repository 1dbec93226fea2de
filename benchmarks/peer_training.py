"""Train a detector of torchvision for what the road recipe trains on, and score it by COCO mAP.

    python benchmarks/peer_training.py {retinanet,fcos,ssdlite,fasterrcnn} DATA OUT
        [--weights FILE] [--epochs 12] [--size 320] [--batch 8] [--lr 6e-4] [--seed 0] [--threads 1]
        [--regions 512]

The backbone is dethead's EfficientNet-Lite0, from ``--weights`` or from scratch, in torchvision's pyramid of
128 channels (SSDlite: its own extra layers); head, loss, matching and decoding are torchvision's, with a
score threshold of 0.001 and 300 detections, so that the threshold costs no AP. AdamW with a cosine schedule,
a third of the learning rate for the backbone, weight decay 0.02, gradients clipped at 10; photometric
changes, zooming out, cropping and flips by torchvision's transforms. The learning rate is one at which all
but FCOS train well; none is tuned further. FCOS needs 2e-4: its last layer of boxes is a ReLU, which a
higher rate can turn off for good.

DATA is a folder in COCO format with the splits ``train`` and ``val``. OUT receives ``detections.json`` (COCO
results of ``val``, for ``dethead compare``), ``metrics.json`` and a checkpoint of each epoch, from which a
killed run goes on to the same numbers.
"""

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator, DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.ssdlite import SSDLiteHead
from torchvision.ops import MultiScaleRoIAlign
from torchvision.transforms import v2
from torchvision.tv_tensors import BoundingBoxes
from whole_model_peers import SSD_CHANNELS, Named, SSDMaps, ssd_norm

from dethead.backbones import ChainBackbone, FeaturePyramid, efficientnet_lite0
from dethead.data.coco import CocoSet
from dethead.data.images import read_image
from dethead.data.layout import find_split
from dethead.data.samples import keep
from dethead.evaluation.coco import coco_metrics
from dethead.evaluation.results import read_evaluation, write_results
from dethead.files import prepare_folder, write_json
from dethead.structures import Detections
from dethead.training import checkpoint
from dethead.training.progress import bar, duration

FIRST_LABEL: Final = {"retinanet": 0, "fcos": 0, "ssdlite": 1, "fasterrcnn": 1}
"""Peer -> the label of the first class: 1 where 0 is the background."""
WIDTH: Final = 128
"""Channels of the pyramid."""
SIDES: Final = (24, 48, 96, 192, 288)
"""Of RetinaNet's anchors in px, by level; each in three sizes and three shapes."""
SHAPES: Final = (0.5, 1.0, 2.0)
"""Height / width of anchors."""
WARMUP: Final = 100
"""Steps in which the learning rate rises."""
REGIONS: Final = 512
"""From which Faster R-CNN learns in an image: torchvision's default, made for images of 800 px."""
TOGETHER: Final = 10
"""Images detected at once."""


class Photographs(Dataset[tuple[Tensor, dict[str, Tensor]]]):
    """The images of a split, float in 0..1, with boxes and one label each.

    Without regions of crowds and objects of unknown class, for which the peers have no place.
    """

    def __init__(self, data: Path, split: str, first_label: int, *, augmented: bool) -> None:
        found = find_split(data, split)
        self.coco, self.folder = CocoSet.read(found.annotations), found.images
        self.first_label = first_label
        steps: list[nn.Module] = []
        if augmented:
            steps = [
                v2.RandomPhotometricDistort(p=0.5),
                v2.RandomZoomOut(fill=127, side_range=(1.0, 2.0), p=0.3),
                v2.RandomIoUCrop(),
                v2.RandomHorizontalFlip(),
                v2.SanitizeBoundingBoxes(min_size=2),
            ]
        self.transform = v2.Compose([v2.ToImage(), *steps, v2.ToDtype(torch.float32, scale=True)])

    def __len__(self) -> int:
        return len(self.coco)

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        image = read_image(self.folder / self.coco.file_name(index))
        truth = self.coco.truth(index)
        truth = keep(truth, truth.class_known)
        boxes = BoundingBoxes(truth.boxes, format="XYXY", canvas_size=image.shape[1:])
        labels = truth.targets.argmax(dim=1) + self.first_label
        image, target = self.transform(image, {"boxes": boxes, "labels": labels})
        return image.as_subclass(Tensor), {
            "boxes": target["boxes"].as_subclass(Tensor).reshape(-1, 4),
            "labels": target["labels"],
        }


def make(name: str, classes: int, size: int, weights: Path | None, regions: int = REGIONS) -> nn.Module:
    """Make a detector; ``classes`` counts the background where it is one."""
    mean, std = [127 / 255] * 3, [128 / 255] * 3  # EfficientNet-Lite's
    options: dict[str, Any] = {"min_size": size, "max_size": size, "image_mean": mean, "image_std": std}
    dense = options | {"score_thresh": 0.001, "detections_per_img": 300}
    pyramid = partial(FeaturePyramid, efficientnet_lite0(weights=weights), WIDTH)
    if name == "retinanet":
        sides = tuple(tuple(int(side * 2 ** (i / 3)) for i in range(3)) for side in SIDES)
        anchors = AnchorGenerator(sides, (SHAPES,) * len(sides))
        return RetinaNet(Named(pyramid(2)), classes, anchor_generator=anchors, **dense)
    if name == "fcos":
        return FCOS(Named(pyramid(2)), classes, **dense)
    if name == "fasterrcnn":
        return FasterRCNN(
            Named(pyramid(0)),
            classes,
            rpn_anchor_generator=AnchorGenerator(((24, 48), (64, 128), (192, 288)), (SHAPES,) * 3),
            box_roi_pool=MultiScaleRoIAlign(["0", "1", "2"], 7, 2),
            box_batch_size_per_image=regions,
            rpn_pre_nms_top_n_test=300,
            rpn_post_nms_top_n_test=300,
            box_score_thresh=0.001,
            box_detections_per_img=300,
            **options,
        )
    maps = SSDMaps(weights)
    boxes = DefaultBoxGenerator([[2, 3]] * len(SSD_CHANNELS), min_ratio=15, max_ratio=95)
    head = SSDLiteHead(maps.out_channels, boxes.num_anchors_per_location(), classes, ssd_norm)
    for size_key in ("min_size", "max_size"):
        del dense[size_key]
    return SSD(maps, boxes, (size, size), classes, head=head, nms_thresh=0.55, topk_candidates=300, **dense)


CHANGES: Final = ("peer", "data", "weights", "epochs", "size", "batch", "lr", "seed", "regions")
"""Options with which a training is another one."""


class Training:
    """What a checkpoint holds."""

    def __init__(self, options: argparse.Namespace, images: Photographs) -> None:
        self.images, self.batch = images, options.batch
        if len(images) < self.batch:
            raise ValueError(f"{len(images)} training images make no batch of {self.batch}")
        self.options = {key: str(getattr(options, key)) for key in CHANGES}
        classes = len(images.coco.classes.names) + images.first_label
        self.model = make(options.peer, classes, options.size, options.weights, options.regions)
        for layer in self.model.backbone.modules():  # type: ignore[union-attr]
            if isinstance(layer, nn.BatchNorm2d):
                layer.momentum = 0.03
        # Convolutions are faster so, but rows of boxes and of their features would be turned back.
        if options.peer != "fasterrcnn":
            self.model = self.model.to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.AdamW(self._groups(options.lr), weight_decay=0.02)
        self.steps = len(images) // self.batch
        total = self.steps * options.epochs
        rate = partial(_rate, total=total)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimizer, rate)
        self.epoch, self.seconds = 0, 0.0

    def _groups(self, rate: float) -> list[dict[str, Any]]:
        slow = [
            parameter
            for module in self.model.modules()
            if isinstance(module, ChainBackbone)
            for parameter in module.parameters()
        ]
        known = {*slow}
        rest = [one for one in self.model.parameters() if one not in known]
        return [{"params": slow, "lr": rate / 3}, {"params": rest, "lr": rate}]

    def load(self, path: Path) -> None:
        """Go on from a checkpoint.

        Raises:
            ValueError: it is another training's.
        """
        values = checkpoint.load(path)
        for key, now in self.options.items():
            was = values["options"].get(key)
            if was != now:
                raise ValueError(f"{path}: a training with {key} {was}, not {now}; name another folder")
        self.model.load_state_dict(values["model"])
        self.optimizer.load_state_dict(values["optimizer"])
        self.schedule.load_state_dict(values["schedule"])
        self.epoch, self.seconds = values["epoch"], values["seconds"]
        torch.set_rng_state(values["random"])

    def save(self, path: Path) -> None:
        """Write all that a training goes on from."""
        values = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "options": self.options,
            "epoch": self.epoch,
            "seconds": self.seconds,
            "random": torch.get_rng_state(),
        }
        checkpoint.save(values, path)

    def run_epoch(self, progress: Callable[[int], None]) -> float:
        """Give the mean loss."""
        self.model.train()
        start, losses = time.monotonic(), []
        order = torch.randperm(len(self.images))[: self.steps * self.batch]
        for rows in order.view(-1, self.batch).tolist():
            images, targets = zip(*(self.images[row] for row in rows), strict=True)
            loss = torch.stack(list(self.model(list(images), list(targets)).values())).sum()
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self.model.parameters(), 10.0)
            self.optimizer.step()
            self.schedule.step()
            losses.append(float(loss.detach()))
            progress(self.batch)
        self.epoch += 1
        self.seconds += time.monotonic() - start
        return sum(losses) / len(losses)


def _rate(step: int, total: int) -> float:
    return min((step + 1) / WARMUP, 1) * 0.5 * (1 + math.cos(math.pi * min(step / total, 1)))


@torch.inference_mode()
def detect(model: nn.Module, images: Photographs, progress: Callable[[int], None]) -> Iterator[Detections]:
    """Give what is found in each image."""
    model.eval()
    for start in range(0, len(images), TOGETHER):
        rows = range(start, min(start + TOGETHER, len(images)))
        for one in model([images[row][0] for row in rows]):
            order = one["scores"].argsort(descending=True, stable=True)
            scores = one["scores"][order]
            yield Detections(
                one["boxes"][order], scores, one["labels"][order] - images.first_label, scores, scores
            )
        progress(len(rows))


class Result(NamedTuple):
    """What ``metrics.json`` says beside the COCO numbers."""

    peer: str
    epochs: int
    seed: int
    threads: int
    parameters: int
    train_images_per_s: float
    detect_images_per_s: float


def resolved(path: str) -> Path:
    """Give the same name to the same file."""
    return Path(path).resolve()


def positive(text: str) -> int:
    """Read a number from 1 up.

    Raises:
        ValueError: another one.
    """
    if int(text) < 1:
        raise ValueError(text)
    return int(text)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("peer", choices=[*FIRST_LABEL])
    made.add_argument("data", type=resolved)
    made.add_argument("out", type=Path)
    made.add_argument("--weights", type=resolved, help="of the backbone; none: from scratch")
    made.add_argument("--epochs", type=positive, default=12)
    made.add_argument("--size", type=positive, default=320, help="longer side of images in px; SSDlite: both")
    made.add_argument("--batch", type=positive, default=8)
    made.add_argument("--lr", type=float, default=6e-4)
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--threads", type=positive, default=1)
    made.add_argument(
        "--regions", type=positive, default=REGIONS, help="from which Faster R-CNN learns in an image"
    )
    return made.parse_args(arguments)


def main() -> None:
    """Train, score, write."""
    options = parse(None)
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    prepare_folder(options.out)
    first_label = FIRST_LABEL[options.peer]
    validation = Photographs(options.data, "val", first_label, augmented=False)
    training = Training(options, Photographs(options.data, "train", first_label, augmented=True))
    last = options.out / "last.pt"
    if last.exists():
        training.load(last)
        print(f"{last}: goes on behind epoch {training.epoch}", flush=True)
    for epoch in range(training.epoch, options.epochs):
        with bar(f"epoch {epoch + 1}", training.steps * options.batch) as progress:
            loss = training.run_epoch(progress)
        training.save(last)
        rate = training.epoch * training.steps * options.batch / training.seconds
        left = duration(training.seconds / training.epoch * (options.epochs - training.epoch))
        print(
            f"epoch {epoch + 1}/{options.epochs} | loss {loss:.3f} | {rate:.1f} images/s | {left} left",
            flush=True,
        )
    start = time.monotonic()
    with bar("validation", len(validation)) as progress:
        found = list(detect(training.model, validation, progress))
    taken = time.monotonic() - start
    coco, file = validation.coco, options.out / "detections.json"
    write_results(file, coco.image_ids.tolist(), found, coco.classes.category_ids)
    metrics = coco_metrics(read_evaluation(file, coco)).as_dict()
    result = Result(
        peer=options.peer,
        epochs=options.epochs,
        seed=options.seed,
        threads=options.threads,
        parameters=sum(one.numel() for one in training.model.parameters()),
        train_images_per_s=training.epoch * training.steps * options.batch / training.seconds,
        detect_images_per_s=len(validation) / taken,
    )
    write_json(options.out / "metrics.json", result._asdict() | metrics)
    print(
        json.dumps(result._asdict()),
        *(f"{key} {value:.4f}" for key, value in metrics.items() if key.startswith("AP")),
    )


if __name__ == "__main__":
    main()
