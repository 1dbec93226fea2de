"""Images in, detections out: a trained run as one object."""

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from dethead.data import DataError, Sample, read_image, resize_to_fit
from dethead.data.samples import stack_images
from dethead.drawing import draw_detections, save_picture
from dethead.evaluation import write_results
from dethead.postprocess import Postprocessor
from dethead.structures import Detections, GroundTruth
from dethead.training.accelerator import is_cpu
from dethead.training.finished import FinishedRun

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
"""Files that ``find_images`` takes from a folder."""

FOR_PICTURES: Final = 0.3
"""Lowest score of a detection that is drawn, where its class has no threshold of its own."""

ImageLike = Tensor | str | Path
"""A (3, H, W) uint8 RGB tensor, or the path of an image file."""


class Predictor:
    """A trained detector.

    Args:
        finished: the run; ``load`` finds it by its folder.
        device: "cpu", "cuda", "cuda:1", "mps", or "auto" for what is there.
        score: only detections with at least this score; None keeps the run's own threshold.
        classes: only these classes, by name; None for all.
        flip: ask the mirror image of every image, too, and average the two answers; takes twice as long.

    Raises:
        ConfigError: a device that is not there.
        ValueError: an unknown class or a score outside [0, 1].
    """

    def __init__(
        self,
        finished: FinishedRun,
        device: str = "cpu",
        *,
        score: float | None = None,
        classes: Sequence[str] | None = None,
        flip: bool = False,
    ) -> None:
        self.class_names, self.category_ids = finished.class_names, finished.category_ids
        self.device = torch.device(_device(device))
        self.image_size = (finished.run.data.image_size[0], finished.run.data.image_size[1])
        self.detector = finished.detector.to(self.device).for_detection(self.image_size)
        self.postprocessor: Postprocessor = finished.postprocessor
        if score is not None:
            self.postprocessor = dataclasses.replace(self.postprocessor, score_threshold=score)
        self.labels, self.flip = self._labels(classes), flip

    def _labels(self, classes: Sequence[str] | None) -> Tensor | None:
        if classes is None:
            return None
        unknown = [name for name in classes if name not in self.class_names]
        if unknown:
            raise ValueError(f"class {unknown[0]!r} is unknown; the run has {', '.join(self.class_names)}")
        return torch.tensor([self.class_names.index(name) for name in classes])

    def predict(self, image: ImageLike) -> Detections:
        """Find the objects in an image.

        Args:
            image: uint8 RGB (3, H, W), or a path (photographs are turned upright by their EXIF data).

        Returns:
            Detections in original pixels, on the CPU.

        Raises:
            DataError: a file that is no readable image.
            ValueError: a tensor of another shape or type.
        """
        return self.predict_many([image])[0]

    def predict_many(self, images: Sequence[ImageLike]) -> list[Detections]:
        """Find the objects in several images, all at once on the device; see ``predict``."""
        return self._batch([as_image(one) for one in images]) if images else []

    def stream(
        self, paths: Iterable[Path], batch_size: int = 8, broken: list[DataError] | None = None
    ) -> Iterator[tuple[Path, Tensor, Detections]]:
        """Predict many files, ``batch_size`` at a time; gives path, (3, H, W) image and detections.

        Args:
            paths: image files.
            batch_size: images on the device at once.
            broken: takes the errors of files that are no readable images, which are then left out; without it
                the first of them is raised.
        """
        waiting: list[tuple[Path, Tensor]] = []
        for path in paths:
            try:
                waiting.append((path, as_image(path)))
            except DataError as error:
                if broken is None:
                    raise
                broken.append(error)
            if len(waiting) == batch_size:
                yield from self._flush(waiting)
                waiting = []
        yield from self._flush(waiting)

    def _flush(self, waiting: list[tuple[Path, Tensor]]) -> Iterator[tuple[Path, Tensor, Detections]]:
        found = self.predict_many([image for _, image in waiting])
        for (path, image), detections in zip(waiting, found, strict=True):
            yield path, image, detections

    @torch.no_grad()
    def _batch(self, images: list[Tensor]) -> list[Detections]:
        nothing = GroundTruth.from_labels(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), 1)
        fitted = [resize_to_fit(Sample(image, nothing), self.image_size) for image in images]
        pixels = stack_images([sample.image for sample, _ in fitted]).to(self.device)
        resizes = [resize for _, resize in fitted]
        anchors, output = self.detector.anchors(self.image_size), self.detector(pixels)
        if self.flip:
            mirrored = self.detector(pixels.flip(-1))
            found = self.postprocessor.with_mirror(output, mirrored, anchors, self.image_size[1], resizes)
        else:
            found = self.postprocessor(output, anchors, resizes)
        return [self._chosen(one.cpu()) for one in found]

    def _chosen(self, found: Detections) -> Detections:
        return found if self.labels is None else found.select(torch.isin(found.labels, self.labels))


