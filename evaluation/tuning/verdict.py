"""Which finalist is chosen, and the sentence that says so: how good it is, how sure that is, and the control."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from statistics import NormalDist, mean, median, stdev

from .candidates import Candidate

LEAST_CASES = 4  # with fewer nothing can be told apart


@dataclass(frozen=True)
class Target:
    """What is asked for: seconds a picture, a speed-up over large's full steps, or a PSNR in dB that is to be kept."""

    seconds: float | None = None
    speedup: float | None = None
    psnr: float | None = None

    def limit(self, reference: float) -> float:
        """The seconds that a picture may take, where the reference takes so many."""
        if self.seconds is not None:
            return self.seconds
        return reference / self.speedup if self.speedup is not None else reference

    def __str__(self) -> str:
        if self.seconds is not None:
            return f"{self.seconds:g} s a picture"
        return f"{self.speedup:g}x the speed of large" if self.speedup is not None else f"a PSNR of {self.psnr:g} dB"


@dataclass(frozen=True)
class Finalist:
    """A candidate with what was measured of it: PSNR to the reference in dB and seconds, each of the same cases."""

    candidate: Candidate
    psnr: tuple[float, ...]
    seconds: tuple[float, ...]

    @property
    def closeness(self) -> float:
        return mean(self.psnr)

    @property
    def took(self) -> float:
        return median(self.seconds)

    @property
    def error(self) -> float:
        """Standard error of the mean PSNR; infinite of a single case."""
        return standard_error(self.psnr)

    def speedup(self, reference: Sequence[float]) -> float:
        """How many times as fast as the reference, whose seconds are of the same cases.

        The median over pictures that were drawn in turn: a machine that slows down for both changes nothing.
        """
        return median(full / took for took, full in zip(self.seconds, reference, strict=True))


def standard_error(values: Sequence[float]) -> float:
    """Of the mean; infinite of a single value."""
    return stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("inf")


def student_interval(one: Sequence[float], other: Sequence[float]) -> tuple[float, float]:
    """Where the mean of `one - other`, paired, lies with 95 %.

    Student's, since finalists are compared over few cases, where the bootstrap of evaluation/quality/ is too narrow.

    With fewer than `LEAST_CASES` pairs it is everything.
    """
    if len(one) < LEAST_CASES:
        return float("-inf"), float("inf")
    differences = [value - before for value, before in zip(one, other, strict=True)]
    middle, half = mean(differences), student(len(one) - 1) * standard_error(differences)
    return middle - half, middle + half


def student(freedom: int) -> float:
    """The 97.5 % quantile of Student's distribution, to 1 % from 3 degrees of freedom on.

    Source: Abramowitz and Stegun, 26.7.5.
    """
    z = NormalDist().inv_cdf(0.975)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + sum(term / freedom**power for power, term in enumerate(terms, start=1))


@dataclass(frozen=True)
class Verdict:
    """chosen: None where only the reference itself, large in its full steps, keeps to the target.

    best: the one that measured best; another than `chosen` where that is simpler and cannot be told apart from it.
    control: the best of large with fewer steps that keeps to the target.
    """

    chosen: Finalist | None
    best: Finalist | None
    control: Finalist | None
    sentence: str


def decide(finalists: Sequence[Finalist], reference: Sequence[float], target: Target) -> Verdict:
    """Choose.

    For a time: the closest of those that keep to it. For a PSNR: the fastest of those that keep it. A simpler method
    that cannot be told from the best, by the interval of the paired difference, goes before it.

    Args:
        reference: seconds of large in its full steps, at the same cases.
    """
    full = median(reference)
    possible = [finalist for finalist in finalists if _keeps(finalist, target, reference)]
    ranked = sorted(
        possible, key=lambda finalist: (finalist.took, -finalist.closeness) if target.psnr else -finalist.closeness
    )
    if not ranked:
        return Verdict(None, None, None, f"Nothing keeps to {target} in less than large's {full:.3g} s.")
    best = ranked[0]
    alike = [
        finalist
        for finalist in ranked
        if finalist is best or (_simpler(finalist, best) and _alike(finalist, best, target))
    ]
    chosen = min(alike, key=lambda finalist: finalist.candidate.simplicity)
    control = next((finalist for finalist in ranked if finalist.candidate.method == "large"), None)
    rival = next((finalist for finalist in ranked if finalist.candidate.simplicity), None)
    return Verdict(chosen, best, control, " ".join(_sentences(chosen, best, control, rival, reference, target)))


def _keeps(finalist: Finalist, target: Target, reference: Sequence[float]) -> bool:
    if target.speedup is not None:
        return finalist.speedup(reference) >= target.speedup
    if target.psnr is not None:
        return finalist.closeness >= target.psnr and finalist.took < median(reference)
    return finalist.took <= target.limit(median(reference))


def _simpler(finalist: Finalist, best: Finalist) -> bool:
    return finalist.candidate.simplicity < best.candidate.simplicity


def _alike(finalist: Finalist, best: Finalist, target: Target) -> bool:
    by_time = target.psnr is not None
    low, high = (
        student_interval(finalist.seconds, best.seconds) if by_time else student_interval(finalist.psnr, best.psnr)
    )
    return low <= 0 <= high


def _sentences(
    chosen: Finalist,
    best: Finalist,
    control: Finalist | None,
    rival: Finalist | None,
    reference: Sequence[float],
    target: Target,
) -> list[str]:
    goal = "fastest" if target.psnr is not None else "closest to large's own pictures"
    told = [f"For {target}: {_told(chosen, reference)} is chosen, over {len(chosen.psnr)} captions."]
    if chosen is not best:
        more = _more(best, chosen, target)
        told.append(f"{_told(best, reference)} measured {more}; that may be chance, so the simpler wins.")
    else:
        told.append(f"It is the {goal} of what was timed.")
    other = rival if chosen.candidate.method == "large" else control
    if other is not None and other not in (chosen, best):
        role = "The best of two models" if other is rival else "The control, large with fewer steps"
        chance = "; that may be chance" if _alike(other, chosen, target) else ""
        told.append(f"{role}, {_told(other, reference)}: the chosen one is {_more(chosen, other, target)}{chance}.")
    elif chosen.candidate.method == "large" and rival is None:
        told.append("No method of two models keeps to it.")
    elif control is None:
        told.append("Large with fewer steps does not keep to it.")
    return told


def _told(finalist: Finalist, reference: Sequence[float]) -> str:
    sure = f" ± {finalist.error:.1f}" if len(finalist.psnr) > 1 else ""
    faster = finalist.speedup(reference)
    return f"{finalist.candidate.name} ({finalist.closeness:.1f}{sure} dB, {finalist.took:.3g} s, {faster:.2f}x)"


def _more(one: Finalist, other: Finalist, target: Target) -> str:
    """By how much one is better, with the interval of the paired difference."""
    if target.psnr is not None:
        low, high = student_interval(other.seconds, one.seconds)
        amount, unit = mean(other.seconds) - mean(one.seconds), "s faster"
        words = f"{amount:.3g} {unit}", f"{low:.2g} to {high:.2g} s"
    else:
        low, high = student_interval(one.psnr, other.psnr)
        words = f"{one.closeness - other.closeness:.1f} dB closer", f"{low:.1f} to {high:.1f} dB"
    return words[0] + (f" (95 % interval {words[1]})" if isfinite(low) else " (too few captions for an interval)")
