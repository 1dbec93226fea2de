"""The main job on built-in data: draw street scenes, train a CE and a BCE head, COCO mAP of both.

``make demo`` runs it. Interrupted, it goes on where it was.
"""

import argparse
import time
from pathlib import Path
from typing import Any

from dethead import config
from dethead.data.scenes import draw_scenes
from dethead.training import Inputs, train
from dethead.training.progress import bar, duration

TWINS = {"softmax CE": "scenes_softmax_ce", "sigmoid BCE": "scenes_sigmoid_bce"}
COLUMNS = ("AP", "AP50", "AP75", "APs", "APm", "APl")


def main() -> None:
    """Draw, train twice, evaluate, write ``results.md``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where everything goes")
    parser.add_argument("--images", type=int, default=1200, help="scenes to draw, a quarter of them for val")
    parser.add_argument("--seed", type=int, default=0, help="of the scenes")
    parser.add_argument("overrides", nargs="*", help="changes of both configs, key.sub=value")
    arguments = parser.parse_intermixed_args()
    started = time.perf_counter()
    scenes = arguments.folder / "scenes"
    if not (scenes / "annotations").exists():
        with bar("drawing street scenes", arguments.images) as progress:
            draw_scenes(scenes, arguments.images, seed=arguments.seed, progress=lambda _: progress(1))
    results = {}
    for title, name in TWINS.items():
        print(f"\n{title}: configs/{name}.yaml", flush=True)
        results[title] = train_and_score(name, scenes, arguments.folder / name, arguments.overrides)
    table = as_markdown(results)
    (arguments.folder / "results.md").write_text(table + "\n", encoding="utf-8")
    print(f"\nCOCO mAP on held-out scenes, in %:\n\n{table}\n")
    for name in TWINS.values():
        print(f"look at {arguments.folder / name}/curves.png and examples/")
    print(f"the demo took {duration(time.perf_counter() - started)}")


def train_and_score(name: str, scenes: Path, out: Path, overrides: list[str]) -> dict[str, Any]:
    """Train one of the twins, or go on with it; gives the numbers of its best weights."""
    run = config.load(name, overrides)
    best: dict[str, Any] = train(run, Inputs.find(scenes, workers=1), out, resume=True)["best"]
    return best


def as_markdown(results: dict[str, dict[str, Any]]) -> str:
    """Give a line per head: the numbers of all classes, then AP of each class."""
    classes = [one["name"] for one in next(iter(results.values()))["per_class"]]
    head = ["head", *COLUMNS, *(f"AP {name}" for name in classes)]
    lines = [head, ["---"] * len(head)]
    for title, metrics in results.items():
        values = [metrics[name] for name in COLUMNS] + [one["AP"] for one in metrics["per_class"]]
        lines.append([title, *("-" if value is None else f"{100 * value:.1f}" for value in values)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
