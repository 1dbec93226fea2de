"""Time COCO evaluation against pycocotools and, where installed, faster-coco-eval and hotcoco.

    python benchmarks/coco_evaluation.py [--images 5000] [--detections 500000] [--without pycocotools]

The set is drawn with a fixed seed: 80 classes of very different frequency, 7 objects per image, 1 % crowd,
100 detections per image, half of them near an object. The 12 numbers of all contenders are compared before a
time is printed. Ours runs on one thread; peers may use all there are.
"""

import argparse
import contextlib
import importlib
import importlib.metadata
import io
import json
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import dethead
from dethead.data.coco import CocoSet
from dethead.evaluation import coco_metrics, official_metrics, read_evaluation
from dethead.evaluation.arrays import DetectionArrays, EvaluationInput, TruthArrays

CLASSES = 80
SIZE = 640.0  # px, width and height of every image
Numbers = list[float]


def draw_set(images: int, objects: int, detections: int) -> EvaluationInput:
    """Draw truth and detections; a third of the objects is small, a third medium, a third large."""
    draw = np.random.default_rng(0)
    frequency = 1 / np.arange(1, CLASSES + 1)
    image = np.sort(draw.integers(0, images, objects))
    label = draw.choice(CLASSES, objects, p=frequency / frequency.sum())
    size = 2.0 ** draw.uniform(3, 8.5, (objects, 2))
    boxes = np.concatenate([draw.uniform(0, 1, (objects, 2)) * (SIZE - size), size], axis=1).round(2)
    areas = (boxes[:, 2] * boxes[:, 3] * draw.uniform(0.5, 1.0, objects)).round(4)
    truth = TruthArrays(image, label, boxes, areas, draw.random(objects) < 0.01)

    near = draw.random(detections) < 0.5
    of = draw.integers(0, objects, detections)
    size = 2.0 ** draw.uniform(3, 8.5, (detections, 2))
    found = np.concatenate([draw.uniform(0, 1, (detections, 2)) * (SIZE - size), size], axis=1)
    spread = draw.choice([0.03, 0.1, 0.3], (detections, 1)) * boxes[of][:, [2, 3, 2, 3]]
    found[near] = (boxes[of] + draw.normal(0, 1, (detections, 4)) * spread)[near]
    found[:, 2:] = np.maximum(found[:, 2:], 1.0)
    where = np.where(near, image[of], draw.integers(0, images, detections))
    what = np.where(
        near & (draw.random(detections) < 0.8),
        label[of],
        draw.choice(CLASSES, detections, p=frequency / frequency.sum()),
    )
    scores = np.clip(draw.beta(1, 4, detections) + 0.3 * near * draw.random(detections), 0, 1).round(4)
    order = np.argsort(where, kind="stable")
    results = DetectionArrays(where[order], what[order], found[order].round(2), scores[order])
    names = tuple(f"class {number}" for number in range(CLASSES))
    return EvaluationInput(np.arange(1, images + 1), names, truth, results)


def annotation_dict(given: EvaluationInput) -> dict[str, Any]:
    """Write the truth in COCO's format, category ids from 1."""
    columns = [column.tolist() for column in given.truth]
    annotations = [
        {
            "id": i,
            "image_id": image + 1,
            "category_id": label + 1,
            "bbox": box,
            "area": area,
            "iscrowd": int(crowd),
        }
        for i, (image, label, box, area, crowd) in enumerate(zip(*columns, strict=True), start=1)
    ]
    images = [
        {"id": i, "file_name": f"{i}.jpg", "width": int(SIZE), "height": int(SIZE)}
        for i in given.image_ids.tolist()
    ]
    categories = [{"id": i + 1, "name": name} for i, name in enumerate(given.class_names)]
    return {"images": images, "categories": categories, "annotations": annotations}


def result_rows(given: EvaluationInput) -> list[dict[str, Any]]:
    """Write the detections as a results file has them."""
    columns = [column.tolist() for column in given.detections]
    return [
        {"image_id": image + 1, "category_id": label + 1, "bbox": box, "score": score}
        for image, label, box, score in zip(*columns, strict=True)
    ]


def matrix(given: EvaluationInput) -> np.ndarray[Any, Any]:
    """Write the detections as the (N, 7) array that COCO APIs take: image, x, y, w, h, score, category."""
    image, label, boxes, scores = given.detections
    return np.column_stack([image + 1, boxes, scores, label + 1])


def run_official(given: EvaluationInput) -> Callable[[], Numbers]:
    """Give pycocotools from arrays: its dictionaries are built, then it runs."""
    return lambda: [*official_metrics(given).numbers().values()]