def for_pictures(postprocessor: Postprocessor) -> Postprocessor:
    """Drop what is below a class's own threshold, or below FOR_PICTURES where it has none, or 0."""
    own = tuple(value or FOR_PICTURES for value in postprocessor.class_thresholds)
    lowest = min(own, default=FOR_PICTURES)
    return dataclasses.replace(postprocessor, score_threshold=lowest, class_thresholds=own)


def load(
    path: str | Path,
    device: str = "cpu",
    *,
    score: float | None = None,
    classes: Sequence[str] | None = None,
    flip: bool = False,
) -> Predictor:
    """Load a trained run for prediction: ``dethead.load("runs/ce").predict("street.jpg")``.

    Args:
        path: a run folder or its ``best.pt``.
        device: where to run it.
        score: only detections with at least this score, in [0, 1].
        classes: only these classes, by name.
        flip: ask the mirror image of every image, too.

    Raises:
        RunFolderError, CheckpointError: nothing there that could be loaded.
    """
    return Predictor(FinishedRun.load(Path(path)), device, score=score, classes=classes, flip=flip)


def _device(name: str) -> str:
    if is_cpu(name):
        return "cpu"
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "mps"
    return name


def as_image(image: ImageLike) -> Tensor:
    """Give the (3, H, W) uint8 RGB tensor of a path, or check a tensor to be one."""
    if isinstance(image, str | Path):
        return read_image(Path(image), exif=True)
    if image.ndim != 3 or image.shape[0] != 3 or image.dtype != torch.uint8 or 0 in image.shape:
        raise ValueError(
            f"an image must be a (3, H, W) uint8 RGB tensor, got {tuple(image.shape)} {image.dtype}"
        )
    return image


def find_images(paths: Iterable[Path]) -> list[Path]:
    """Give the image files among files and folders, folders searched to their depth, in order.

    Raises:
        DataError: a path that is not there, or nothing found at all.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES)
        elif path.is_file():
            found.append(path)
        else:
            raise DataError(f"{path}: no such image or folder")
    if not found:
        raise DataError(f"no images in {', '.join(map(str, paths))}; looked for {', '.join(SUFFIXES)}")
    return found


class Predicted(NamedTuple):
    """What ``predict_folder`` did."""

    images: int
    objects: int
    broken: list[DataError]
    """Files that are no readable images, by their errors."""


def predict_folder(
    predictor: Predictor, files: Sequence[Path], out: Path, progress: Callable[[int], None] | None = None
) -> Predicted:
    """Predict image files and leave pictures and results in a folder.

    Writes an annotated copy of every image, ``detections.json`` in COCO's results format, and
    ``images.json``, which says in COCO's format which image id and category id is what.

    Args:
        predictor: a loaded run.
        files: images.
        out: folder, made if it is not there.
        progress: called with 1 after each image.
    """
    out.mkdir(parents=True, exist_ok=True)
    records: list[dict[str, Any]] = []
    found: list[Detections] = []
    broken: list[DataError] = []
    for image_id, (path, image, detections) in enumerate(predictor.stream(files, broken=broken), start=1):
        picture = draw_detections(image, detections, predictor.class_names)
        save_picture(picture, out / f"{image_id:05}_{path.stem}.jpg")
        height, width = image.shape[1:]
        records.append({"id": image_id, "file_name": str(path), "width": width, "height": height})
        found.append(detections)
        if progress is not None:
            progress(1)
    pairs = zip(predictor.category_ids, predictor.class_names, strict=True)
    categories = [{"id": category, "name": name} for category, name in pairs]
    write_results(out / "detections.json", [r["id"] for r in records], found, predictor.category_ids)
    index = {"images": records, "annotations": [], "categories": categories}
    (out / "images.json").write_text(json.dumps(index, indent=1), encoding="utf-8")
    return Predicted(len(found), sum(len(one.scores) for one in found), broken)
