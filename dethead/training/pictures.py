"""What one would rather look at: curves, and validation images with truth and detections side by side."""

import torch
from accelerate import Accelerator

from dethead.data import DetectionDataset, collate, read_image
from dethead.detector import Detector
from dethead.drawing import plot_curves, save_picture, truth_beside_detections
from dethead.postprocess import Postprocessor
from dethead.training.inputs import RunData
from dethead.training.run_folder import RunFolder

EXAMPLES = 12
"""Validation images that are drawn, evenly spread over the set."""


def leave_pictures(
    folder: RunFolder,
    data: RunData,
    postprocessor: Postprocessor,
    detector: Detector,
    accelerator: Accelerator,
) -> None:
    """Write ``curves.png`` and ``examples/`` of a finished run."""
    plot_curves(folder.log, folder.curves)
    folder.examples.mkdir(exist_ok=True)
    dataset = data.val
    count = min(EXAMPLES, len(dataset))
    detector.eval()
    for index in (place * len(dataset) // count for place in range(count)):
        _example(folder, dataset, index, postprocessor, detector, accelerator)


def _example(
    folder: RunFolder,
    dataset: DetectionDataset,
    index: int,
    postprocessor: Postprocessor,
    detector: Detector,
    accelerator: Accelerator,
) -> None:
    batch = collate([dataset[(0, index)]])
    if dataset.unreadable[index]:
        return
    with torch.no_grad(), accelerator.autocast():
        output = detector(batch.images.to(accelerator.device))
    found = postprocessor(output, detector.anchors(dataset.size), batch.resizes)[0].cpu()
    name = dataset.coco.file_name(index)
    image = read_image(dataset.images / name)
    picture = truth_beside_detections(image, dataset.coco.truth(index), found, dataset.coco.classes.names)
    stem = name.rsplit(".", 1)[0].replace("/", "_")
    save_picture(picture, folder.examples / f"{stem}.jpg")
