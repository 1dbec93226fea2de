"""What the report says in words: the answer, how far the ablation is, how it was made."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from dethead.ablation.report.forest import ranked
from dethead.ablation.results import AblationResults
from dethead.ablation.statistics import AblationStatistics, VariantComparison
from dethead.training.environment import PACKAGES

_STATES: Final = ("finished", "running", "stopped", "failed", "waiting")
_VERSIONS: Final = (
    "dethead",
    "commit",
    "python",
    "torch",
    *PACKAGES,
    "platform",
    "device",
    "device_name",
    "precision",
    "threads",
)
_DIGITS: Final = 12  # of a sha256 that a person compares


class Verdict(NamedTuple):
    """The answer for one variant."""

    variant: str
    verdict: str
    words: str
    expected: str
    """What the plan expected of it, "" if nothing."""


def verdicts(results: AblationResults, statistics: AblationStatistics) -> list[Verdict]:
    """Give the answers, the best variant first."""
    return [
        Verdict(one.variant, one.verdict, one.words, _expected(results, one))
        for one in ranked(statistics.comparisons)
    ]


def _expected(results: AblationResults, one: VariantComparison) -> str:
    """Say of a variant that should equal the baseline whether it does."""
    same_as = results.plan.variant(one.variant).same_as
    if same_as != one.baseline:
        return f"Expected to equal {same_as}." if same_as is not None else ""
    if one.verdict in ("better", "worse"):
        return (
            "It was expected to equal the baseline, and does not: a false alarm, which one such check in "
            "twenty gives, or the runs differ in something else."
        )
    return "It was expected to equal the baseline, and nothing speaks against it."


def summary(statistics: AblationStatistics, baseline: str) -> str:
    """Say in a sentence what came out for many variants; "" for one, whose verdict says it all."""
    count = len(statistics.comparisons)
    if count < 2:
        return ""
    by_verdict = Counter[str](one.verdict for one in statistics.comparisons)
    phrases = {
        "better": "better",
        "worse": "worse",
        "no difference": "not different in any amount that matters",
        "cannot tell": "not told apart from it",
        "identical": "identical",
    }
    parts = [f"{by_verdict[verdict]} {phrase}" for verdict, phrase in phrases.items() if by_verdict[verdict]]
    best = ranked(statistics.comparisons)[0]
    leader = f" The best is {best.variant}." if best.verdict == "better" else ""
    return f"Of {count} variants against {baseline}: {_joined(parts)}.{leader}"


class Progress(NamedTuple):
    """How far an ablation is that is not complete."""

    heading: str
    text: str

    def __str__(self) -> str:
        """Give a line."""
        return f"{self.heading} {self.text}"


def progress(results: AblationResults) -> Progress | None:
    """Say how many runs are done; None when all are."""
    counts = Counter(run.state for run in results.runs)
    others = [f"{counts[state]} {state}" for state in _STATES[1:] if counts[state]]
    if not others:
        return None
    done = f"{counts['finished']} of {len(results.runs)} runs are finished ({', '.join(others)})."
    if results.interim:
        return Progress("Interim report.", f"{done} What follows may change with the others.")
    return Progress(
        f"{'Some' if counts['finished'] else 'All'} runs failed.",
        f"{done} None is still to come; the command that trained them tries those that failed again.",
    )


def without_statistics(results: AblationResults) -> str:
    """Say why there is no answer."""
    baseline = results.plan.baseline
    none = f"No answer{' yet' if results.interim else ''}"
    if not results.of(baseline):
        return f"{none}: no run of the baseline {baseline} is finished."
    return f"{none}: no variant has a finished run of a seed that the baseline {baseline} has, too."


def left_out(results: AblationResults, statistics: AblationStatistics | None) -> list[str]:
    """Name the variants that nothing can be said of yet."""
    compared = {one.variant for one in statistics.comparisons} if statistics is not None else set()
    return [one.name for one in results.plan.variants if one.name not in compared | {results.plan.baseline}]


def broken(results: AblationResults) -> list[tuple[str, str]]:
    """Name failed runs and why they failed."""
    return [(run.planned.name, run.problem) for run in results.runs if run.problem]


def missing(results: AblationResults) -> list[str]:
    """Name the runs that are neither finished nor failed, with their states."""
    return [
        f"{run.planned.name} ({run.state})" for run in results.runs if run.state not in ("finished", "failed")
    ]


def warnings(results: AblationResults, aps: dict[str, float]) -> list[str]:
    """Name what does not fit together.

    Args:
        results: of the ablation.
        aps: AP of every finished run's detections, by the run's name.
    """
    found = []
    for run in results.finished:
        logged, skipped = run.metrics.get("AP"), run.totals.get("unreadable", {}).get("val", 0)
        ap = aps[run.planned.name]
        # An image that could not be read is left out in training, and counts here as one without detections.
        if logged is not None and not skipped and abs(ap - logged) > 1e-6:
            found.append(
                f"{run.planned.name}: its detections have AP {100 * ap:.2f} %, its last validation had "
                f"{100 * logged:.2f} %; they do not belong together."
            )
    if results.others:
        found.append(
            f"runs/ holds what is no run of this plan, and is left out: {', '.join(results.others)}."
        )
    commits = _values(results, "commit")
    if len(commits) > 1:
        found.append(f"The runs were trained at {len(commits)} commits of dethead: {', '.join(commits)}.")
    return found


def protocol(results: AblationResults, statistics: AblationStatistics | None) -> list[tuple[str, str]]:
    """Say how the ablation was made, a line for each matter."""
    plan, data = results.plan, results.data
    run = plan.variant(plan.baseline).run
    epochs = sorted({one.run.training.epochs for one in plan.variants})
    rows = [
        ("plan", f"{plan.name}, base {plan.base}{_changed(plan.overrides)}"),
        ("variants and seeds", f"{len(plan.variants)} variants, seeds {_joined(map(str, plan.seeds))}"),
        ("epochs", _joined(map(str, epochs))),
        ("batch", f"{run.training.batch_size} images of {_size(run.data.image_size)} (baseline)"),
        (
            "what is scored",
            "the weights after the last epoch"
            + (", averaged over steps (EMA)" if run.training.ema is not None else "")
            + "; the best epoch by validation would flatter every variant by another amount",
        ),
        (
            "shared by variants",
            "runs of one seed have the same order of images, the same augmentation and, where shapes agree, "
            "the same initial weights",
        ),
        ("data", f"fingerprint {data['sha256'][:_DIGITS]}"),
    ]
    rows += [
        (name, _file(data[name]))
        for name in ("train", "val", "weights", "init_from", "teacher")
        if name in data
    ]
    if results.coco is not None:
        objects = int(results.coco.class_counts().sum())
        rows.append(
            (
                "scored on",
                f"{len(results.coco)} images, {objects} objects of {len(results.coco.classes.names)} classes",
            )
        )
    if statistics is not None:
        rows.append(("intervals", _intervals(statistics)))
    return rows


def _intervals(statistics: AblationStatistics) -> str:
    return (
        f"{100 * statistics.level:g} %, over images and seeds: the variance between images from "
        f"{statistics.resamples} resamples that all runs share, that between seeds from the differences of "
        "pairs, ends from Student's t; p-values corrected by Holm over the variants"
    )


def versions(results: AblationResults) -> list[tuple[str, str]]:
    """Give versions and machines; where runs differ, all of them."""
    return [(name, ", ".join(values)) for name in _VERSIONS if (values := _values(results, name))]


def _values(results: AblationResults, name: str) -> list[str]:
    """Give what the runs' environments say of one matter, each once."""
    found = (run.environment.get(name) for run in results.runs)
    return list(dict.fromkeys(str(value) for value in found if value not in (None, "")))


def answer_lines(results: AblationResults, statistics: AblationStatistics | None) -> list[str]:
    """Give the answer as plain lines, for a terminal; before it, on how much of the plan it rests."""
    rests_on = progress(results)
    lines = [] if rests_on is None else [str(rests_on)]
    if statistics is None:
        return [*lines, without_statistics(results)]
    lines += [summary(statistics, results.plan.baseline)]
    lines += [one.words for one in verdicts(results, statistics)]
    return [line for line in lines if line]


def _changed(overrides: Sequence[str]) -> str:
    return f", with {', '.join(overrides)}" if overrides else ""


def _file(entry: dict[str, Any]) -> str:
    path = entry.get("annotations") or entry.get("path") or ""
    name = str(path).replace("\\", "/").rsplit("/", 1)[-1]
    return f"{name}, sha256 {entry['sha256'][:_DIGITS]}"


def _size(size: Sequence[int]) -> str:
    return " x ".join(map(str, size))


def _joined(parts: Iterable[str]) -> str:
    *most, last = parts
    return f"{', '.join(most)} and {last}" if most else last
