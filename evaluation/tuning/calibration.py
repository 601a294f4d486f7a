"""The captions that a tuning draws."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from hybridstitch.evaluation.cases import PromptCase, cases_from_file
from hybridstitch.method.errors import HybridStitchError

WITH_CAPTIONS = "demo"
"""The pair whose captions come along: never trained on, and others than those that methods are compared on."""


def calibration_cases(pair: str, count: int, prompts: Path | None = None) -> list[PromptCase]:
    """So many cases of a prompts file, or of those that come along.

    Raises:
        HybridStitchError: there are fewer; or no file, and none come along for this pair.
    """
    if prompts is None and pair != WITH_CAPTIONS:
        raise HybridStitchError(f"no captions come along for pair {pair!r}: give some with --prompts FILE, one a line")
    path = (
        Path(str(resources.files("hybridstitch.evaluation.tuning") / "calibration.txt")) if prompts is None else prompts
    )
    cases = cases_from_file(path)
    if len(cases) < count:
        whose = f"--prompts {prompts}" if prompts is not None else "what comes along"
        raise HybridStitchError(f"--count {count} is more than the {len(cases)} captions of {whose}")
    return cases[:count]
