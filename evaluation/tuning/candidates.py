"""What a search chooses from: every method with a grid of its settings, and which of them to try when time is short."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from hybridstitch.evaluation.cost.time_model import TimeModel
from hybridstitch.evaluation.variants import Variant
from hybridstitch.method.errors import HybridStitchError
from hybridstitch.method.parameters import SamplingParameters
from hybridstitch.method.settings import LATER, OFF, Score, Sketch, Switch, settings_from
from hybridstitch.pairs.parameters import make_parameters
from hybridstitch.pairs.recipe import Recipe

SIMPLICITY = {"large": 0, "small": 0, "srdiffusion": 1, "t-stitch": 1, "hybrid": 2}
"""How many kinds of step each method has beyond one: of two that are as good as each other the lower is better."""

STEPS = (1.0, 0.85, 0.7, 0.55, 0.4, 0.3, 0.2)  # of the recipe's
LARGE_OF_TWO = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # of all steps, where two models share them
LARGE_OF_THREE = (0.1, 0.2, 0.3, 0.45, 0.6)
HYBRID = (0.15, 0.3, 0.5, 1.0)  # of all steps; more than are left: all that are left
RESIDUALS: tuple[Any, ...] = (OFF, 1.5, 3.0)
REFRESH = (0, 3)
LARGE_OF_HELD = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
REFRESH_OF_HELD = (0, 1, 2)
MOVING_ON = {"extrapolate": 0.5, "correct": str(Switch.ON)}
CONTROL_POINTS = 8  # of the curve of large with fewer steps
LEAST_SHARE = 0.7  # of the time that there is: a method that uses less leaves closeness behind
SLACK = 1.05  # the time model's error; finalists are timed


@dataclass(frozen=True)
class Candidate:
    """A method with settings. predicted: seconds, by the time model."""

    parameters: SamplingParameters
    predicted: float

    @property
    def method(self) -> str:
        return self.parameters.method

    @property
    def settings(self) -> dict[str, Any]:
        """All settings of the method; what a schedule's file holds."""
        return {**settings_from(self.parameters.as_dict())}

    @property
    def name(self) -> str:
        """Says every setting that differs between candidates."""
        return parameters_name(self.parameters)

    @property
    def variant(self) -> Variant:
        return Variant(self.name, {"method": self.method, **self.settings})

    @property
    def simplicity(self) -> int:
        return SIMPLICITY[self.method]

    @property
    def kind(self) -> str:
        """What a search looks into evenly: its method; of hybrid with and without a sketch, of large each grid."""
        if self.parameters.sketch is Sketch.HELD:
            return f"{self.method}, held"
        return f"large, of {self.parameters.schedule.grid}" if self.method == "large" else self.method


def parameters_name(parameters: SamplingParameters) -> str:
    """Sampling parameters in words: method, steps of each stage, and for two models the rest."""
    schedule = parameters.schedule
    title = f"{parameters.method}, {schedule.steps} step" + ("s" if schedule.steps > 1 else "")
    if schedule.grid:
        title += f" of {schedule.grid}"
    if parameters.method in ("large", "small"):
        return title
    stages = {
        "large": schedule.large_until,
        "hybrid": schedule.hybrid_until - schedule.large_until,
        "small": schedule.steps - schedule.hybrid_until,
    }
    order = reversed(stages.items()) if schedule.small_first else stages.items()
    words = [f"{count} {stage}" for stage, count in order if count]
    if parameters.method == "hybrid":
        words += [f"mask {parameters.mask_ratio:g}", str(parameters.score)]
        words += ["the rest held"] if parameters.sketch is Sketch.HELD else []
        words += [f"moving on {parameters.extrapolate:g}"] if parameters.extrapolate else []
        words += ["corrected"] if parameters.correct is Switch.ON else []
        words += [f"refresh {schedule.refresh_every}"] if schedule.refresh_every else []
    if parameters.method != "t-stitch":
        words.append("no residual" if parameters.residual is None else f"residual {parameters.residual:g}")
    return f"{title}: {', '.join(words)}"


def grid(recipe: Recipe) -> list[SamplingParameters]:
    """All that a search may try, at the recipe's guidance; large with its full steps is the reference."""
    full = recipe.defaults.steps
    by_name: dict[str, SamplingParameters] = {}
    for method, settings in _settings(full, recipe.profiles.mask_ratios):
        try:
            parameters = make_parameters(recipe, method, **settings, guidance=recipe.defaults.guidance)
        except HybridStitchError:  # stages that do not fit, or a score that needs more large steps
            continue
        if not (method == "hybrid" and not parameters.schedule.has_hybrid):  # it would be srdiffusion
            by_name[parameters_name(parameters)] = parameters
    return list(by_name.values())