def run_ours(given: EvaluationInput) -> Callable[[], Numbers]:
    """Give ours from arrays."""
    return lambda: [*coco_metrics(given).numbers().values()]


def run_api(coco: Any, evaluate: Any, truth: Any, results: Any) -> Callable[[], Numbers]:
    """Give a peer with pycocotools' interface, from a dictionary and an array, or from two files."""

    def run() -> Numbers:
        loaded = coco(truth)
        judge = evaluate(loaded, loaded.loadRes(results), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
        return [float(value) for value in judge.stats[:12]]

    return run


def contenders(given: EvaluationInput, files: tuple[Path, Path] | None) -> dict[str, Callable[[], Numbers]]:
    """Everything that is installed, by the name of its distribution; ``files`` instead of arrays if given."""
    truth: Any = str(files[0]) if files else annotation_dict(given)
    results: Any = str(files[1]) if files else matrix(given)
    if files:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        runs = {"pycocotools": run_api(COCO, COCOeval, truth, results), "dethead": run_files(*files)}
    else:
        runs = {"pycocotools": run_official(given), "dethead": run_ours(given)}
    with contextlib.suppress(ImportError):
        faster = importlib.import_module("faster_coco_eval")
        runs["faster-coco-eval"] = run_api(faster.COCO, faster.COCOeval_faster, truth, results)
    with contextlib.suppress(ImportError):
        hotcoco = importlib.import_module("hotcoco")
        load = hotcoco.COCO if files else from_arrays(hotcoco.COCO, given)
        runs["hotcoco"] = run_api(load, hotcoco.COCOeval, truth, results)
    return runs


def from_arrays(coco: Any, given: EvaluationInput) -> Callable[[Any], Any]:
    """Let hotcoco load the truth from arrays, its fastest way."""
    image, label, boxes, areas, crowd = given.truth
    columns = (image + 1, label + 1, boxes)
    return lambda truth: coco.from_arrays(
        truth["images"], truth["categories"], *columns, area=areas, iscrowd=crowd
    )


def run_files(annotations: Path, results: Path) -> Callable[[], Numbers]:
    """Give ours from two JSON files."""
    return lambda: [*coco_metrics(read_evaluation(results, CocoSet.read(annotations))).numbers().values()]


def measure(runs: dict[str, Callable[[], Numbers]], title: str, repeats: int) -> None:
    """Run all, check that they agree, print seconds and ratios."""
    seconds, numbers = {}, {}
    for name, run in runs.items():
        times = []
        for _ in range(1 if name == "pycocotools" else repeats):
            start = time.perf_counter()
            with contextlib.redirect_stdout(io.StringIO()):
                numbers[name] = np.nan_to_num(run(), nan=-1.0)
            times.append(time.perf_counter() - start)
        seconds[name] = min(times)
    for name, values in numbers.items():
        np.testing.assert_allclose(values, numbers["dethead"], atol=1e-12, rtol=0, err_msg=name)
    print(f"\n{title}: AP {numbers['dethead'][0]:.6f}, 12 numbers of all equal to 1e-12")
    for name, value in seconds.items():
        version = dethead.__version__ if name == "dethead" else importlib.metadata.version(name)
        print(f"  {name:>17} {version:<9} {value:8.3f} s  {value / seconds['dethead']:7.2f} x dethead")


def main() -> None:
    """Parse, draw, measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--objects", type=int, default=36_000)
    parser.add_argument("--detections", type=int, default=500_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--without", nargs="*", default=[], metavar="NAME", help="contenders to leave out")
    parser.add_argument("--files", action="store_true", help="from JSON files instead of arrays")
    options = parser.parse_args()
    given = draw_set(options.images, options.objects, options.detections)
    print(
        f"numpy {np.__version__}; {options.images} images, {options.objects} objects, "
        f"{options.detections} detections"
    )
    tracemalloc.start()
    coco_metrics(given)
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    arrays = sum(column.nbytes for part in given[2:] for column in part) / 2**20
    print(f"dethead needs {peak:.0f} MiB at most, beside the {arrays:.0f} MiB of the arrays it is given")
    with tempfile.TemporaryDirectory() as folder:
        files = None
        if options.files:
            files = Path(folder, "annotations.json"), Path(folder, "results.json")
            files[0].write_text(json.dumps(annotation_dict(given)))
            files[1].write_text(json.dumps(result_rows(given)))
        runs = contenders(given, files)
        runs = {name: run for name, run in runs.items() if name not in options.without}
        measure(runs, "JSON files" if files else "arrays", options.repeats)


if __name__ == "__main__":
    main()
