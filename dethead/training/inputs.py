"""What a run reads that is no matter of its config: data, weights, machine."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from dethead import build
from dethead.config import ConfigError, Run
from dethead.data import (
    ClassChoice,
    CocoSet,
    DataError,
    DetectionDataset,
    InputSizes,
    Split,
    TrainTransform,
    check_images,
    find_split,
)
from dethead.training.by_class import resolve

_log = logging.getLogger(__name__)

PROBLEMS_SHOWN = 5
"""Broken images named one by one in an error; the others are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Where a run finds things and runs; recorded in ``environment.json``, not in the config.

    Args:
        train: annotation file and image folder of the training set.
        val: of the validation set.
        weights: file of backbone weights.
        init_from: folder of a finished run whose weights are the start (fine-tuning).
        teacher: folder of a finished run to follow (distillation).
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        workers: processes that read images.
        trackers: names of experiment trackers known to Accelerate, such as "tensorboard".
    """

    train: Split
    val: Split
    weights: Path | None = None
    init_from: Path | None = None
    teacher: Path | None = None
    device: str = "auto"
    workers: int = 0
    trackers: tuple[str, ...] = ()

    @classmethod
    def find(
        cls,
        data: Path,
        *,
        train_annotations: Path | None = None,
        train_images: Path | None = None,
        val_annotations: Path | None = None,
        val_images: Path | None = None,
        weights: Path | None = None,
        init_from: Path | None = None,
        teacher: Path | None = None,
        device: str = "auto",
        workers: int = 0,
        trackers: tuple[str, ...] = (),
    ) -> "Inputs":
        """Find the two splits in a data folder; see ``dethead.data.find_split`` for the layouts.

        Raises:
            DataError: a file or folder that is not there.
        """
        for path in (weights, init_from, teacher):
            if path is not None and not path.exists():
                raise DataError(f"{path}: no such file or folder")
        return cls(
            train=find_split(data, "train", annotations=train_annotations, images=train_images),
            val=find_split(data, "val", annotations=val_annotations, images=val_images),
            weights=weights,
            init_from=init_from,
            teacher=teacher,
            device=device,
            workers=workers,
            trackers=trackers,
        )


class RunData(NamedTuple):
    """Both sets of a run, checked."""

    train: DetectionDataset
    val: DetectionDataset

    @property
    def class_names(self) -> tuple[str, ...]:
        """C names in order of the labels."""
        return self.train.coco.classes.names

    @property
    def category_ids(self) -> tuple[int, ...]:
        """C category ids that go into results files."""
        return self.train.coco.classes.category_ids

    def fingerprints(self) -> dict[str, str]:
        """Give the sha256 of both, by the keys that checkpoints have them under."""
        return {"data": self.train.coco.fingerprint(), "val_data": self.val.coco.fingerprint()}


def open_data(run: Run, inputs: Inputs) -> RunData:
    """Read and check both annotation files; ``check_files`` looks at the images.

    Raises:
        DataError: anything wrong with the annotations.
        ConfigError: a class scheme that cannot express the truth, a list by class of another length.
    """
    train_set = _read(inputs.train, run, run.data.classes)
    # By name, also where the config takes all categories: their ids may differ between the files.
    val_set = _read(inputs.val, run, _chosen(run, train_set.classes.names), str(inputs.train.annotations))
    return use_sets(run, inputs, train_set, val_set)


def use_sets(run: Run, inputs: Inputs, train_set: CocoSet, val_set: CocoSet) -> RunData:
    """Check two sets that are read against a run, and make its data of them.

    Args:
        run: the config, which reads the files as the one did that they were read for.
        inputs: whose files they are.
        train_set: read from ``inputs.train``.
        val_set: from ``inputs.val``.

    Raises:
        DataError: fewer images than a batch.
        ConfigError: a class scheme that cannot express the truth, a list by class of another length.
    """
    height, width = run.data.image_size
    transform = TrainTransform(**run.data.augment.model_dump())
    _check_lists(run, train_set)
    _check_scheme(run, train_set, val_set)
    if len(train_set) < run.training.batch_size:
        raise DataError(
            f"{train_set.path}: {len(train_set)} images do not fill one step of "
            f"training.batch_size {run.training.batch_size}"
        )
    skip = run.data.skip_unreadable
    return RunData(
        DetectionDataset(
            train_set,
            inputs.train.images,
            (height, width),
            transform,
            run.seed,
            skip,
            epochs=run.training.epochs,
        ),
        DetectionDataset(val_set, inputs.val.images, (height, width), None, run.seed, skip),
    )


def input_sizes(run: Run) -> InputSizes | None:
    """Give the sizes of a run's batches; None where all have ``data.image_size``."""
    if run.data.multi_scale is None:
        return None
    return InputSizes(run.data.input_sizes(run.backbone.whole_cells), run.training.accumulate)