def _settings(full: int, ratios: Sequence[float]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Methods with settings; what does not fit is among them."""
    for steps in range(1, full):
        yield from (("large", {"steps": steps, "grid": grid}) for grid in (0, full))
    for steps in sorted({max(1, round(share * full)) for share in STEPS}, reverse=True):
        yield "small", {"steps": steps}
        for grid in (0,) if steps == full else (0, full):
            common = {"steps": steps, "grid": grid}
            for large in sorted({round(share * steps) for share in LARGE_OF_TWO} - {0, steps}):
                for residual in (OFF, RESIDUALS[-1]):
                    yield "srdiffusion", {**common, "large_steps": large, "residual": residual}
                yield "t-stitch", {**common, "large_steps": large}
            yield from (("hybrid", {**common, **settings}) for settings in _sketched(steps, ratios))
            yield from (("hybrid", {**common, **settings}) for settings in _held(steps, ratios))


def _sketched(steps: int, ratios: Sequence[float]) -> Iterator[dict[str, Any]]:
    """Hybrid steps in which the small model sketches."""
    for large in sorted({max(1, round(share * steps)) for share in LARGE_OF_THREE} - {steps}):
        lengths = sorted({min(steps - large, max(1, round(share * steps))) for share in HYBRID})
        for hybrid, ratio, score, residual, refresh in product(lengths, ratios, Score, RESIDUALS, REFRESH):
            if hybrid > refresh:
                yield {
                    "large_steps": large,
                    "hybrid_steps": hybrid,
                    "mask_ratio": ratio,
                    "score": str(score),
                    "residual": residual,
                    "refresh_every": refresh,
                    "sketch": str(Sketch.SMALL),
                }


def _held(steps: int, ratios: Sequence[float]) -> Iterator[dict[str, Any]]:
    """Hybrid steps without the small model, to the end: nothing measures a gap or uses a residual. Where full steps
    follow held ones, held tokens stay as they were, or they move on and are corrected."""
    for large in sorted({max(2, round(share * steps)) for share in LARGE_OF_HELD} - {steps}):
        for ratio, refresh in product(ratios, REFRESH_OF_HELD):
            if steps - large <= refresh:
                continue
            for moves in (LATER, MOVING_ON) if refresh else (LATER,):
                yield {
                    "large_steps": large,
                    "hybrid_steps": steps - large,
                    "mask_ratio": ratio,
                    "score": str(Score.CHANGE),
                    "residual": OFF,
                    "refresh_every": refresh,
                    "sketch": str(Sketch.HELD),
                    **moves,
                }


def probes(recipe: Recipe) -> list[SamplingParameters]:
    """A few parameters that tell all kinds of step apart, the reference first."""
    full, guidance = recipe.defaults.steps, recipe.defaults.guidance
    few = max(2, full // 4)
    alone = product(("large", "small"), (full, few))
    chosen = [make_parameters(recipe, method, steps=steps, guidance=guidance) for method, steps in alone]
    for ratio in recipe.profiles.mask_ratios:
        hybrid: dict[str, Any] = {
            "steps": full,
            "large_steps": 1,
            "hybrid_steps": full - 1,
            "mask_ratio": ratio,
            "refresh_every": 0,
        }
        hybrid |= {"score": "gap", "residual": OFF, "sketch": "small", "grid": 0}
        chosen.append(make_parameters(recipe, "hybrid", guidance=guidance, **hybrid))
        held = {"large_steps": 2, "hybrid_steps": full - 2, "score": "change", "sketch": "held", **LATER}
        chosen.append(make_parameters(recipe, "hybrid", guidance=guidance, **{**hybrid, **held}))
    return chosen


def priced(tried: Sequence[SamplingParameters], model: TimeModel) -> list[Candidate]:
    """Candidates with what the model says that they take."""
    return [Candidate(parameters, model.seconds(parameters)) for parameters in tried]


def control_curve(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Some of large with fewer steps, over the whole range: what is drawn as the curve to beat."""
    large = [one for one in candidates if one.method == "large" and not one.parameters.schedule.grid]
    shares = [(index + 0.5) / CONTROL_POINTS for index in range(CONTROL_POINTS)]
    return list(dict.fromkeys(large[int(share * len(large))] for share in shares)) if large else []


def within(candidates: Sequence[Candidate], seconds: float) -> list[Candidate]:
    """Those that may meet a target, without those that leave much of the time unused.

    Of a kind that can only leave it unused, such as the small model in all its steps, the slowest stays.
    """
    possible = [candidate for candidate in candidates if candidate.predicted <= SLACK * seconds]
    slowest = {
        kind: max(one.predicted for one in possible if one.kind == kind) for kind in {one.kind for one in possible}
    }
    return [one for one in possible if one.predicted >= LEAST_SHARE * min(seconds, slowest[one.kind])]


def spread(candidates: Sequence[Candidate], count: int, seed: int = 0) -> list[Candidate]:
    """So many of them, evenly over their kinds: all of those that have few, a random sample of the rest.

    The same seed gives the same sample, and a smaller one is the beginning of a larger one.
    """
    of_kind: dict[str, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        of_kind[candidate.kind].append(candidate)
    for alike in of_kind.values():
        random.Random(seed).shuffle(alike)
    chosen = []
    while len(chosen) < min(count, len(candidates)):
        chosen += [alike.pop(0) for alike in of_kind.values() if alike]
    return chosen[:count]
