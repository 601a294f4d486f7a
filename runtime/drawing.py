"""One batch on its way: the caller asks for step after step, and then for the pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from PIL import Image
from torch import Tensor

from hybridstitch.engines.executors.released_engine import ReleasedEngine
from hybridstitch.method.geometry import Geometry
from hybridstitch.method.guidance import is_guided
from hybridstitch.method.masks import Choose, hardest
from hybridstitch.method.parameters import SamplingParameters
from hybridstitch.method.sampler import Sampler, Step
from hybridstitch.method.tokens import patchify, unpatchify

from .engine_models import EngineModels
from .health import Health, fault, peaks
from .pictures import to_pictures
from .request import Request
from .result import Failure, Picture
from .stream import Pace
from .text import TextEncoders
from .timing import Stopwatch
from .workspace import Workspace


@dataclass(frozen=True)
class Parts:
    """What a drawing is made with; only comparisons need others.

    choose: makes a mask of scores. models: calls the engines.
    """

    choose: Choose = hardest
    models: type[EngineModels] = EngineModels


class Drawing:
    """Iterate over it to draw; each step is enqueued when it is asked for, and on a GPU at most two are on their way.

    Cancel, deadline and pacing are the caller's, between two steps: to cancel is to stop asking. `HybridStitch.drawing`
    makes it, and leaves the device idle after it.

    batch: requests that share a batch (`Request.batch_key`), in as many images as the workspace has.
    levels: [S, 4], see `noise_levels`. decoder: its engine, where it is held only while it runs.
    """

    def __init__(
        self,
        batch: Sequence[Request],
        workspace: Workspace,
        text: TextEncoders,
        levels: Tensor,
        geometry: Geometry,
        watch: Stopwatch,
        parts: Parts,
        decoder: ReleasedEngine | None = None,
    ) -> None:
        self.batch = tuple(batch)
        self._workspace, self._geometry, self._watch, self._decoder = workspace, geometry, watch, decoder
        self._grid = geometry.grid(batch[0].size)
        self._health = Health()
        self._fill(text)
        exponents = {request.parameters.residual for request in batch}
        common = exponents.pop() if len(exponents) == 1 else None
        models = parts.models(workspace, watch.engine)
        parameters = batch[0].parameters
        self._sampler = Sampler(models, workspace.state, levels, parameters, exponent=common, choose=parts.choose)
        watch.lap("text")

    def __iter__(self) -> Iterator[Step]:
        pace = Pace(self._workspace.state.x.device)
        for step in self._sampler:
            self._watch.lap(str(step.stage))
            pace.mark()
            yield step
            pace.wait()

    def preview(self) -> list[Image.Image | None]:
        """What the pictures would be, by the clean-image estimate of the last step (waits for the device); None where
        that is NaN, infinite or zero."""
        decoded = self._decode(self._workspace.state.preview())[0]
        pictures = [
            None if fault([peak]) else to_pictures(decoded[index : index + 1])[0]
            for index, peak in enumerate(peaks(decoded).tolist())
        ]
        self._watch.lap("preview")
        return pictures

    def finish(self) -> list[Picture | Failure]:
        """Decode, after the last step: for each request its picture, or what went wrong with it alone."""
        decoded, latents = self._decode(self._workspace.state.x)
        self._workspace.note_steps(self._health, self._sampler.schedule.steps)
        self._health.watch("vae_decoder", decoded)
        problems = self._health.problems(len(self.batch))
        outcomes = [
            self._picture(index, decoded, latents) if problem is None else Failure(self.batch[index], problem)
            for index, problem in enumerate(problems)
        ]
        self._watch.lap("decode")
        return outcomes

    def _fill(self, text: TextEncoders) -> None:
        """Prompts, noise, and what is each image's own."""
        state, own = self._workspace.state, [request.parameters for request in self.batch]
        guided = is_guided(own[0].guidance)
        prompts = [request.negative_prompt for request in self.batch] if guided else []
        prompts += [request.prompt for request in self.batch]
        embeddings, pooled = text.encode(prompts, self._watch.engine, self._health.watch)
        self._workspace.io["text"].copy_(embeddings)
        self._workspace.io["pooled"].copy_(pooled)
        state.guidance.copy_(torch.tensor([parameters.guidance for parameters in own])[:, None, None])
        state.exponent.copy_(torch.tensor([parameters.residual or 0.0 for parameters in own])[:, None, None])
        state.x.copy_(patchify(self._noise(), self._geometry.patch_size))

    def _noise(self) -> Tensor:
        """[B, C, h, w]: for each image what diffusers draws with torch.Generator().manual_seed(seed)."""
        patch, (rows, columns) = self._geometry.patch_size, self._grid
        shape = (1, self._geometry.latent_channels, rows * patch, columns * patch)
        seeds = [request.seed for request in self.batch]
        return torch.cat([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds])

    def _decode(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """The picture [B, 3, H, W] in -1..1, and its latents [B, C, h, w]."""
        assert self._workspace.decoder is not None
        latents = unpatchify(tokens, self._geometry.patch_size, *self._grid)
        self._workspace.io["latents"].copy_(latents)
        if self._decoder is not None:
            self._decoder.opened()
            self._watch.lap("load")
        with self._watch.engine("vae_decoder"):
            self._workspace.decoder.run()
        if self._decoder is not None:
            self._decoder.release()
        return self._workspace.io["image"], latents

    def _picture(self, index: int, decoded: Tensor, latents: Tensor) -> Picture:
        request, sampler, state = self.batch[index], self._sampler, self._workspace.state
        refined, ratio = None, None
        if sampler.hybrid_steps:
            refined = (state.refined[index] / sampler.hybrid_steps).reshape(self._grid).cpu()
            ratio = state.computed.shape[1] / state.x.shape[1]
        return Picture(
            image=to_pictures(decoded[index : index + 1])[0],
            prompt=request.prompt,
            negative_prompt=request.negative_prompt,
            seed=request.seed,
            size=request.size,
            parameters=self._parameters(request),
            latents=latents[index].cpu(),
            refined=refined,
            mask_ratio=ratio,
        )

    def _parameters(self, request: Request) -> SamplingParameters:
        """With the stage ends that adaptive switching found, where it was on."""
        if request.parameters.adaptive is None:
            return request.parameters
        return replace(request.parameters, schedule=self._sampler.schedule)
