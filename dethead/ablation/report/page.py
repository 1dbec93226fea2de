"""The report as one page of HTML, complete in itself: styles, script and pictures are inside."""

from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined

import dethead
from dethead.ablation.report.content import Content
from dethead.ablation.report.forest import VERDICTS
from dethead.ablation.report.learning import learning_charts
from dethead.ablation.report.quality import error_bars, oracle_bars, pr_charts, reliability_charts

_SHOWN_IN_FULL: Final = 4
"""Verdicts that lead the page as sentences; of more, the plot does, and the sentences are folded away."""

_SHOWN_MISSING: Final = 12
"""Runs still to come that are named at the top; the table of runs has them all."""


def as_html(content: Content) -> str:
    """Lay the page out. Whatever comes from configs and files is escaped."""
    environment = Environment(
        loader=PackageLoader("dethead.ablation", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    parts = {
        "learning": learning_charts(content.results, content.variants),
        "precision_recall": pr_charts(content.variants),
        "reliability": reliability_charts(content.variants),
        "error_bars": error_bars(content.variants),
        "oracle_bars": oracle_bars(content.variants),
    }
    sections = {
        "results": ("Results", content.number_tables),
        "learning": ("Learning curves", parts["learning"]),
        "precision-recall": ("Precision over recall", parts["precision_recall"]),
        "errors": ("What costs AP", content.errors),
        "calibration": ("Calibration", content.calibration),
        "gallery": ("Where they disagree most", content.gallery),
        "protocol": ("How it was made", True),
    }
    return environment.get_template("page.html").render(
        content=content,
        plan=content.results.plan,
        results=content.results,
        contents=[(name, title) for name, (title, there) in sections.items() if there],
        verdict_styles=VERDICTS,
        shown_in_full=_SHOWN_IN_FULL,
        shown_missing=_SHOWN_MISSING,
        version=dethead.__version__,
        **parts,
    )