def check_files(run: Run, inputs: Inputs, data: RunData) -> None:
    """Look at the header and the end of every image file.

    Raises:
        DataError: naming broken ones, unless they may be skipped; then they are counted in a warning.
    """
    for dataset, split in ((data.train, inputs.train), (data.val, inputs.val)):
        _check_files(dataset.coco, split, run.data.skip_unreadable)


def open_split(run: Run, split: Split, classes: tuple[str, ...]) -> DetectionDataset:
    """Read one set as a finished run wants it: for evaluation, its classes in its order."""
    coco = _read(split, run, _chosen(run, classes), "the training file")
    height, width = run.data.image_size
    return DetectionDataset(coco, split.images, (height, width), None, run.seed, run.data.skip_unreadable)


def describe(coco: CocoSet) -> str:
    """Say in a line what is in a set."""
    counts = zip(coco.classes.names, coco.class_counts().tolist(), strict=True)
    boxes = ", ".join(f"{name} {count}" for name, count in counts)
    ignored = int((coco.crowd & coco.trainable).sum())
    parts = [
        f"{len(coco)} images ({_empty_images(coco)} without objects)",
        boxes,
        f"ignore regions {ignored}",
    ]
    if coco.weights is not None:
        parts.append(f"sample weights {float(coco.weights.min()):g} to {float(coco.weights.max()):g}")
    parts += [f"{reason}: {count} left out" for reason, count in coco.dropped.items() if count]
    return "; ".join(parts)


def _chosen(run: Run, names: tuple[str, ...]) -> ClassChoice:
    """The choice of classes for a set whose C names, parents and all, are known from the training."""
    return run.data.classes or list(names[: len(names) - len(run.data.hierarchy)])


def _read(split: Split, run: Run, classes: ClassChoice, trained_on: str | None = None) -> CocoSet:
    """Read a set; ``trained_on`` names the file that the classes come from, unless the config has them."""
    try:
        return CocoSet.read(
            split.annotations,
            classes,
            hierarchy=run.data.hierarchy,
            other_categories=run.data.other_categories,
            invalid_boxes=run.data.invalid_boxes,
            merge_equal_boxes=run.data.merge_equal_boxes,
        )
    except DataError as error:
        if str(split.annotations) in str(error):
            raise
        # The choice of classes knows no file, and a run reads two.
        message = f"{split.annotations}: {error}"
        if trained_on is not None and not run.data.classes:
            message += f". data.classes is not set, so every file must have all categories of {trained_on}"
        raise DataError(message) from None


def _empty_images(coco: CocoSet) -> int:
    objects = (coco.trainable & ~coco.crowd).long().cumsum(0)
    before = objects.new_zeros(len(objects) + 1)
    before[1:] = objects
    return int((before[coco.starts[1:]] == before[coco.starts[:-1]]).sum())


def _check_lists(run: Run, coco: CocoSet) -> None:
    """Where the config takes all categories, only the data know how many classes there are."""
    try:
        run.check_lists(len(coco.classes.names))
    except ValueError as error:
        raise ConfigError(f"{error} of {coco.path}") from None


def _check_scheme(run: Run, train: CocoSet, val: CocoSet) -> None:
    """A class-exclusive scheme cannot be taught, nor scored on, a box with two labels: say so before."""
    for coco in (train, val):
        several = (coco.label_starts.diff() > 1).nonzero()
        if len(several) and build.class_scheme(resolve(run, train)).exclusive:
            row = int(several[0])
            image = int(coco.image_ids[int((coco.starts <= row).sum()) - 1])
            reason = f" under data.hierarchy {run.data.hierarchy}" if run.data.hierarchy else ""
            raise ConfigError(
                f"class_scheme {run.class_scheme.name!r} gives a box one class, but {coco.path} has "
                f"{len(several)} boxes with several labels{reason} (the first in image {image}); use "
                "sigmoid_bce or multilabel_softmax"
            )


def _check_files(coco: CocoSet, split: Split, skip: bool) -> None:
    problems = check_images(coco, split.images)
    if not problems:
        return
    shown = "\n  ".join(problem.message for problem in problems[:PROBLEMS_SHOWN])
    more = len(problems) - PROBLEMS_SHOWN
    text = f"{len(problems)} of {len(coco)} images cannot be used:\n  {shown}"
    if more > 0:
        text += f"\n  and {more} more"
    if not skip:
        raise DataError(f"{text}\nrepair them, or leave them out with data.skip_unreadable=true")
    _log.warning("%s\nthey are left out (data.skip_unreadable)", text)
