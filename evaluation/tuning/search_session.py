"""A search under way: what it draws with, what it has drawn, and its time."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from hybridstitch.engines.store.manifest import our_version
from hybridstitch.evaluation.cases import PromptCase
from hybridstitch.evaluation.cost.time_model import TimeModel, fit
from hybridstitch.evaluation.quality.closeness import psnr
from hybridstitch.evaluation.speed.timing import interleave
from hybridstitch.evaluation.variants import Variant
from hybridstitch.method.progress import OnProgress, Progress, silent
from hybridstitch.method.size import Size
from hybridstitch.runtime.pipeline import HybridStitch
from hybridstitch.runtime.result import Result

from .candidates import Candidate, probes
from .journal import Journal
from .search import OutOfTime

REFERENCE = "reference"
PROBES = 3  # pictures of each
LATEST = 0.75  # of the time: then a search ends, whatever it cost until then
MOST_PSNR = 100.0  # dB; of pictures that are equal


@dataclass
class SearchSession:
    """Draws what is not in the journal, one picture at a time.

    cases: the first half is for the search, the rest for the finalists. minutes: how long all may take. clock: seconds.
    drawn: pictures, until now. spent, expected: seconds of those of the search, by the clock and by the time model.
    """

    pipe: HybridStitch
    cases: Sequence[PromptCase]
    size: Size
    journal: Journal
    minutes: float
    progress: OnProgress = silent
    clock: Callable[[], float] = time.monotonic
    drawn: int = 0
    spent: float = 0.0
    expected: float = 0.0
    begun: float = field(init=False)
    _references: dict[int, Image.Image] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.begun = self.clock()

    @property
    def steps(self) -> int:
        """Of the reference."""
        return self.pipe.recipe.defaults.steps

    @property
    def searched(self) -> range:
        """The captions of the search."""
        return range(len(self.cases) // 2)

    @property
    def compared(self) -> range:
        """The captions that compare the finalists."""
        return range(len(self.cases) // 2, len(self.cases))

    @property
    def reference(self) -> Variant:
        """The large model in the recipe's full steps."""
        defaults = self.pipe.recipe.defaults
        settings = {"method": "large", "steps": defaults.steps, "guidance": defaults.guidance, "size": str(self.size)}
        return Variant(REFERENCE, settings)

    def variant(self, candidate: Candidate) -> Variant:
        """It, at the size that is tuned for."""
        return candidate.variant.but(size=str(self.size))

    def left(self, share: float = 1.0) -> float:
        """Seconds until a share of the time is over."""
        return self.begun + share * 60 * self.minutes - self.clock()

    @property
    def pace(self) -> float:
        """How many times as long as by the time model pictures take, such as 2 on a machine that has become busy."""
        return max(1.0, self.spent / self.expected) if self.expected else 1.0

    def measure(self) -> tuple[TimeModel, float]:
        """The time model of this machine, and seconds of the reference."""
        tried = probes(self.pipe.recipe)
        variants = [
            self.variant(Candidate(parameters, 0.0)).but(f"probe {place}") for place, parameters in enumerate(tried)
        ]
        if any(self.journal.find("probe", variant.name, 0) is None for variant in variants):
            measured = interleave(self.pipe, variants, self.cases[:1], PROBES, progress=self.progress)
            self.drawn += len(variants) * (PROBES + 1)
            for name, took in measured.items():
                self.journal.add("probe", name, 0, seconds=took.median)
        seconds = [self.journal.lines["probe", variant.name, 0]["seconds"] for variant in variants]
        return fit(tried, seconds), seconds[0]

    def closeness(self, candidate: Candidate, case: int) -> float:
        """PSNR of a candidate's picture to the reference's, in dB.

        Raises:
            OutOfTime: it would have to be drawn, and the search's time is over.
        """
        line = self.journal.find("search", candidate.name, case)
        if line is None:
            if self.left(LATEST) <= 0:
                raise OutOfTime
            if case not in self._references:
                self._references[case] = self._draw(self.reference, case).images[0]
            start = self.clock()
            result = self._draw(self.variant(candidate), case)
            self.spent += self.clock() - start
            self.expected += candidate.predicted
            near = _psnr(result.images[0], self._references[case])
            line = self.journal.add("search", candidate.name, case, psnr=near, seconds=result.timing.total)
        return line["psnr"]

    def compare(self, variants: Sequence[Variant]) -> list[int]:
        """Draw all variants in turn, the reference first, at the captions for it, until time is over.

        Returns:
            The captions at which all of them are in the journal, as "final", with psnr and seconds.
        """
        missing = [case for case in self.compared if not self._whole(variants, case)]
        places = {self.cases[case]: case for case in missing}

        def note(variant: Variant, case: Any, _repetition: int, result: Result) -> None:
            place, picture = places[case], result.images[0]
            self.drawn += 1
            if variant.name == REFERENCE:
                self._references[place] = picture
            near = _psnr(picture, self._references[place])
            self.journal.add("final", variant.name, place, psnr=near, seconds=result.timing.total)

        def in_time(now: Progress) -> None:
            if self.left() <= 0:
                raise OutOfTime
            self.progress(now)

        if missing and self.left() > 0:
            with suppress(OutOfTime):
                interleave(self.pipe, variants, list(places), 1, note, in_time)
        return [case for case in self.compared if self._whole(variants, case)]

    def _whole(self, variants: Sequence[Variant], case: int) -> bool:
        return all(self.journal.find("final", variant.name, case) for variant in variants)

    def _draw(self, variant: Variant, case: int) -> Result:
        self.drawn += 1
        return self.pipe(self.cases[case].prompt, seed=self.cases[case].seed, **variant.settings)


def journal_facts(
    pipe: HybridStitch, cases: Sequence[PromptCase], size: Size, machine: Mapping[str, Any]
) -> dict[str, Any]:
    """What two searches must share for one to go on with what the other drew."""
    return {
        "pair": pipe.recipe.name,
        "backend": pipe.backend,
        "device": str(pipe.device),
        "size": str(size),
        "steps": pipe.recipe.defaults.steps,
        "guidance": pipe.recipe.defaults.guidance,
        "captions": _digest([[case.prompt, case.seed] for case in cases]),
        "engines": _digest(sorted((name, engine.manifest.key) for name, engine in pipe.engines.items())),
        "version": our_version(),
        "machine": dict(machine),
    }


def _psnr(picture: Image.Image, reference: Image.Image) -> float:
    return min(psnr(picture, reference), MOST_PSNR)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:12]
