"""A pipeline that draws no pictures: its costs and its closeness are made up, so that the best schedule is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image

from hybridstitch.evaluation.cases import PromptCase
from hybridstitch.evaluation.cost.time_model import TimeModel
from hybridstitch.evaluation.tuning.journal import Journal
from hybridstitch.evaluation.tuning.search_session import SearchSession, journal_facts
from hybridstitch.method.parameters import SamplingParameters
from hybridstitch.pairs.parameters import make_parameters
from hybridstitch.pairs.recipe import Recipe
from hybridstitch.runtime.timing import TimeSpent, Timing

COSTS = {"fixed": 0.05, "full": 0.04, "small": 0.01, "hybrid@0.15": 0.022, "hybrid@0.3": 0.027, "hybrid@0.5": 0.035}
COSTS |= {"masked@0.15": 0.011, "masked@0.3": 0.016, "masked@0.5": 0.024}
CASES = [PromptCase(f"caption {number}", number) for number in range(12)]
PIXELS = 1024


def picture(off: float) -> Image.Image:
    """A grey picture that is off by so much, root mean square: some pixels by one more than others."""
    whole = int(off)
    share = (off**2 - whole**2) / (2 * whole + 1)
    values = np.full(PIXELS, 100 + whole, np.uint8)
    values[: round(share * PIXELS)] += 1
    return Image.fromarray(np.stack([values] * 3, axis=-1)[None])


@dataclass
class MadeUpPair:
    """The part of `HybridStitch` that a tuning uses.

    psnr: of pictures to the reference, in dB. now: seconds, which only drawing spends. pace: what a
    picture takes, as a share of what the costs say. drawn: all parameters and prompts.
    """

    psnr: Callable[[SamplingParameters, int], float]
    pace: Callable[[SamplingParameters], float] = lambda _: 1.0
    now: float = 0.0
    drawn: list[tuple[SamplingParameters, str]] = field(default_factory=list)
    interrupt_after: int | None = None

    def __post_init__(self) -> None:
        self.recipe, self.backend, self.device = Recipe.load("demo"), "made up", torch.device("cpu")
        self.engines = {"large": SimpleNamespace(manifest=SimpleNamespace(key="1"))}

    def resolve(
        self, prompts: list[str], *, size: Any = None, seed: int = 0, **settings: Any
    ) -> list[SamplingParameters]:
        return [make_parameters(self.recipe, **settings) for _ in prompts]

    def __call__(self, prompt: str, *, seed: int, size: str, **settings: Any) -> Any:
        if self.interrupt_after is not None and len(self.drawn) >= self.interrupt_after:
            raise KeyboardInterrupt
        parameters = make_parameters(self.recipe, **settings)
        seconds = TimeModel(COSTS).seconds(parameters) * self.pace(parameters)
        self.now += seconds
        self.drawn.append((parameters, prompt))
        full = parameters.method == "large" and parameters.schedule.steps == self.recipe.defaults.steps
        image = picture(0.0 if full else 255 * 10 ** (-self.psnr(parameters, seed) / 20))
        return SimpleNamespace(images=[image], timing=Timing({"large": TimeSpent(1, seconds)}, {}, seconds))


def make_session(
    pipe: MadeUpPair, path: Any, *, minutes: float = 20.0, cases: Any = CASES, resume: bool = False
) -> Any:
    """A session on it, whose clock only drawing moves."""
    made: Any = pipe
    size = made.recipe.defaults.size
    journal = Journal.open(path, journal_facts(made, cases, size, {}), resume=resume)
    return SearchSession(made, cases, size, journal, minutes, clock=lambda: pipe.now)
