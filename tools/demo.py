"""The main job on built-in data: draw street scenes, train a CE and a BCE head, COCO mAP of both, a report.

``make demo`` runs it. Interrupted, it goes on where it was.
"""

import argparse
import time
from pathlib import Path

from dethead.cli import main as dethead
from dethead.data.scenes import draw_scenes
from dethead.training.progress import bar, duration

JOBS = 2
"""Runs at a time, each on one thread: they are too small for more."""


def main() -> None:
    """Draw, train two variants with two seeds each, report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where everything goes")
    parser.add_argument("--images", type=int, default=1200, help="scenes to draw, a quarter of them for val")
    parser.add_argument("--seed", type=int, default=0, help="of the scenes")
    parser.add_argument("overrides", nargs="*", help="changes of the base config, key.sub=value")
    arguments = parser.parse_intermixed_args()
    started = time.perf_counter()
    scenes, out = arguments.folder / "scenes", arguments.folder / "ablation"
    if not (scenes / "annotations").exists():
        with bar("drawing street scenes", arguments.images) as progress:
            draw_scenes(scenes, arguments.images, seed=arguments.seed, progress=lambda _: progress(1))
    where = ["--data", str(scenes), "--out", str(out)]
    how = ["--jobs", str(JOBS), "--threads", "1", "--workers", "0", "--device", "cpu"]
    try:
        dethead(["ablate", "scenes_ce_vs_bce", *where, *how, *arguments.overrides])
    except SystemExit as end:  # the command line's way to end, also when all is well
        if end.code:
            raise
    print(f"\n{(out / 'report.md').read_text(encoding='utf-8')}")
    print(f"open {out}/report.html; each run in {out}/runs/ has curves.png and examples/")
    print(f"the demo took {duration(time.perf_counter() - started)}")


if __name__ == "__main__":
    main()
