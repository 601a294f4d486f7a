"""What a run gives back: pictures, and everything that says how they came about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from PIL import Image
from torch import Tensor

from hybridstitch.method.parameters import SamplingParameters
from hybridstitch.method.progress import Progress
from hybridstitch.method.sampler import Step
from hybridstitch.method.schedule import Stage
from hybridstitch.method.size import Size

from .pictures import refined_overlay
from .request import Request
from .timing import Timing


@dataclass(frozen=True)
class Picture:
    """One picture of a run.

    latents: [C, H/f, W/f], what was decoded. refined: [rows, columns], the share of the hybrid steps in which
    the large model computed each token, or None where there was no hybrid stage. mask_ratio: the share of tokens
    that a hybrid step computes with the large model. parameters: with the stage ends that adaptive switching found.
    """

    image: Image.Image
    prompt: str
    negative_prompt: str
    seed: int
    size: Size
    parameters: SamplingParameters
    latents: Tensor
    refined: Tensor | None
    mask_ratio: float | None

    def overlay(self) -> Image.Image | None:
        """The picture with the refined region shown over it; None where there was no hybrid stage."""
        return None if self.refined is None else refined_overlay(self.image, self.refined)


@dataclass(frozen=True)
class Failure:
    """A request that became no picture. error: why, in one line; its batch mates are as they would be without it."""

    request: Request
    error: str


@dataclass(frozen=True)
class Result:
    """What became of each request, in their order, and where the time went."""

    outcomes: list[Picture | Failure]
    timing: Timing

    @property
    def pictures(self) -> list[Picture]:
        return [outcome for outcome in self.outcomes if isinstance(outcome, Picture)]

    @property
    def failures(self) -> list[Failure]:
        return [outcome for outcome in self.outcomes if isinstance(outcome, Failure)]

    @property
    def images(self) -> list[Image.Image]:
        return [picture.image for picture in self.pictures]


@dataclass(frozen=True, kw_only=True)
class StepProgress(Progress):
    """Where a run is: `done` of a batch's `total` steps, in which stage, of how many batches (0..batches-1)."""

    stage: Stage
    batch: int
    batches: int

    @classmethod
    def of(cls, step: Step, steps: int, batch: int, batches: int) -> StepProgress:
        what = f"{step.stage} stage" + (f", batch {batch + 1} of {batches}" if batches > 1 else "")
        return cls(what, step.index + 1, steps, stage=step.stage, batch=batch, batches=batches)


def settings_of(picture: Picture, pair: str, backend: str, version: str) -> dict[str, Any]:
    """What is written into a picture's file: enough to draw it again."""
    return {
        "prompt": picture.prompt,
        "negative_prompt": picture.negative_prompt,
        "seed": picture.seed,
        "size": str(picture.size),
        **picture.parameters.as_dict(),
        "pair": pair,
        "backend": backend,
        "software": f"hybridstitch-trt {version}",
    }
