"""``dethead score`` and ``dethead compare``: the numbers of any detector's results files."""

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from dethead.cli.app import app
from dethead.cli.truth import AnnotationsArgument, ClassesOption, ParentOption, read_given, read_truth
from dethead.files import prepare_file, prepare_folder, write_json

if TYPE_CHECKING:
    from dethead.evaluation.bootstrap import Progress as Told
    from dethead.evaluation.intervals import Interval
    from dethead.evaluation.matches import MatchTable
    from dethead.evaluation.metrics import CocoMetrics
    from dethead.evaluation.uncertainty import ScoreIntervals

    Sides = dict[str, list[MatchTable]]
    Compared = tuple[list[Table], str, dict[str, Any]]

JsonOption = Annotated[Path | None, typer.Option("--json", help="Write the numbers here.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Of the resamples.")]


@app.command()
def score(
    annotations: AnnotationsArgument,
    detections: Annotated[Path, typer.Argument(help="COCO results file, of any detector.")],
    json_file: JsonOption = None,
    per_class: Annotated[bool, typer.Option("--per-class", help="Show every class.")] = False,
    classes: ClassesOption = None,
    parent: ParentOption = None,
    plots: Annotated[Path | None, typer.Option(help="Folder for precision-recall curves.")] = None,
    official: Annotated[bool, typer.Option("--official", help="Let pycocotools compute.")] = False,
    resamples: Annotated[int, typer.Option(min=0, help="For 95 % intervals: 2000, say.")] = 0,
    seed: SeedOption = 0,
) -> None:
    """Compute the 12 COCO numbers of a results file."""
    prepare_file(json_file)
    if plots is not None:
        prepare_folder(plots)
    from dethead.evaluation.bootstrap import spread_size
    from dethead.evaluation.coco import coco_metrics
    from dethead.evaluation.matches import match
    from dethead.evaluation.official import official_metrics
    from dethead.evaluation.uncertainty import score_intervals

    given = read_given(detections, read_truth(annotations, classes, parent), parent)
    metrics = official_metrics(given) if official else coco_metrics(given)
    table, numbers, intervals = match(given), metrics.as_dict(), None
    if resamples:
        with _bar(spread_size(len(given.image_ids), resamples)) as progress:
            intervals = score_intervals(table, resamples, seed, progress=progress)
        numbers["intervals"] = intervals.as_dict()
    _show(metrics, intervals, per_class)
    if json_file is not None:
        write_json(json_file, numbers)
    if plots is not None:
        from dethead.evaluation.pictures import save_pr_curves

        save_pr_curves(table, plots / "pr_curves.png")
        print(f"{plots / 'pr_curves.png'}")


@app.command()
def compare(
    annotations: AnnotationsArgument,
    a: Annotated[Path, typer.Argument(metavar="A.json", help="COCO results of detector A.")],
    b: Annotated[Path, typer.Argument(metavar="B.json", help="COCO results of detector B.")],
    seeds: Annotated[
        list[Path] | None,
        typer.Argument(metavar="A1.json B1.json", help="The same two, trained with other seeds: in pairs."),
    ] = None,
    resamples: Annotated[int, typer.Option(min=1, help="Of the images, the same for both.")] = 2000,
    seed: SeedOption = 0,
    classes: ClassesOption = None,
    parent: ParentOption = None,
    json_file: JsonOption = None,
) -> None:
    """Say whether detector B is better than A on the same images: differences, intervals, p-values.

    With several pairs they are those of the means over seeds, and the intervals cover other seeds, too.
    """
    prepare_file(json_file)
    paths = {"A": [a, *(seeds or ())[::2]], "B": [b, *(seeds or ())[1::2]]}
    if len(paths["A"]) != len(paths["B"]):
        raise typer.BadParameter(f"{paths['A'][-1]} has no B beside it", param_hint="A1.json B1.json")
    from dethead.evaluation.bootstrap import spread_size
    from dethead.evaluation.matches import match

    truth = read_truth(annotations, classes, parent)
    tables = {name: [match(read_given(path, truth, parent)) for path in side] for name, side in paths.items()}
    size = spread_size(len(truth), resamples, "percentile")
    with _bar(size * sum(map(len, tables.values()))) as progress:
        compare_them = _compare_seeds if seeds else _compare_two
        shown, verdict, numbers = compare_them(tables, resamples, seed, progress)
    console = _console()
    for table in shown:
        console.print(table)
    print(verdict)
    if json_file is not None:
        names = {"a": [*map(str, paths["A"])], "b": [*map(str, paths["B"])]}
        write_json(json_file, (names if seeds else {"a": str(a), "b": str(b)}) | numbers)


def _compare_two(tables: "Sides", resamples: int, seed: int, progress: "Told") -> "Compared":
    from dethead.evaluation.comparison import compare as compare_tables

    found = compare_tables(tables["A"][0], tables["B"][0], resamples, seed, progress=progress)
    return found.as_tables(), found.verdict(), found.as_dict()


def _compare_seeds(tables: "Sides", resamples: int, seed: int, progress: "Told") -> "Compared":
    from dethead.ablation.statistics import compare_variants

    of_seed = {name: dict(enumerate(side)) for name, side in tables.items()}
    statistics = compare_variants(of_seed, "A", resamples=resamples, seed=seed, progress=progress)
    (found,) = statistics.comparisons
    return found.as_tables(statistics.level), found.words, statistics.as_dict()


def _show(metrics: "CocoMetrics", intervals: "ScoreIntervals | None", per_class: bool) -> None:
    console = _console()
    table = Table(title=f"{sum(one.objects for one in metrics.per_class)} objects, %")
    table.add_column("number")
    table.add_column("", justify="right")
    if intervals is not None:
        table.add_column(f"{100 * intervals.level:g} % interval", justify="right")
    for name, value in metrics.numbers().items():
        ends = [] if intervals is None else [_ends(intervals.numbers[name])]
        table.add_row(name, "-" if math.isnan(value) else f"{100 * value:.1f}", *ends)
    console.print(table)
    if not per_class:
        return
    console.print(metrics.as_table())
    if intervals is not None:
        of_classes = Table()
        of_classes.add_column("class", overflow="fold")
        of_classes.add_column(f"AP, {100 * intervals.level:g} % interval, %", no_wrap=True)
        for one, interval in zip(metrics.per_class, intervals.class_ap, strict=True):
            of_classes.add_row(Text(one.name), _ends(interval))
        console.print(of_classes)


def _ends(interval: "Interval") -> str:
    return "-" if math.isnan(interval.low) else f"{100 * interval.low:.1f} to {100 * interval.high:.1f}"


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else 140)


@contextmanager
def _bar(resamples: int) -> Iterator[Callable[[int], None]]:
    """Show how far resampling is; silent when standard error is not a terminal."""
    columns = (TextColumn("resampling"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("", total=resamples)
        yield lambda done: progress.update(task, advance=done)
