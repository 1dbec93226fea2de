"""``dethead analyse``: where the AP of any detector goes."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dethead.cli.app import app
from dethead.cli.truth import AnnotationsArgument, ClassesOption, ParentOption, read_given, read_truth
from dethead.files import prepare_folder, write_atomically, write_json

if TYPE_CHECKING:
    from dethead.data.coco import CocoSet
    from dethead.evaluation.analysis import Analysis

File = tuple[str, str]
"""Name and description."""


@app.command()
def analyse(
    annotations: AnnotationsArgument,
    detections: Annotated[Path, typer.Argument(help="COCO results file, of any detector.")],
    out: Annotated[Path, typer.Option(help="Folder for analysis.md, analysis.json and pictures.")],
    images: Annotated[Path | None, typer.Option(help="Image folder: shows the worst cases.")] = None,
    classes: ClassesOption = None,
    parent: ParentOption = None,
) -> None:
    """Find out what costs a detector its AP: error types, confusion, thresholds, calibration, pictures."""
    from dethead.data import DataError
    from dethead.evaluation.analysis import analyse as run_analysis
    from dethead.evaluation.findings import as_markdown, headline

    if images is not None and not images.is_dir():
        raise DataError(f"{images}: no such image folder")
    prepare_folder(out)
    coco_set = read_truth(annotations, classes, parent)
    analysis = run_analysis(read_given(detections, coco_set, parent))
    write_json(out / "analysis.json", analysis.as_dict())
    files = [("analysis.json", "all numbers"), *_draw(analysis, out)]
    if images is not None:
        files += _draw_galleries(analysis, coco_set, images, out)
    write_atomically(out / "analysis.md", as_markdown(analysis, files))
    print(headline(analysis).replace("**", ""))
    print(f"{out}: analysis.md, {', '.join(name for name, _ in files)}")
    if images is None:
        print("no pictures of the worst cases: --images FOLDER was not given")


def _draw(analysis: "Analysis", out: Path) -> list[File]:
    from dethead.evaluation import pictures
    from dethead.evaluation.calibration import save_reliability

    pictures.save_error_costs(analysis.errors, out / "error_costs.png")
    pictures.save_error_counts(analysis.errors, out / "error_counts.png")
    pictures.save_pr_curves(analysis.table, out / "pr_curves.png")
    pictures.save_confusion(analysis.confusion, out / "confusion.png")
    files = [
        ("error_costs.png", "AP50 lost by each type of error"),
        ("error_counts.png", "errors by type and class"),
        ("pr_curves.png", "precision over recall"),
        ("confusion.png", "which class is taken for which"),
    ]
    if analysis.calibration is not None:
        save_reliability(analysis.calibration, out / "reliability.png")
        files.append(("reliability.png", "what probabilities say, and how often they are right"))
    return files


def _draw_galleries(analysis: "Analysis", coco_set: "CocoSet", images: Path, out: Path) -> list[File]:
    from dethead.evaluation import pictures

    photographs = pictures.Photographs(coco_set, images)
    given, table, errors = analysis.given, analysis.table, analysis.errors
    score = analysis.confusion.score
    drawn = {
        ("misses.jpg", "the largest objects that were not found"): pictures.save_misses(
            given, table, photographs, out / "misses.jpg", score=score
        ),
        ("mistakes.jpg", "the most confident wrong detections"): pictures.save_mistakes(
            given, table, errors, photographs, out / "mistakes.jpg"
        ),
    }
    return [file for file, count in drawn.items() if count]
