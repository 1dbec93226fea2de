"""Time one evaluator alone in its process, so that its memory can be told; ``coco_evaluation.py`` starts it.

    python benchmarks/coco_contender.py NAME files|arrays FOLDER REPEATS

Prints one line of JSON: the 12 numbers, the least of all repeats in seconds by the clock and of all cores
together, and by how many MiB the memory of the process grew beyond libraries and arrays given (nan where the
system has no /proc).
"""

import contextlib
import importlib
import io
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from coco_set import annotation_dict, load_set, matrix
from side_by_side import forget_peak, memory_mib

from dethead.data.coco import CocoSet
from dethead.evaluation import coco_metrics, official_metrics, read_evaluation
from dethead.evaluation.arrays import EvaluationInput

Run = Callable[[], list[float]]
MODULES = {
    "dethead": "dethead",
    "pycocotools": "pycocotools",
    "faster-coco-eval": "faster_coco_eval",
    "hotcoco": "hotcoco",
}
"""Distribution -> module."""


def from_files(name: str, folder: Path) -> Run:
    """Give the run of two JSON files to 12 numbers."""
    annotations, results = folder / "annotations.json", folder / "results.json"
    if name == "dethead":
        return lambda: [*coco_metrics(read_evaluation(results, CocoSet.read(annotations))).numbers().values()]
    return run_api(*api(name), str(annotations), str(results))


def from_arrays(name: str, folder: Path) -> Run:
    """Give the run of arrays to 12 numbers, in each one's fastest way."""
    given = load_set(folder)
    if name in ("dethead", "pycocotools"):
        engine = coco_metrics if name == "dethead" else official_metrics  # builds pycocotools' dictionaries
        return lambda: [*engine(given).numbers().values()]
    coco, evaluate = api(name)
    load = load_columns(coco, given) if name == "hotcoco" else coco
    return run_api(load, evaluate, annotation_dict(given), matrix(given))


def api(name: str) -> tuple[Any, Any]:
    """Give COCO and COCOeval of a peer."""
    if name == "pycocotools":
        coco = importlib.import_module("pycocotools.coco").COCO
        return coco, importlib.import_module("pycocotools.cocoeval").COCOeval
    module = importlib.import_module(MODULES[name])
    return module.COCO, module.COCOeval_faster if name == "faster-coco-eval" else module.COCOeval


def run_api(coco: Any, evaluate: Any, truth: Any, results: Any) -> Run:
    """Give the run of a peer with pycocotools' interface."""

    def run() -> list[float]:
        loaded = coco(truth)
        judge = evaluate(loaded, loaded.loadRes(results), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
        return [float(value) for value in judge.stats[:12]]

    return run


def load_columns(coco: Any, given: EvaluationInput) -> Callable[[Any], Any]:
    """Let hotcoco load the truth from arrays."""
    image, label, boxes, areas, crowd = given.truth
    columns = (image + 1, label + 1, boxes)
    return lambda truth: coco.from_arrays(
        truth["images"], truth["categories"], *columns, area=areas, iscrowd=crowd
    )


def main() -> None:
    """Prepare, run, print."""
    name, source, folder, repeats = sys.argv[1:]
    torch.set_num_threads(1)
    run = {"files": from_files, "arrays": from_arrays}[source](name, Path(folder))
    forget_peak()
    before, seconds, cpu, numbers = memory_mib("VmRSS"), [], [], []
    for _ in range(int(repeats)):
        start = time.perf_counter(), time.process_time()
        with contextlib.redirect_stdout(io.StringIO()):
            numbers = run()
        seconds.append(time.perf_counter() - start[0])
        cpu.append(time.process_time() - start[1])
    # nan is no JSON; pycocotools' own word for it is -1.
    numbers = [-1.0 if value != value else value for value in numbers]
    figures = {"seconds": min(seconds), "cpu": min(cpu), "mib": memory_mib("VmHWM") - before}
    print(json.dumps(figures | {"numbers": numbers}))


if __name__ == "__main__":
    main()
