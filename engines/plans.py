"""A component in several plans, one for each picture size: what they are together, and which of them a call runs in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from .store.manifest import Manifest


def joined(plans: Sequence[Manifest]) -> Manifest:
    """What the plans take together, as one manifest that has no files."""
    if len(plans) == 1:
        return plans[0]
    profiles = tuple(profile for plan in plans for profile in plan.profiles)
    scratch = tuple(entry for plan in plans for entry in plan.scratch)
    return replace(plans[0], part="", profiles=profiles, scratch=scratch, files={})


def plan_for(plans: Sequence[Manifest], lengths: Mapping[str, int]) -> Manifest:
    """The plan that a call runs in, or the first where none takes it.

    Of those that take it, a masked call runs in that of its picture's full call, which is open already: another size's
    may be tuned for more similar lengths, and would have the weights on the GPU twice.
    """
    taking = [plan for plan in plans if _takes(plan, lengths)] or plans
    whole = {**lengths, "M": lengths["M"] + lengths["F"], "F": 0} if "F" in lengths else lengths
    return next((plan for plan in taking if _takes(plan, whole)), taking[0])


def _takes(plan: Manifest, lengths: Mapping[str, int]) -> bool:
    return any(profile.admits(lengths) for profile in plan.profiles)
