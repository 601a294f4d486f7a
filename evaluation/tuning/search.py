"""Successive halving: a few cases for every candidate, more for those that came out well, all of them for the last.

It knows nothing of pictures: a candidate is anything that can be a key, a case a number, and `draw` says how good a
candidate is at a case. Source: Jamieson and Talwalkar, arXiv 1502.07943, algorithm 1, with more cases as the resource.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from math import ceil, inf
from typing import Any, Generic, TypeVar

KEEP = 3  # one in so many goes on
FIRST_CASES = 2
LEAST_OF_GROUP = 2

T = TypeVar("T", bound=Hashable)


class OutOfTime(Exception):
    """Raised by `draw` where there is no time for it."""


@dataclass(frozen=True)
class Rung:
    """How many candidates are compared, on the first `cases` cases."""

    candidates: int
    cases: int


def rungs(candidates: int, cases: int, finalists: int) -> list[Rung]:
    """The rungs of a search, from all candidates to about as many as are wanted."""
    plan = [Rung(candidates, min(FIRST_CASES, cases))]
    while True:
        last = plan[-1]
        count = min(last.candidates, max(finalists, ceil(last.candidates / KEEP)))
        following = Rung(count, min(cases, 2 * last.cases))
        if following == last:
            return plan
        plan.append(following)


def draws(plan: Sequence[Rung]) -> int:
    """How often a candidate meets a case in all."""
    before = [0, *(rung.cases for rung in plan)]
    return sum(rung.candidates * (rung.cases - done) for rung, done in zip(plan, before, strict=False))


def affordable(candidates: int, cases: int, finalists: int, most: int) -> int:
    """With how many candidates to begin, so that there are at most so many draws; at least with 1."""
    while candidates > 1 and draws(rungs(candidates, cases, finalists)) > most:
        candidates -= 1
    return candidates


@dataclass(frozen=True)
class Found(Generic[T]):
    """What a search found.

    scores: of every candidate that was tried, at cases 0, 1, ... ranked: those of the last rung, the best first.
    complete: whether time was enough for all of it.
    """

    scores: dict[T, list[float]]
    ranked: list[T]
    complete: bool


def halve(
    candidates: Sequence[T],
    cases: int,
    draw: Callable[[T, int], float],
    key: Callable[[T, Sequence[float]], Any],
    *,
    group: Callable[[T], Hashable],
    finalists: int,
    left: Callable[[], float] = lambda: inf,
) -> Found[T]:
    """Search.

    Of every group, such as a method, some go on whatever the others are: what is compared at the end has each of them.

    Args:
        draw: how good a candidate is at a case; raises `OutOfTime` to end the search.
        key: of a candidate and its scores so far; what is least is best.
        left: for how many draws there is still time, asked before each case but the first. Where the rest of the search
            would take more, fewer go on at once.
    """
    alive, scores, seen = list(candidates), {candidate: [] for candidate in candidates}, 0
    plan = rungs(len(candidates), cases, finalists)
    for place, rung in enumerate(plan):
        alive = _best(alive, scores, key, group, rung.candidates) if seen else alive
        for case in range(seen, rung.cases):
            if case:
                later = draws([Rung(0, rung.cases), *plan[place + 1 :]])
                needed = len(alive) * (rung.cases - case) + later
                if needed > (possible := max(0.0, left())):
                    alive = _best(alive, scores, key, group, max(finalists, int(len(alive) * possible / needed)))
            at_case: dict[T, float] = {}
            try:
                for candidate in alive:
                    at_case[candidate] = draw(candidate, case)
            except OutOfTime:
                if not case:  # then those that were drawn are all there is
                    alive = list(at_case)
                    scores = {candidate: [score] for candidate, score in at_case.items()}
                return Found(scores, _ranked(alive, scores, key), complete=False)
            for candidate, score in at_case.items():
                scores[candidate].append(score)
        seen = rung.cases
    return Found(scores, _ranked(alive, scores, key), complete=True)


def _ranked(candidates: Sequence[T], scores: dict[T, list[float]], key: Callable[[T, Sequence[float]], Any]) -> list[T]:
    return sorted(candidates, key=lambda candidate: key(candidate, scores[candidate]))


def _best(
    candidates: Sequence[T],
    scores: dict[T, list[float]],
    key: Callable[[T, Sequence[float]], Any],
    group: Callable[[T], Hashable],
    count: int,
) -> list[T]:
    """The best, and the best of every group."""
    ranked = _ranked(candidates, scores, key)
    kept, of_group = [], {}
    for place, candidate in enumerate(ranked):
        of_group[group(candidate)] = of_group.get(group(candidate), 0) + 1
        if place < count or of_group[group(candidate)] <= LEAST_OF_GROUP:
            kept.append(candidate)
    return kept
