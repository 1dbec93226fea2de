"""Time a paired bootstrap of two detectors, beside hotcoco's where it is installed.

    python benchmarks/bootstrap.py [--detections 500000] [--resamples 1000]

5000 images, 80 classes, 36 000 objects and twice 500 000 detections, or fewer (see ``coco_set.py``). B
is A with less exact boxes. Ours computes the 12 numbers *and* the AP of each class of both on every resample;
hotcoco the 12 numbers. The 12 differences on all images are compared before a time is printed. Without
``taskset -c 0`` before the command, peers use all cores. At full size hotcoco takes minutes: it may get fewer
resamples (``--peer-resamples``), and its time is then scaled.
"""

import argparse
import importlib
import importlib.metadata
import importlib.util
import os
import time
import tracemalloc
from typing import Any

import numpy as np
import torch
from coco_contender import load_columns
from coco_set import annotation_dict, draw_set, matrix

import dethead
from dethead.evaluation.arrays import EvaluationInput
from dethead.evaluation.bootstrap import bootstrap
from dethead.evaluation.matches import match
from dethead.evaluation.metrics import NUMBER_NAMES
from dethead.evaluation.weighted import Weighting


def less_exact(given: EvaluationInput) -> EvaluationInput:
    """Shift all detections a little, by a fixed seed."""
    boxes = given.detections.boxes.copy()
    boxes[:, :2] += np.random.default_rng(1).normal(0, 0.05, (len(boxes), 2)) * boxes[:, 2:]
    return given._replace(detections=given.detections._replace(boxes=boxes.round(2)))


def run_ours(sets: list[EvaluationInput], resamples: int) -> tuple[list[float], float]:
    """Give the 12 differences and the seconds that resampling took, matching left out."""
    tables = [match(given) for given in sets]
    start = time.perf_counter()
    a, b = (bootstrap(table, resamples) for table in tables)
    seconds = time.perf_counter() - start
    assert a.numbers.shape == b.numbers.shape == (resamples, len(NUMBER_NAMES))
    once = np.ones((len(sets[0].image_ids), 1), dtype=np.int64)
    full = [Weighting(table).numbers(once).numbers[0] for table in tables]
    return (full[1] - full[0]).tolist(), seconds


def run_hotcoco(sets: list[EvaluationInput], resamples: int) -> tuple[list[float], float]:
    """The same of hotcoco."""
    hotcoco: Any = importlib.import_module("hotcoco")
    load = load_columns(hotcoco.COCO, sets[0])
    judges = []
    for given in sets:
        truth = load(annotation_dict(given))
        judges.append(hotcoco.COCOeval(truth, truth.loadRes(matrix(given)), "bbox"))
        judges[-1].evaluate()
    start = time.perf_counter()
    found = hotcoco.compare(*judges, n_bootstrap=resamples, seed=0)
    return [found["deltas"][name] for name in NUMBER_NAMES], time.perf_counter() - start


def peak_mib(given: EvaluationInput, resamples: int) -> float:
    """Most memory of NumPy arrays during a bootstrap, beside the match table."""
    table = match(given)
    tracemalloc.start()
    bootstrap(table, resamples)
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    return peak


def main() -> None:
    """Parse, draw, measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--detections", type=int, default=500_000)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--peer-resamples", type=int, help="as many as ours unless given")
    options = parser.parse_args()
    torch.set_num_threads(1)
    sets = [draw_set(options.detections)]
    sets.append(less_exact(sets[0]))
    print(
        f"numpy {np.__version__}, torch {torch.__version__}, {len(os.sched_getaffinity(0))} cores; "
        f"{len(sets[0].image_ids)} images, 2 x {options.detections} detections"
    )
    deltas, ours = run_ours(sets, options.resamples)
    print(f"{'dethead':>10} {dethead.__version__:<8} {ours:8.2f} s for {options.resamples} paired resamples")
    print(f"{'':>10} {'':<8} {peak_mib(sets[0], min(options.resamples, 256)):8.0f} MiB in NumPy arrays")
    if importlib.util.find_spec("hotcoco") is None:
        print("hotcoco is not installed: nothing to compare with")
        return
    resamples = options.peer_resamples or options.resamples
    theirs_deltas, theirs = run_hotcoco(sets, resamples)
    np.testing.assert_allclose(deltas, theirs_deltas, rtol=0, atol=1e-12)
    theirs *= options.resamples / resamples
    scaled = f" (scaled from {resamples})" if resamples != options.resamples else ""
    version = importlib.metadata.version("hotcoco")
    print(f"{'hotcoco':>10} {version:<8} {theirs:8.2f} s{scaled}: {theirs / ours:.1f} x dethead")


if __name__ == "__main__":
    main()
