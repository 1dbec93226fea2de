"""All that the page and the Markdown show, computed once."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from dethead.ablation.report import number_tables, words
from dethead.ablation.report.forest import Forest, forest
from dethead.ablation.report.gallery import Room, make_gallery
from dethead.ablation.report.measured import MeasuredVariant
from dethead.ablation.report.tables import Table
from dethead.ablation.results import AblationResults
from dethead.ablation.statistics import AblationStatistics


@dataclass(frozen=True, eq=False)
class Content:
    """What is said of an ablation, before it is laid out."""

    results: AblationResults
    statistics: AblationStatistics | None
    """None: no pair of runs is complete."""
    variants: Sequence[MeasuredVariant]
    """The baseline first."""

    @property
    def progress(self) -> words.Progress | None:
        """Say how far the ablation is, None when all runs are finished."""
        return words.progress(self.results)

    @property
    def summary(self) -> str:
        """Say in a sentence what came out, "" where the verdicts alone do."""
        if self.statistics is None:
            return words.without_statistics(self.results)
        return words.summary(self.statistics, self.results.plan.baseline)

    @property
    def verdicts(self) -> list[words.Verdict]:
        """Give the answer for each variant, the best first."""
        return [] if self.statistics is None else words.verdicts(self.results, self.statistics)

    @property
    def left_out(self) -> list[str]:
        """Name the variants that nothing can be said of yet, where something can be said of others."""
        return [] if self.statistics is None else words.left_out(self.results, self.statistics)

    @property
    def broken(self) -> list[tuple[str, str]]:
        """Name failed runs with their reasons."""
        return words.broken(self.results)

    @property
    def missing(self) -> list[str]:
        """Name runs that are not there yet."""
        return words.missing(self.results)

    @property
    def warnings(self) -> list[str]:
        """Name what does not fit together."""
        aps = {run.result.planned.name: run.metrics.AP for one in self.variants for run in one.runs}
        return words.warnings(self.results, aps)

    @property
    def forest(self) -> Forest | None:
        """Give the plot of AP differences."""
        statistics = self.statistics
        return None if statistics is None else forest(statistics.comparisons, statistics.level)

    @cached_property
    def number_tables(self) -> list[Table]:
        """Give the tables of results; none before a run is finished."""
        results = self.results
        if results.coco is None:
            return []
        tables = [
            number_tables.numbers_table(self.variants),
            number_tables.classes_table(self.variants, results.coco.classes.names),
            number_tables.cost_table(self.variants),
        ]
        if self.statistics is not None:
            tables.insert(0, number_tables.differences_table(self.statistics, results.plan.baseline))
        return tables

    @property
    def comparison_tables(self) -> list[Table]:
        """Give every number of every comparison."""
        return [] if self.statistics is None else number_tables.comparison_tables(self.statistics)

    @cached_property
    def errors(self) -> Table | None:
        """Give what each type of error costs; None before a run is finished."""
        return number_tables.errors_table(self.variants) if self.results.finished else None

    @cached_property
    def oracles(self) -> Table | None:
        """Give what each branch costs; None where no run says it."""
        return number_tables.oracles_table(self.variants)

    @cached_property
    def calibration(self) -> Table | None:
        """Give calibration errors; None where no score is a probability."""
        probabilities = any(run.reliability for one in self.variants for run in one.runs)
        return number_tables.calibration_table(self.variants) if probabilities else None

    @cached_property
    def gallery(self) -> list[Room]:
        """Give the images on which variants disagree; none where the images are not there."""
        results = self.results
        if results.coco is None or results.images is None or self.statistics is None:
            return []
        return make_gallery(self.variants, results.coco, results.images)

    @property
    def no_gallery(self) -> str:
        """Say why there is no gallery, "" where nothing needs to be said."""
        if self.statistics is None or self.gallery:
            return ""
        if self.results.images is None:
            return "The image folder is not there: dethead report DIR --data FOLDER says where it is."
        return "There is no image on which they disagree."

    @cached_property
    def changes(self) -> Table:
        """Give the config diff."""
        return number_tables.changes_table(self.results)

    @cached_property
    def runs(self) -> Table:
        """Give every run of the plan."""
        return number_tables.runs_table(self.results)

    @property
    def protocol(self) -> list[tuple[str, str]]:
        """Say how it was made."""
        return words.protocol(self.results, self.statistics)

    @property
    def versions(self) -> list[tuple[str, str]]:
        """Give versions and machines."""
        return words.versions(self.results)
