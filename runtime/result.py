"""What a run gives back: pictures, and everything that says how they came about."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from hybridstitch.method.plan import Plan
from hybridstitch.method.progress import Progress
from hybridstitch.method.sampler import Step, Trace
from hybridstitch.method.schedule import Stage
from hybridstitch.method.size import Size

from .pictures import refined_overlay
from .timing import Timing


@dataclass(frozen=True)
class Picture:
    """One picture of a run.

    latents: [C, H/f, W/f], what was decoded. refined: [rows, columns], the share of the hybrid steps in which
    the large model computed each token, or None where there was no hybrid stage. mask_ratio: the share of tokens
    that a hybrid step computes with the large model. plan: with the stage ends that adaptive switching found.
    """

    image: Image.Image
    prompt: str
    negative_prompt: str
    seed: int
    size: Size
    plan: Plan
    latents: Tensor
    refined: Tensor | None
    mask_ratio: float | None

    def overlay(self) -> Image.Image | None:
        """The picture with the refined region shown over it; None where there was no hybrid stage."""
        return None if self.refined is None else refined_overlay(self.image, self.refined)


@dataclass(frozen=True)
class Batch:
    """Pictures that are drawn together: one size and plan, and for each its own prompts and seed."""

    prompts: tuple[str, ...]
    negative_prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    size: Size
    plan: Plan


@dataclass(frozen=True)
class Result:
    """Pictures in the order of their prompts, and where the time went."""

    pictures: list[Picture]
    timing: Timing

    @property
    def images(self) -> list[Image.Image]:
        return [picture.image for picture in self.pictures]


@dataclass(frozen=True, kw_only=True)
class StepProgress(Progress):
    """Where a run is: `done` of a batch's `total` steps, in which stage, of how many batches (0..batches-1).

    estimate: the clean-image estimate of the step in token space, [B, N, p*p*C].
    """

    stage: Stage
    batch: int
    batches: int
    estimate: Tensor

    @classmethod
    def of(cls, step: Step, steps: int, batch: int, batches: int) -> StepProgress:
        what = f"{step.stage} stage" + (f", batch {batch + 1} of {batches}" if batches > 1 else "")
        return cls(what, step.index + 1, steps, stage=step.stage, batch=batch, batches=batches, estimate=step.estimate)


def pictures_of(
    batch: Batch, images: list[Image.Image], latents: Tensor, trace: Trace, grid: tuple[int, int]
) -> list[Picture]:
    """What a batch came to, picture by picture. latents: [B, C, H, W]; grid: rows and columns of tokens."""
    refined = _refined_share(trace, grid[0] * grid[1])
    plan = replace(batch.plan, schedule=trace.schedule)
    return [
        Picture(
            image=image,
            prompt=batch.prompts[index],
            negative_prompt=batch.negative_prompts[index],
            seed=batch.seeds[index],
            size=batch.size,
            plan=plan,
            latents=latents[index].cpu(),
            refined=None if refined is None else refined[index].reshape(grid),
            mask_ratio=None if refined is None else trace.masks[0].computed.shape[1] / (grid[0] * grid[1]),
        )
        for index, image in enumerate(images)
    ]


def _refined_share(trace: Trace, tokens: int) -> Tensor | None:
    """[B, N]: in which share of the masked steps each token was computed by the large model."""
    steps = sum(trace.mask_steps)
    if not steps:
        return None
    counts = torch.zeros(trace.masks[0].computed.shape[0], tokens, device=trace.masks[0].computed.device)
    for mask, used in zip(trace.masks, trace.mask_steps, strict=True):
        counts.scatter_add_(1, mask.computed, torch.full(mask.computed.shape, float(used), device=counts.device))
    return (counts / steps).cpu()


def settings_of(picture: Picture, pair: str, backend: str, version: str) -> dict[str, Any]:
    """What is written into a picture's file: enough to draw it again."""
    return {
        "prompt": picture.prompt,
        "negative_prompt": picture.negative_prompt,
        "seed": picture.seed,
        "size": str(picture.size),
        **picture.plan.as_dict(),
        "pair": pair,
        "backend": backend,
        "software": f"hybridstitch-trt {version}",
    }
