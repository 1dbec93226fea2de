"""What is said before an ablation starts and after it has ended: tables of its variants and runs."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from dethead.ablation.live import STYLES
from dethead.ablation.plan import Plan
from dethead.ablation.runner import Chosen, Failed
from dethead.ablation.status import read_status
from dethead.training.progress import duration
from dethead.training.run_folder import RunFolder


def variants_table(plan: Plan) -> Table:
    """Say what each variant changes of the base."""
    table = Table(
        title=f"{plan.name}: variants of {plan.base}, baseline {plan.baseline}", title_justify="left"
    )
    table.add_column("variant", no_wrap=True)
    table.add_column("changes", overflow="fold")
    for variant in plan.variants:
        lines = [f"{key}: {json.dumps(value)}" for key, value in variant.changes.items()]
        if variant.same_as is not None:
            lines.append(f"expected to equal {variant.same_as}, seeds + {variant.seed_offset}")
        table.add_row(Text(variant.name), Text("\n".join(lines) or "none"))
    return table


def runs_table(chosen: Sequence[Chosen], out: Path) -> Table:
    """Give a line for each run: where it is, how far, its AP and how long it trained."""
    table = Table(title=f"runs in {out}", title_justify="left")
    for name in ("variant", "seed", "state", "AP, %", "trained", "folder"):
        table.add_column(name, justify="right" if name in ("seed", "AP, %", "trained") else "left")
    for planned, folder, _ in chosen:
        state = read_status(folder).state
        table.add_row(
            Text(planned.variant.name),
            str(planned.seed),
            Text(state, STYLES.get(state, "dim")),
            *_numbers(folder),
            Text(str(folder.relative_to(out))),
        )
    return table


def failures(failed: Sequence[Failed]) -> Iterator[str]:
    """Say why runs failed, and where all that they said is."""
    for one in failed:
        yield f"{one.name} failed: {one.error}; all of it: {one.output}"


def _numbers(folder: Path) -> tuple[str, str]:
    path = RunFolder(folder).metrics
    if not path.is_file():
        return "", ""
    report = json.loads(path.read_text(encoding="utf-8"))
    ap = report["last"]["AP"]
    return "-" if ap is None else f"{100 * ap:.1f}", duration(report["train_seconds"])
