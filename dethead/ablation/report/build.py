"""From the folder of an ablation to its report, whatever is finished by now."""

from pathlib import Path
from typing import Final, NamedTuple

from dethead.ablation.report.content import Content
from dethead.ablation.report.exports import as_csv, as_json
from dethead.ablation.report.markdown import as_markdown
from dethead.ablation.report.measured import measure
from dethead.ablation.report.page import as_html
from dethead.ablation.report.words import answer_lines
from dethead.ablation.results import AblationResults, read_results
from dethead.ablation.statistics import AblationStatistics, compare_variants
from dethead.evaluation.matches import MatchTable
from dethead.files import prepare_folder, write_atomically, write_json
from dethead.training.progress import bar

RESAMPLES: Final = 1000

Tables = dict[str, dict[int, MatchTable]]
"""Variant -> seed -> what was matched."""


class ReportFiles(NamedTuple):
    """The files of a report, and what they begin with."""

    html: Path
    markdown: Path
    json: Path
    csv: Path
    answer: tuple[str, ...]
    """The answer in plain lines."""

    def __str__(self) -> str:
        """Give the answer, and where the files are: what a terminal shows."""
        names = ", ".join(path.name for path in (self.markdown, self.json, self.csv))
        return "\n".join([*self.answer, f"{self.html}, {names}"])


def build_report(
    out: Path,
    data: Path | None = None,
    *,
    annotations: Path | None = None,
    images: Path | None = None,
    resamples: int = RESAMPLES,
) -> ReportFiles:
    """Report what is in the folder of an ablation, also while some of its runs still train.

    Args:
        out: the folder.
        data: the data folder; None: where it was when the ablation started.
        annotations: the annotation file of val, wherever it is, in place of the one found.
        images: the folder of its images, likewise.
        resamples: of the images, for the intervals.

    Raises:
        RunFolderError, DataError, ValueError: see ``read_results``.
    """
    results = read_results(out, data, annotations=annotations, images=images)
    return write_report(results, compare(results, resamples), out)


def compare(results: AblationResults, resamples: int = RESAMPLES) -> AblationStatistics | None:
    """Compare the variants that can be compared; None if no pair of runs is complete."""
    tables, unpaired = comparable(results)
    if len(tables) < 2:
        return None
    runs = sum(map(len, tables.values()))
    with bar("statistics", resamples * runs, unit="resamples") as progress:
        return compare_variants(
            tables, results.plan.baseline, unpaired=unpaired, resamples=resamples, progress=progress
        )


def comparable(results: AblationResults) -> tuple[Tables, list[str]]:
    """Give the tables of variants that share a finished seed with the baseline, and which are unpaired.

    A variant is unpaired if its seeds are shifted against the baseline's: no run of it belongs to any of
    theirs. One finished run of each side is enough then.
    """
    plan, tables = results.plan, results.tables()
    baseline = tables.get(plan.baseline)
    if not baseline:
        return {}, []
    offset = plan.variant(plan.baseline).seed_offset
    unpaired = [one.name for one in plan.variants if one.seed_offset != offset and one.name in tables]
    there = {name: of for name, of in tables.items() if name in unpaired or of.keys() & baseline.keys()}
    return there, unpaired


def write_report(results: AblationResults, statistics: AblationStatistics | None, out: Path) -> ReportFiles:
    """Write the four files.

    Args:
        results: of the ablation.
        statistics: of the variants that could be compared; None for none.
        out: folder for the files.
    """
    prepare_folder(out)
    variants = measure(results)
    content = Content(results, statistics, variants)
    files = ReportFiles(
        html=out / "report.html",
        markdown=out / "report.md",
        json=out / "results.json",
        csv=out / "results.csv",
        answer=tuple(answer_lines(results, statistics)),
    )
    write_json(files.json, as_json(results, statistics, variants))
    write_atomically(files.csv, as_csv(results, variants))
    write_atomically(files.markdown, as_markdown(content))
    write_atomically(files.html, as_html(content))
    return files
