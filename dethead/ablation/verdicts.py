"""What a comparison says, in plain words."""

import math
from typing import Literal, NamedTuple

from dethead.ablation.variance import MOST_SEEDS, POWER, Noise
from dethead.evaluation.bootstrap import FEWEST_IMAGES
from dethead.evaluation.comparison import show_p, show_points, show_range
from dethead.evaluation.intervals import Interval

Verdict = Literal["better", "worse", "no difference", "cannot tell", "identical"]

CLOSE = 2
"""An interval whose far end lies within so many margins is called "no difference larger than" that end."""


class Runs(NamedTuple):
    """Which runs are compared."""

    variant: str
    baseline: str
    paired: bool
    seeds: tuple[int, ...]
    """Of the variant."""
    baseline_seeds: tuple[int, ...]
    """The same ones when paired."""
    images: int

    @property
    def one_seed(self) -> bool:
        """Whether nothing is known about other seeds."""
        return min(len(self.seeds), len(self.baseline_seeds)) == 1


class Evidence(NamedTuple):
    """What was found about AP."""

    difference: float
    interval: Interval
    p_value: float
    p_holm: float
    noise: Noise
    identical: bool
    """No number at all differs at any seed."""


class Rule(NamedTuple):
    """By what is judged."""

    level: float
    """Of the interval; a Holm-corrected p-value up to 1 - level is a difference."""
    margin: float
    """The difference that matters."""
    family: int
    """Comparisons that Holm corrects for."""


def judge(runs: Runs, found: Evidence, rule: Rule) -> tuple[Verdict, str]:
    """Give the verdict, and say it.

    - identical: nothing differs at any seed.
    - better, worse: the Holm-corrected p-value of AP is at most 1 - level.
    - no difference: else, if the whole interval lies within 2 margins of 0. The words name its far end,
      rounded up to 0.1 points: "no difference larger than" that. A high p-value alone never says so.
    - cannot tell: else. The words say what would help: more seeds, or only more images.

    With one seed every verdict but "identical" says that it is about these trained weights only.
    """
    if found.identical:
        return (
            "identical",
            f"{runs.variant} and {runs.baseline} are identical: no number differs at any seed.",
        )
    if math.isnan(found.p_holm):
        return "cannot tell", (
            f"Nothing can be said about AP of {runs.variant} and {runs.baseline}: it is undefined, nothing "
            f"varies, or fewer than {FEWEST_IMAGES} images have objects."
        )
    verdict = _verdict(found, rule)
    shown = f"AP {show_points(found.difference)}, {show_range(found.interval, rule.level)}, {_p(found, rule)}"
    sentences = [f"{_claim(verdict, runs, found)}: {shown} ({_basis(runs)})."]
    if verdict == "cannot tell":
        sentences += _alone(found, rule) + _advice(runs, found, rule)
    if runs.one_seed:
        sentences.append("One seed: this says nothing about other seeds; train two or more, better five.")
    return verdict, " ".join(sentences)


def _verdict(found: Evidence, rule: Rule) -> Verdict:
    if found.p_holm <= 1 - rule.level:
        return "better" if found.difference > 0 else "worse"
    return "no difference" if _far_end(found) <= CLOSE * rule.margin else "cannot tell"


def _far_end(found: Evidence) -> float:
    return max(abs(found.interval.low), abs(found.interval.high))


def _claim(verdict: Verdict, runs: Runs, found: Evidence) -> str:
    if verdict == "no difference":
        most = math.ceil(round(1000 * _far_end(found), 6)) / 10
        return f"No difference larger than {most:.1f} points between {runs.variant} and {runs.baseline}"
    if verdict == "cannot tell":
        return f"Cannot tell {runs.variant} from {runs.baseline}"
    return f"{runs.variant} is {verdict} than {runs.baseline}"


def _p(found: Evidence, rule: Rule) -> str:
    alone = f"p = {show_p(found.p_value)}"
    if rule.family < 2:
        return alone
    return f"{alone}, {show_p(found.p_holm)} among {rule.family} comparisons"


def _basis(runs: Runs) -> str:
    counts = [len(runs.seeds), len(runs.baseline_seeds)]
    seeds = (
        f"{counts[0]} seed{'s' * (counts[0] > 1)}"
        if runs.paired
        else f"{counts[0]} and {counts[1]} other seeds"
    )
    return f"{seeds}, {runs.images} images"


def _alone(found: Evidence, rule: Rule) -> list[str]:
    if found.p_value > 1 - rule.level:
        return []
    return [f"Alone it would count, but of {rule.family} comparisons one such may well come by chance."]


def _advice(runs: Runs, found: Evidence, rule: Rule) -> list[str]:
    """Say what these runs can find, and whether more seeds would help."""
    noise, wanted = found.noise, f"{100 * rule.margin:g} points"
    sentences = [f"Differences from {_points(noise.detectable(rule.level))} on are found with 80 % power."]
    if runs.one_seed:
        return sentences
    limit = noise.on_images_alone()
    if limit.power(rule.margin, rule.level) < POWER:
        least = _points(limit.detectable(rule.level))
        return [
            *sentences,
            f"More seeds will not bring that down to {wanted}: the {runs.images} images are too few, and "
            f"hide what is smaller than {least} from any number of seeds.",
        ]
    return sentences + _more_seeds(runs, noise.seeds_needed(rule.margin, rule.level), wanted)


def _more_seeds(runs: Runs, needed: int | None, wanted: str) -> list[str]:
    if needed is None:
        return [f"The seeds differ so much that not even {MOST_SEEDS} would find {wanted}."]
    more = needed - min(len(runs.seeds), len(runs.baseline_seeds))
    return [f"Run {more} more seed{'s' * (more > 1)} to find {wanted} as surely."] if more > 0 else []


def _points(difference: float) -> str:
    return f"{100 * difference:.1f} points"
