"""diffusers' own StableDiffusion3Pipeline on the same pictures, eager and compiled, in turns with our large model."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import torch
from transformers.utils import logging

from hybridstitch.method.progress import OnProgress, Progress, silent
from hybridstitch.method.size import Size
from hybridstitch.runtime.pipeline import HybridStitch

from .timing import Drawn

Draw = Callable[[Drawn], float]
"""Draws a case and says the seconds from prompt to picture."""


@dataclass(frozen=True)
class Rival:
    """Seconds of one way to draw with the large checkpoint.

    seconds: of each picture, in the order of repetitions and cases. first: what its first picture took beyond the
    median of the later ones, which is compiling and allocating. reason: why it could not run, in one line; then there
    are no seconds.
    """

    name: str
    seconds: tuple[float, ...] = ()
    first: float = 0.0
    reason: str | None = None

    @property
    def median(self) -> float | None:
        return median(self.seconds) if self.seconds else None

    @property
    def quartiles(self) -> tuple[float, float] | None:
        """The seconds that a quarter, and three quarters, of the pictures stay below."""
        if not self.seconds:
            return None
        low, high = np.percentile(self.seconds, [25, 75])
        return float(low), float(high)


def against_diffusers(
    pipe: HybridStitch,
    cases: Sequence[Drawn],
    repetitions: int,
    *,
    size: Size,
    steps: int,
    guidance: float,
    progress: OnProgress = silent,
) -> dict[str, Rival]:
    """Our large engine ("large"), diffusers as it comes ("eager") and with its transformer and decoder through
    torch.compile ("compile"): pictures of the same prompts, seeds, size, steps and guidance.

    What cannot be loaded, compiled or run is a `Rival` with a reason.
    """

    def ours(case: Drawn) -> float:
        drawn = pipe(case.prompt, seed=case.seed, size=size, method="large", steps=steps, guidance=guidance)
        return drawn.timing.total

    negative = pipe.recipe.defaults.negative_prompt
    settings = {
        "negative_prompt": negative,
        "width": size.width,
        "height": size.height,
        "num_inference_steps": steps,
        "guidance_scale": guidance,
        "max_sequence_length": pipe.recipe.max_sequence_length,
    }
    progress(Progress("loading diffusers"))
    try:
        eager = load_pipeline(pipe)
    except Exception as error:  # of diffusers, the hub, safetensors or the memory
        reason = _one_line(error)
        return {"eager": Rival("eager", reason=reason), "compile": Rival("compile", reason=reason)}
    ways = {
        "large": lambda: ours,
        "eager": lambda: drawer(eager, pipe.device, settings),
        "compile": lambda: drawer(compiled(eager), pipe.device, settings),
    }
    return take_turns(ways, cases, repetitions, progress)


def take_turns(
    ways: Mapping[str, Callable[[], Draw]], cases: Sequence[Drawn], repetitions: int, progress: OnProgress = silent
) -> dict[str, Rival]:
    """Time ways to draw, one after the other at each case. One that fails in its first picture has no part in it."""
    draws: dict[str, Draw] = {}
    first: dict[str, float] = {}
    failed: dict[str, Rival] = {}
    for name, make in ways.items():
        progress(Progress(f"first picture: {name}"))
        try:
            draw = make()
            first[name] = draw(cases[0])
            draws[name] = draw
        except Exception as error:  # of a compiler, a missing one, or the memory
            failed[name] = Rival(name, reason=_one_line(error))
    seconds: dict[str, list[float]] = {name: [] for name in draws}
    rounds = [case for _ in range(repetitions) for case in cases]
    for number, case in enumerate(rounds):
        for name, draw in draws.items():
            progress(Progress(f"diffusers: {name}", number, len(rounds)))
            seconds[name].append(draw(case))
    rivals = {name: Rival(name, tuple(taken), max(0.0, first[name] - median(taken))) for name, taken in seconds.items()}
    return {name: rivals.get(name) or failed[name] for name in ways}


def load_pipeline(pipe: HybridStitch) -> Any:
    """The pair's large checkpoint in diffusers, on the engines' device and in the recipe's dtype."""
    absent = {} if "text_encoder_3" in pipe.engines else {"text_encoder_3": None, "tokenizer_3": None}
    loaded = _pipeline_class().from_pretrained(
        pipe.recipe.checkpoint("large"), dtype=getattr(torch, pipe.recipe.dtype), **absent
    )
    loaded.set_progress_bar_config(disable=True)
    return loaded.to(pipe.device)


def compiled(pipeline: Any) -> Any:
    """The same weights with transformer and decoder through torch.compile; the pipeline given stays as it is."""
    twin = _pipeline_class()(**pipeline.components)
    twin.set_progress_bar_config(disable=True)
    twin.transformer = torch.compile(pipeline.transformer)
    twin.vae = copy.copy(pipeline.vae)
    twin.vae.decode = torch.compile(pipeline.vae.decode)
    return twin


def drawer(pipeline: Any, device: torch.device, settings: Mapping[str, Any]) -> Draw:
    """Draws cases with a diffusers pipeline."""

    def draw(case: Drawn) -> float:
        generator = torch.Generator().manual_seed(case.seed)  # on the CPU, as ours
        _wait(device)
        start = time.perf_counter()
        pipeline(case.prompt, generator=generator, **settings)
        _wait(device)
        return time.perf_counter() - start

    return draw


def _pipeline_class() -> Any:
    """diffusers' class: a slow import, with warnings of image processors that no picture of ours needs."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        from diffusers import StableDiffusion3Pipeline

        return StableDiffusion3Pipeline
    finally:
        logging.set_verbosity(before)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _one_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]:.120}" if lines else type(error).__name__
