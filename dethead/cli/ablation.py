"""``dethead ablate``: train the variants of a plan with all its seeds, and report what came of it."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from dethead import config
from dethead.cli.app import (
    AnnotationsOption,
    DataOption,
    DeviceOption,
    ImagesOption,
    InitFromOption,
    Overrides,
    TeacherOption,
    ThreadsOption,
    WeightsOption,
    WorkersOption,
    app,
    share_workers,
)
from dethead.cli.report import report

if TYPE_CHECKING:
    from dethead.ablation.plan import Plan
    from dethead.ablation.runner import Chosen, Outcome
    from dethead.training import Inputs


@app.command()
def ablate(
    plan_file: Annotated[
        str, typer.Argument(metavar="PLAN", help="YAML file, or the name of a shipped ablation.")
    ],
    data: DataOption,
    out: Annotated[Path, typer.Option(help="Folder for the runs and the report.")],
    overrides: Overrides = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="So many, in place of the plan's.")] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Runs at a time; 1, with ray all.")] = None,
    launcher: Annotated[str, typer.Option(help="local or ray: processes here, or tasks there.")] = "local",
    only: Annotated[str | None, typer.Option(help="Only these variants, comma-separated.")] = None,
    only_seeds: Annotated[str | None, typer.Option(help="Only these seeds, comma-separated.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be trained, and stop.")] = False,
    weights: WeightsOption = None,
    init_from: InitFromOption = None,
    teacher: TeacherOption = None,
    device: DeviceOption = "auto",
    workers: WorkersOption = None,
    threads: ThreadsOption = None,
    train_annotations: AnnotationsOption = None,
    train_images: ImagesOption = None,
    val_annotations: AnnotationsOption = None,
    val_images: ImagesOption = None,
) -> None:
    """Train every variant of a plan with every seed, side by side, and report which differences are real."""
    from dethead.ablation.plan import load_plan

    plan = load_plan(plan_file, overrides or (), seeds)
    from dethead.ablation.closing import runs_table, variants_table
    from dethead.ablation.runner import check_all_free, check_launcher, choose, run_plan, share_threads
    from dethead.training import Inputs

    check_launcher(launcher, jobs)
    if jobs is not None:
        jobs = min(jobs, len(plan.runs()))  # cores and GPUs are shared out over runs that there are
    inputs = Inputs.find(
        data,
        train_annotations=train_annotations,
        train_images=train_images,
        val_annotations=val_annotations,
        val_images=val_images,
        weights=weights,
        init_from=init_from,
        teacher=teacher,
        device=device,
        workers=share_workers(workers, jobs or 1),
    )
    variants, numbers = _listed(only), _seeds(only_seeds)
    chosen = choose(plan, inputs, out, variants, numbers)
    if dry_run:
        _console().print(variants_table(plan), runs_table(chosen, out))
    else:
        check_all_free(chosen)
    _estimate(plan, inputs, chosen, jobs or 1, share_threads(launcher, threads, jobs or 1))
    if dry_run:
        return
    outcome = run_plan(
        plan,
        inputs,
        out,
        jobs=jobs,
        launcher=launcher,
        threads=threads,
        only=variants,
        only_seeds=numbers,
    )
    _close(chosen, outcome, out)


def _estimate(plan: "Plan", inputs: "Inputs", chosen: "Sequence[Chosen]", jobs: int, threads: int) -> None:
    """Build every variant once, and say how long what is left takes."""
    from dethead.ablation.estimate import estimate
    from dethead.ablation.preflight import preflight

    left = [one.planned for one in chosen if not one.finished]
    print(f"{len(chosen) - len(left)} of {len(chosen)} runs are finished", flush=True)
    if not left:
        return
    ready = preflight(plan, inputs)
    try:
        found = estimate(plan, inputs, jobs, ready=ready, runs=left, threads=threads)
    except FloatingPointError as error:  # a variant that comes to nothing is no reason to stop the others
        print(f"to train: {len(left)} runs; no estimate of the time: {error}", flush=True)
        return
    print(f"to train: {found.words()}", *(f"  {line}" for line in found.assumed), sep="\n", flush=True)


def _close(chosen: "Sequence[Chosen]", outcome: "Outcome", out: Path) -> None:
    """Say what became of the runs, and report what is there."""
    from dethead.ablation.closing import failures, runs_table

    _console().print(runs_table(chosen, out))
    failed = [*failures(outcome.failed)]
    for line in failed:
        print(f"dethead: {line}", file=sys.stderr)
    if outcome.stopped:
        print("dethead: stopped; all is saved, and the same command goes on", file=sys.stderr)
        raise typer.Exit(130)
    report(out)
    if failed:
        raise typer.Exit(1)


def _listed(names: str | None) -> list[str]:
    return [name.strip() for name in names.split(",")] if names else []


def _seeds(numbers: str | None) -> list[int]:
    try:
        return [int(number) for number in _listed(numbers)]
    except ValueError:
        raise config.ConfigError(f"--only-seeds must be numbers like 0,1, got {numbers!r}") from None


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else 140)
