"""Plans of the tests' own config, written beside it."""

import shutil
from pathlib import Path

from tiny_runs import CONFIG

from dethead.ablation.plan import Plan, load_plan


def plan_of(folder: Path, variants: str, changes: str = "{}", seeds: str = "2") -> Plan:
    """A plan whose baseline is ``a``, from the YAML of its variants."""
    shutil.copy(CONFIG, folder / "base.yaml")
    path = folder / "mine.yaml"
    path.write_text(
        f"base: base.yaml\nbaseline: a\nseeds: {seeds}\nchanges: {changes}\nvariants: {variants}\n"
    )
    return load_plan(path)
