"""Whether the engines take a request, told before anything runs, and how many of its pictures go together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from hybridstitch.engines.executors.engine import Engine
from hybridstitch.engines.lengths import full_lengths
from hybridstitch.engines.profiles import refusal
from hybridstitch.method.errors import HybridStitchError
from hybridstitch.method.geometry import Geometry
from hybridstitch.method.guidance import is_guided
from hybridstitch.method.masks import masked_count
from hybridstitch.method.plan import Plan
from hybridstitch.method.size import Size

from .text import text_tokens


def group_sizes(
    engines: Mapping[str, Engine], geometry: Geometry, size: Size, plan: Plan, token_bucket: int, count: int
) -> list[int]:
    """Cut `count` pictures into groups that every engine takes at once, the largest first.

    Adaptive switching looks at a whole batch: to draw the same picture alone and among others, it gets one.

    Raises:
        HybridStitchError: not even some of them fit; the message names the engine, the length and what it takes.
    """
    decoder = engines["vae_decoder"].manifest
    most = 1 if plan.adaptive is not None else max(profile.ranges["B"][2] for profile in decoder.profiles)
    problems = {
        batch: _problem(engines, geometry, size, plan, token_bucket, batch) for batch in range(1, min(most, count) + 1)
    }
    groups = []
    while count:
        possible = [batch for batch, problem in problems.items() if problem is None and batch <= count]
        if not possible:
            raise HybridStitchError(problems[min(count, len(problems))] or problems[1] or "")
        groups.append(max(possible))
        count -= groups[-1]
    return groups


def _problem(
    engines: Mapping[str, Engine], geometry: Geometry, size: Size, plan: Plan, token_bucket: int, batch: int
) -> str | None:
    """Why an engine does not take a batch; None: all do."""
    text = text_tokens({component: engine.manifest for component, engine in engines.items()})
    for component, engine in engines.items():
        profiles = engine.manifest.profiles
        for lengths in _calls(engine, geometry, size, plan, token_bucket, batch):
            lengths |= {"T": text} if "T" in lengths else {}
            if not any(profile.admits(lengths) for profile in profiles):
                return refusal(component, profiles, lengths)
    return None


def _calls(
    engine: Engine, geometry: Geometry, size: Size, plan: Plan, token_bucket: int, batch: int
) -> Iterator[dict[str, int]]:
    """The lengths of an engine's dynamic dimensions, in full calls and in masked ones."""
    lengths = full_lengths(engine.manifest.inputs, geometry, size, batch)
    if not is_guided(plan.guidance):
        lengths["B"] = batch
    yield lengths
    masked = masked_count(geometry.tokens(size), plan.mask_ratio, token_bucket)
    if "F" in lengths and plan.has_hybrid and masked:
        yield {**lengths, "M": masked, "F": lengths["M"] - masked}
