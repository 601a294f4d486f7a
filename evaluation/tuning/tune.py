"""Find the schedule that is closest to the large model's own pictures in a given time, or fastest at a given closeness.

1. A few measured pictures give the time model, which leaves out what cannot meet the target.
2. Successive halving over half of the captions leaves the finalists: some of every method.
3. The finalists are drawn in turn at the other half, and timed; so nobody is judged by what it was chosen for.

All is drawn one picture at a time, at the recipe's guidance, and compared with large in the recipe's full steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, median
from typing import Any

from hybridstitch.evaluation.cost.time_model import TimeModel, error
from hybridstitch.method.errors import HybridStitchError
from hybridstitch.method.progress import Progress
from hybridstitch.pairs.parameters import make_parameters

from .candidates import Candidate, control_curve, grid, priced, spread, within
from .search import Found, affordable, draws, halve, rungs
from .search_session import SearchSession
from .verdict import Finalist, Target, Verdict, decide, standard_error

FINALISTS = 8
OF_METHOD = 2  # finalists of each method, beside one that is safe to keep to the target
SAFE = 0.95  # of the time that there is
LEAST_STEPS = 4
LEAST_CASES = 4
LEAST_SHARE, MOST_SHARE = 0.3, 0.6  # of the time, for the search, by the time model

Key = Callable[[Candidate, Sequence[float]], Any]


@dataclass(frozen=True)
class Tried:
    """A candidate that the search drew, with its mean PSNR to the reference in dB, and the number of captions."""

    candidate: Candidate
    closeness: float
    captions: int


@dataclass(frozen=True)
class Tuned:
    """What a tuning found.

    method, settings: of the schedule. facts: what a schedule's file says of how it was found. curve: large with fewer
    steps, measured beside the finalists. tried: what the search drew, at its own captions. reference: seconds of large
    in its full steps, at the finalists' captions.
    """

    method: str
    settings: Mapping[str, Any]
    verdict: Verdict
    finalists: tuple[Finalist, ...]
    curve: tuple[Finalist, ...]
    tried: tuple[Tried, ...]
    reference: tuple[float, ...]
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Compared:
    """Finalists and the control's curve, with the reference's seconds at the same captions.

    complete: at all captions that there were for it. timed: whether the seconds are measured, or the time model's.
    """

    finalists: list[Finalist]
    curve: list[Finalist]
    reference: list[float]
    complete: bool
    timed: bool = True


def tune(session: SearchSession, target: Target) -> Tuned:
    """Search, compare the finalists, decide.

    Raises:
        HybridStitchError: too few steps or captions, a target that nothing meets, or time for nothing at all.
    """
    recipe = session.pipe.recipe
    if session.steps < LEAST_STEPS:
        raise HybridStitchError(f"pair {recipe.name!r} draws in {session.steps} steps; tuning begins at {LEAST_STEPS}")
    if len(session.cases) < LEAST_CASES:
        raise HybridStitchError(f"tuning takes at least {LEAST_CASES} captions, not {len(session.cases)}")
    model, reference = session.measure()
    if target.psnr is None and target.limit(reference) >= reference:
        told = f"Large in its {session.steps} steps takes {reference:.3g} s: that is within {target}."
        compared = Compared([], [], [reference], complete=True)
        return _result(session, target, Verdict(None, None, None, told), compared, [], model)
    everything = priced(grid(recipe), model)
    outcome = _search(session, target, _pool(everything, target, reference), reference)
    chosen = _finalists(outcome, target, reference)
    compared = _compare(session, chosen, control_curve(everything))
    if not compared.finalists:  # there was no time: what the search drew is what there is
        scored = [(one, outcome.scores[one]) for one in chosen]
        finalists = [Finalist(one, tuple(scores), (one.predicted,) * len(scores)) for one, scores in scored]
        reference_seconds = [reference] * len(finalists[0].psnr)
        compared = Compared(finalists, [], reference_seconds, complete=False, timed=False)
    compared = Compared(**{**vars(compared), "complete": compared.complete and outcome.complete})
    verdict = decide(compared.finalists, compared.reference, target)
    if verdict.chosen is None and target.psnr is None:
        fastest, limit = min(compared.finalists, key=lambda one: one.took), target.limit(median(compared.reference))
        raise HybridStitchError(
            f"nothing that was timed meets {target}, {limit:.3g} s: the fastest, {fastest.candidate.name}, took "
            f"{fastest.took:.3g} s; ask for a little less with --resume {session.journal.path}"
        )
    tried = [Tried(one, mean(scores), len(scores)) for one, scores in outcome.scores.items() if scores]
    return _result(session, target, verdict, compared, tried, model)


def _pool(everything: Sequence[Candidate], target: Target, reference: float) -> list[Candidate]:
    """What may meet the target, by the time model."""
    limit = target.limit(reference)
    if target.psnr is not None:
        return [candidate for candidate in everything if candidate.predicted < limit]
    pool = within(everything, limit)
    if not pool:
        fastest = min(everything, key=lambda candidate: candidate.predicted)
        raise HybridStitchError(
            f"nothing meets {target}, {limit:.2g} s: the fastest, {fastest.name}, takes about {fastest.predicted:.2g} s"
        )
    return pool


def _key(target: Target) -> Key:
    """What halving sorts by. For a PSNR: the fastest of those that may keep it, then those that come nearest to it."""
    if target.psnr is None:
        return lambda _, scores: -mean(scores)
    floor = target.psnr

    def key(candidate: Candidate, scores: Sequence[float]) -> tuple[int, float]:
        hoped = mean(scores) + (standard_error(scores) if len(scores) > 1 else 0.0)
        return (0, candidate.predicted) if hoped >= floor else (1, floor - hoped)

    return key


def _search(session: SearchSession, target: Target, pool: list[Candidate], reference: float) -> Found[Candidate]:
    """Halving, with as many candidates as there is time for."""
    cases = len(session.searched)
    pool = spread(pool, _begin_with(session, target, pool, reference))
    total, done = draws(rungs(len(pool), cases, FINALISTS)), 0

    def draw(candidate: Candidate, case: int) -> float:
        nonlocal done
        session.progress(Progress(f"search: {len(pool)} schedules", done, max(total, done)))
        done += 1
        return session.closeness(candidate, case)

    each = mean(candidate.predicted for candidate in pool)
    outcome = halve(
        pool,
        cases,
        draw,
        _key(target),
        group=lambda candidate: candidate.kind,
        finalists=FINALISTS,
        left=lambda: session.left(MOST_SHARE) / (each * session.pace),
    )
    if not outcome.ranked:
        raise HybridStitchError(
            f"{session.minutes:g} minutes are too few to draw a single schedule: give more, with --resume "
            f"{session.journal.path}"
        )
    return outcome


def _begin_with(session: SearchSession, target: Target, pool: Sequence[Candidate], reference: float) -> int:
    """With how many candidates to begin: as many as there is time for, or as an earlier search that is gone on with."""
    name = f"{target}, {session.minutes:g} minutes"
    before = session.journal.find("begun", name, 0)
    if before is None:
        cases, each = len(session.searched), mean(candidate.predicted for candidate in pool)
        kinds = len({candidate.kind for candidate in pool})
        finals = (kinds * (OF_METHOD + 1) * each + reference) * (len(session.compared) + 1)
        seconds = max(session.left(LEAST_SHARE), min(session.left(MOST_SHARE), session.left() - finals))
        most = affordable(len(pool), cases, FINALISTS, int((seconds - cases * reference) / each))
        least = OF_METHOD * kinds  # if that is too many, the clock ends it
        before = session.journal.add("begun", name, 0, candidates=max(least, most))
    return before["candidates"]


def _scored(outcome: Found[Candidate]) -> list[tuple[Candidate, list[float]]]:
    return [(candidate, outcome.scores[candidate]) for candidate in outcome.ranked]


def _finalists(outcome: Found[Candidate], target: Target, reference: float) -> list[Candidate]:
    """Of each kind the best few, and the best that will keep to the target also when it is measured again."""

    def safe(candidate: Candidate, scores: Sequence[float]) -> bool:
        if target.psnr is None:
            return candidate.predicted <= SAFE * target.limit(reference)
        return len(scores) > 1 and mean(scores) - standard_error(scores) >= target.psnr

    chosen = []
    for kind in dict.fromkeys(candidate.kind for candidate in outcome.ranked):
        own = [(candidate, scores) for candidate, scores in _scored(outcome) if candidate.kind == kind]
        chosen += [candidate for candidate, _ in own[:OF_METHOD]]
        chosen += [candidate for candidate, scores in own[OF_METHOD:] if safe(candidate, scores)][:1]
    return chosen


def _compare(session: SearchSession, chosen: Sequence[Candidate], curve: Sequence[Candidate]) -> Compared:
    """Time the finalists; the curve beside them, if there is time. Without time for two captions there are none."""
    curve = [candidate for candidate in curve if candidate not in chosen]
    each = session.pace * (len(session.compared) + 1)
    own, more = (each * sum(candidate.predicted for candidate in some) for some in (chosen, curve))
    if own + more > session.left():
        curve = []
    candidates, full = [*chosen, *curve], session.reference
    cases = session.compare([full, *map(session.variant, candidates)])
    if len(cases) < 2:
        return Compared([], [], [], complete=False)

    def of(name: str, value: str) -> tuple[float, ...]:
        return tuple(session.journal.lines["final", name, case][value] for case in cases)

    measured = [
        Finalist(candidate, of(candidate.name, "psnr"), of(candidate.name, "seconds")) for candidate in candidates
    ]
    finalists, rest = measured[: len(chosen)], measured[len(chosen) :]
    return Compared(finalists, rest, list(of(full.name, "seconds")), complete=len(cases) == len(session.compared))


def _result(
    session: SearchSession,
    target: Target,
    verdict: Verdict,
    compared: Compared,
    tried: Sequence[Tried],
    model: TimeModel,
) -> Tuned:
    """With the facts, in the order in which a file has them."""
    recipe, chosen, reference = session.pipe.recipe, verdict.chosen, median(compared.reference)
    full = make_parameters(recipe, "large", steps=session.steps, guidance=recipe.defaults.guidance)
    candidate = chosen.candidate if chosen is not None else Candidate(full, reference)
    told = [verdict.sentence]
    if chosen is None and compared.finalists:
        told.append(f"So it is large in its {session.steps} steps.")
    if not compared.timed:
        told.append("Seconds are the time model's, and captions those of the search.")
    if not compared.complete:
        told.append("Time was out before all was compared; more minutes, with --resume, may find better.")
    facts: dict[str, Any] = {"pair": recipe.name, "found": " ".join(told), "target": str(target)}
    facts["seconds"] = round(chosen.took if chosen is not None else reference, 4)
    facts["seconds_of_large"] = round(reference, 4)
    facts["speedup"] = round(chosen.speedup(compared.reference), 3) if chosen is not None else 1.0
    if chosen is not None:
        facts |= {"psnr_db": round(chosen.closeness, 2), "captions": len(chosen.psnr)}
        facts |= {"standard_error_db": round(chosen.error, 2)} if len(chosen.psnr) > 1 else {}
    if verdict.control is not None:
        control = verdict.control
        steps = control.candidate.parameters.schedule.steps
        facts["control"] = {"steps": steps, "seconds": round(control.took, 4), "psnr_db": round(control.closeness, 2)}
    measured = [*compared.finalists, *compared.curve]
    if compared.timed and measured:
        off = error(model, [one.candidate.parameters for one in measured], [one.took for one in measured])
        facts["time_model_error"] = round(off, 3)
    facts |= {"schedules_tried": len(tried), "finalists": len(compared.finalists), "complete": compared.complete}
    facts |= {"backend": session.pipe.backend, "device": str(session.pipe.device), "size": str(session.size)}
    return Tuned(
        method=candidate.method,
        settings=candidate.settings,
        verdict=verdict,
        finalists=tuple(compared.finalists),
        curve=tuple(compared.curve),
        tried=tuple(tried),
        reference=tuple(compared.reference),
        facts=facts,
    )
