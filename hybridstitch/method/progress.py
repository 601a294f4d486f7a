"""How work that takes long says where it is: an export, a build, a verification and a run alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Progress:
    """what: is being done, in words. done, total: how much of how much; total 0: that is not known."""

    what: str
    done: int = 0
    total: int = 0


OnProgress = Callable[[Progress], None]
"""Told how work goes on, from any thread; what it raises ends the work."""


def silent(_: Progress) -> None:
    """Where nobody listens."""


def within(report: OnProgress, name: str) -> OnProgress:
    """For a part of the work: what it does comes after its name."""
    return lambda now: report(replace(now, what=f"{name}: {now.what}"))
