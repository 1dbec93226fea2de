"""Commands to learn from: which losses there are, and one of them worked by hand."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from dethead import config
from dethead.cli.app import app


@app.command()
def losses(
    name: Annotated[str | None, typer.Argument(help="One class loss, with its settings.")] = None,
    json_out: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """List every class scheme and every other loss: formula, range, targets, source."""
    from dethead.explain import CLASS_LOSSES, OTHER_LOSSES

    if name is not None and name not in CLASS_LOSSES:
        config.check_scheme({"name": name})  # its error knows the nearest name
    if json_out:
        chosen = {name: CLASS_LOSSES[name]} if name else CLASS_LOSSES
        values: dict[str, Any] = {"class": {key: entry._asdict() for key, entry in chosen.items()}}
        if name is None:
            values |= {kind: {k: e._asdict() for k, e in rows.items()} for kind, rows in OTHER_LOSSES.items()}
        print(json.dumps(values, indent=2))
        return
    if name is not None:
        entry = CLASS_LOSSES[name]
        for label, text in zip(("formula", "range", "targets", "source"), entry, strict=True):
            print(f"{label:9}{text}")
        print("settings")
        for line in config.scheme_settings(name):
            print(f"  {line}")
        return
    console = Console()
    for kind, rows in {"class (class_scheme.name)": CLASS_LOSSES, **OTHER_LOSSES}.items():
        table = Table(title=f"{kind} losses", title_justify="left")
        for column in ("name", "formula", "range", "targets", "source"):
            table.add_column(column, overflow="fold", no_wrap=column == "name")
        for key, entry in rows.items():
            table.add_row(key, *entry)
        console.print(table)


@app.command()
def explain(
    name: Annotated[str, typer.Argument(help="Class scheme, as in a config; see `dethead losses`.")],
    settings: Annotated[
        list[str] | None, typer.Argument(metavar="[key=value]...", help="Its settings.")
    ] = None,
    logits: Annotated[str, typer.Option(help="C numbers: 5,4,2; several boxes by semicolons.")] = "5,4,2",
    target: Annotated[
        str,
        typer.Option(
            help="Label 0; labels 0,2; C numbers 0.7,0.2,0.1; background; ignore; one for each box."
        ),
    ] = "0",
    sample_weight: Annotated[float, typer.Option(min=0, help="Factor on the box.")] = 1.0,
    seen: Annotated[str | None, typer.Option(help="Boxes of each class so far (seesaw).")] = None,
    step: Annotated[float | None, typer.Option(help="Learning rate of one descent step.")] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw loss and gradient over the true logit.")] = None,
    json_out: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Work a class loss through by hand: every formula with its numbers, the gradient, a step."""
    from dethead import explain as worked_by_hand

    scheme = _scheme(name, settings or [])
    rows = [_numbers(part, "--logits") for part in logits.split(";")]
    wanted = [part.strip() for part in target.split(";")]
    if len(wanted) != len(rows):
        raise config.ConfigError(f"--target has {len(wanted)} boxes, --logits {len(rows)}")
    so_far = _seen(seen)
    labels = [_target(one, len(row)) for row, one in zip(rows, wanted, strict=True)]
    worked_by_hand.check_apart(scheme, list(zip(rows, labels, strict=True)), so_far)
    done = []
    for row, one, label in zip(rows, wanted, labels, strict=True):
        worked = worked_by_hand.explain(
            scheme, row, label, seen=so_far, sample_weight=sample_weight, ignore=one == "ignore"
        )
        done.append(worked)
        if json_out:
            continue
        print(worked)
        if step is not None:
            print(worked_by_hand.descend(worked, step))
        print()
    if json_out:
        keys = ("steps", "loss", "gradient", "probabilities")
        print(json.dumps([{k: _plain(getattr(one, k)) for k in keys} for one in done], indent=2))
    if plot is not None:
        worked_by_hand.save_plot(done[0], plot)
        print(f"{plot}: loss and gradient over the true logit")


def _scheme(name: str, settings: list[str]) -> Any:
    from dethead import build

    values: dict[str, Any] = {"name": name}
    for setting in settings:
        config.override_with(values, setting)
    return build.make(build.CLASS_SCHEMES, config.check_scheme(values))


def _plain(value: Any) -> Any:
    is_steps = isinstance(value, list) and value and hasattr(value[0], "_asdict")
    return [one._asdict() for one in value] if is_steps else value


def _numbers(text: str, option: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise config.ConfigError(f"{option} must be numbers with commas between, got {text!r}") from None


def _target(text: str, classes: int) -> int | list[float]:
    """A label, or C numbers: given so (with a dot in them), or 1 for each of several labels."""
    if text == "background":
        return -1
    if text == "ignore":
        return 0
    numbers = _numbers(text, "--target")
    if "." in text:
        return numbers
    labels = [int(number) for number in numbers]
    if any(not 0 <= label < classes for label in labels):
        raise config.ConfigError(f"--target {text}: labels must be in [0, {classes})")
    return labels[0] if len(labels) == 1 else [float(c in labels) for c in range(classes)]


def _seen(text: str | None) -> Any:
    if text is None:
        return None
    import torch

    from dethead.structures import ClassesSeen

    counts = torch.tensor(_numbers(text, "--seen"), dtype=torch.float64)
    return ClassesSeen(counts, counts, torch.ones_like(counts))
