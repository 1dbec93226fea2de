"""Scoring a detector on a data set: COCO mAP and the validation losses."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from dethead.assigners import Assigner
from dethead.data import CocoSet, DetectionDataset, EpochBatches, InTurn, make_loader
from dethead.detector import Detector
from dethead.evaluation import CocoEvaluator, write_results
from dethead.files import naming
from dethead.oracles import ORACLES, BranchOracles
from dethead.postprocess import Postprocessor
from dethead.structures import Anchors, Assignment, Batch, Detections, HeadOutput, LossTerms

Progress = Callable[[int], None]
"""Called with the number of images that were finished."""


@dataclass(frozen=True, slots=True)
class Objective:
    """What the validation losses are computed with: the training's own."""

    assigner: Assigner
    postprocessor: Postprocessor
    """Shows an output to an assigner that wants to see it."""
    loss: Callable[[Batch, HeadOutput, Assignment], LossTerms]


@dataclass(frozen=True, slots=True)
class Scored:
    """One pass over a data set."""

    evaluator: CocoEvaluator
    """Of all images, on every process."""
    losses: dict[str, float]
    """Mean of each loss term over the batches, weighted by their images; empty without an objective."""
    detections: dict[int, Detections]
    """By place in the ``CocoSet``, of the images that could be read, if they were asked for."""
    oracles: dict[str, CocoEvaluator]
    """The same images under each of the ``ORACLES``, if they were asked for."""

    @property
    def found_nothing(self) -> bool:
        """Whether there are images, and none has a detection."""
        images = self.evaluator.state()
        return bool(images) and not any(len(one.detections.label) for one in images)


def predict_batches(
    detector: Detector,
    postprocessor: Postprocessor,
    dataset: DetectionDataset,
    accelerator: Accelerator,
    batch_size: int,
    workers: int,
    flip: bool = False,
) -> Iterator[tuple[Batch, HeadOutput, list[Detections]]]:
    """Run a detector over this process's share of a data set, without gradient.

    It is scored as it detects: with its batch normalisation folded, see ``Detector.for_detection``. With
    ``flip`` the mirror images are asked, too, and the detections are those of both; outputs stay as they are.
    """
    sampler = EpochBatches(
        InTurn(len(dataset)),
        max(batch_size, accelerator.num_processes),
        seed=0,
        epoch=0,
        drop_last=False,
        rank=accelerator.process_index,
        processes=accelerator.num_processes,
    )
    detector.eval()
    folded = detector.for_detection(dataset.size)
    for batch in make_loader(dataset, sampler, workers, pin_memory=accelerator.device.type == "cuda"):
        images, anchors = (
            batch.images.to(accelerator.device, non_blocking=True),
            detector.anchors(dataset.size),
        )
        with torch.no_grad(), accelerator.autocast():
            output = folded(images)
            mirrored = folded(images.flip(-1)) if flip else None
        output = HeadOutput(output.raw.float(), output.embeddings)
        if mirrored is None:
            found = postprocessor(output, anchors, batch.resizes)
        else:
            other = HeadOutput(mirrored.raw.float())
            found = postprocessor.with_mirror(output, other, anchors, dataset.size[1], batch.resizes)
        yield batch, output, [one.cpu() for one in found]


def score(
    detector: Detector,
    postprocessor: Postprocessor,
    dataset: DetectionDataset,
    accelerator: Accelerator,
    *,
    batch_size: int,
    workers: int = 0,
    objective: Objective | None = None,
    keep_detections: bool = False,
    oracles: BranchOracles | None = None,
    flip: bool = False,
    progress: Progress | None = None,
) -> Scored:
    """Score a detector on every image of a data set once, shared out over the processes.

    Args:
        detector: in any mode; it is left in evaluation mode.
        postprocessor: of the same run.
        dataset: without augmentation.
        accelerator: of this process.
        batch_size: images of a batch, all processes together.
        workers: processes that read images.
        objective: gives validation losses, if wanted.
        keep_detections: whether to return the detections too.
        oracles: scores the same outputs with a branch replaced by the truth, too.
        flip: ask the mirror images, too; losses and oracles see the images alone.
        progress: called after each batch.
    """
    evaluator = CocoEvaluator(dataset.coco.classes.names)
    replaced = {name: CocoEvaluator(evaluator.class_names) for name in (ORACLES if oracles else ())}
    sums: dict[str, float] = {}
    images = 0
    kept: dict[int, Detections] = {}
    places = {int(image_id): place for place, image_id in enumerate(dataset.coco.image_ids.tolist())}
    batches = predict_batches(detector, postprocessor, dataset, accelerator, batch_size, workers, flip)
    for batch, output, found in batches:
        rows = [places[image_id] for image_id in batch.image_ids]
        # An image that could not be read (and may be skipped) is no image without detections.
        readable = [place for place, row in enumerate(rows) if not dataset.unreadable[row]]
        truth = [dataset.coco.evaluation_truth(rows[place]) for place in readable]
        evaluator.update([found[place] for place in readable], truth)
        if oracles is not None:
            known = [one.to(output.raw.device) for one in batch.truth]
            changed = oracles(output, detector.anchors(dataset.size), known, batch.resizes)
            for name, each in changed.items():
                replaced[name].update([each[place] for place in readable], truth)
        if keep_detections:
            kept.update((rows[place], found[place]) for place in readable)
        if objective is not None:
            for name, value in _losses(objective, output, batch, detector.anchors(dataset.size)).items():
                sums[name] = sums.get(name, 0.0) + value * len(rows)
        images += len(rows)
        if progress is not None:
            progress(len(rows) * accelerator.num_processes)
    if accelerator.num_processes > 1:
        for one in (evaluator, *replaced.values()):
            one.merge(gather_object([one.state()]))
        states = gather_object([(sums, images, kept)])
        sums = {name: sum(part.get(name, 0.0) for part, _, _ in states) for name in sums}
        images = sum(count for _, count, _ in states)
        kept = {place: found for _, _, part in states for place, found in part.items()}
    losses = {name: value / max(images, 1) for name, value in sums.items()}
    return Scored(evaluator, losses, kept, replaced)


def write_detections(path: Path, coco: CocoSet, detections: Mapping[int, Detections]) -> None:
    """Write what was kept of a pass as a COCO results file.

    Args:
        path: the file.
        coco: the set that was scored.
        detections: by place in the set; an image that is left out has no row.

    Raises:
        ValueError: two classes that share a category id: results could not be told apart.
        OSError: naming the file.
    """
    places = sorted(detections)
    ids = coco.image_ids[places].tolist()
    with naming(path):
        write_results(path, ids, [detections[place] for place in places], coco.classes.category_ids)


@torch.no_grad()
def _losses(objective: Objective, output: HeadOutput, batch: Batch, anchors: Anchors) -> dict[str, float]:
    batch = batch._replace(truth=[one.to(output.raw.device) for one in batch.truth])
    seen = None
    if objective.assigner.needs_predictions:
        seen = objective.postprocessor.predictions(output, anchors)
    terms = objective.loss(batch, output, objective.assigner(anchors, batch.truth, seen))
    return {name: float(value) for name, value in terms.scalars().items()}
