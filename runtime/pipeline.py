"""Prompt -> text -> latents -> three stages -> decode -> picture, on one device."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Unpack

import torch
from torch import Tensor

from hybridstitch.engines.backends import find_backend
from hybridstitch.engines.executors.engine import Engine
from hybridstitch.engines.open import open_pair
from hybridstitch.method.errors import HybridStitchError
from hybridstitch.method.guidance import is_guided
from hybridstitch.method.numbers import whole_seed
from hybridstitch.method.sampler import Step, sample
from hybridstitch.method.settings import PlanSettings
from hybridstitch.method.sigmas import noise_levels
from hybridstitch.method.size import Size
from hybridstitch.method.tokens import crop_positions, patchify, unpatchify
from hybridstitch.models.scheduler import load_scheduler
from hybridstitch.pairs.plans import make_plan
from hybridstitch.pairs.recipe import Recipe

from .engine_models import EngineModels
from .fits import group_sizes
from .health import Health
from .pictures import to_pictures
from .result import Batch, Picture, Result, StepProgress, pictures_of
from .stream import OwnStream
from .text import TextEncoders
from .timing import Stopwatch


class HybridStitch:
    """A pair of models, loaded and ready to draw. One thread at a time: its engines and buffers are its own.

    >>> pipe = HybridStitch.load("demo")
    >>> result = pipe("a large striped red star left of a small plain white circle on a navy background", seed=7)
    >>> result.images[0].save("star.png")

    recipe: the pair's recipe; `recipe.checkpoint("large")` is the folder of a checkpoint.
    """

    def __init__(
        self,
        recipe: Recipe,
        folder: Path | None,
        backend: str,
        *,
        device: torch.device | str | None = None,
        threads: int | None = None,
    ) -> None:
        built = open_pair(
            folder, pair=recipe.name, backend=backend, device=device, threads=threads, argument=recipe.argument
        )
        self.recipe, self.folder, self.backend = recipe, built.folder, backend
        self.device, self.geometry = built.device, built.geometry
        self._stream = OwnStream(self.device)
        self.engines: dict[str, Engine] = {name: built.engine(name) for name in built.manifests}
        large = self.engines["large"]
        self._positions = {name: built.positions(name).to(self.engines[name].dtype) for name in ("large", "small")}
        self._scheduler = load_scheduler(built.assets / "scheduler")
        self._text = TextEncoders(
            [engine for name, engine in self.engines.items() if name.startswith("text_encoder")],
            built.assets,
            width=self.geometry.text_width,
            zero_tokens=large.manifest.zero_text_tokens,
            dtype=large.dtype,
        )

    @classmethod
    def load(
        cls,
        pair: str | Path = "demo",
        *,
        engines: str | Path | None = None,
        backend: str = "onnxruntime",
        device: torch.device | str | None = None,
        threads: int | None = None,
    ) -> HybridStitch:
        """Load a pair's engines.

        Args:
            pair: a recipe's name, or the path of its TOML file.
            engines: the folder that they were built in; by default build/<pair>/<backend>. Plans can run code:
                name only folders that you trust.
            backend: onnxruntime, tensorrt, tensorrt_rtx or torch.
            device: such as cuda:1; by default the CPU, or the current GPU for a backend that needs one.
            threads: CPU threads of an engine; by default the machine's cores.

        Raises:
            HybridStitchError: unknown pair or backend, engines that are not built, were built for another machine,
                version or pair, or are damaged; the message says what to type.
        """
        recipe, backend = Recipe.load(pair), find_backend(backend).name
        folder = Path(str(engines)) if engines is not None else None
        return cls(recipe, folder, backend, device=device, threads=threads)

    def __call__(
        self,
        prompt: str | Sequence[str],
        *,
        negative_prompt: str | None = None,
        seed: int = 0,
        size: Size | str | None = None,
        method: str | None = None,
        on_step: Callable[[StepProgress], None] | None = None,
        **settings: Unpack[PlanSettings],
    ) -> Result:
        """Draw one picture for each prompt.

        Args:
            prompt: one or several; each picture is the same alone or among others.
            seed: of the first prompt's noise; prompt k has seed + k. The noise is drawn on the CPU, so that a seed
                means the same on every device.
            size: WxH in pixels; one of the recipe's.
            method, settings: see `make_plan`; what is not given is the recipe's.
            on_step: called after each step; what it raises ends the run.

        Raises:
            HybridStitchError: a bad argument, or an engine that gave NaN, infinity or only zeros.
        """
        prompts = [prompt] if isinstance(prompt, str | bytes) or not isinstance(prompt, Iterable) else list(prompt)
        negative = self.recipe.defaults.negative_prompt if negative_prompt is None else negative_prompt
        plan = make_plan(self.recipe, method, **settings)
        wanted = self.recipe.defaults.size if size is None else Size.parse(size)
        seed = self.check(prompts, negative_prompt=negative, seed=seed, size=wanted)

        bucket = self.recipe.profiles.token_bucket
        groups = group_sizes(self.engines, self.geometry, wanted, plan, bucket, len(prompts))
        watch, pictures = Stopwatch(self.device), []
        for number, count in enumerate(groups):
            start = len(pictures)
            seeds = tuple(range(seed + start, seed + start + count))
            batch = Batch(tuple(prompts[start : start + count]), (negative,) * count, seeds, wanted, plan)

            def report(step: Step, number: int = number) -> None:
                if on_step is not None:
                    on_step(StepProgress.of(step, plan.schedule.steps, number, len(groups)))

            pictures += self.draw(batch, watch, report)
        return Result(pictures, watch.finish())

    def close(self) -> None:
        """Give back the engines' memory; nothing can be drawn afterwards."""
        for engine in self.engines.values():
            engine.close()

    def __enter__(self) -> HybridStitch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def check(
        self, prompts: Sequence[str], *, negative_prompt: str | None = None, seed: int = 0, size: Size | None = None
    ) -> int:
        """Everything about a request that can be refused before anything runs.

        Returns:
            The seed, as an int.

        Raises:
            HybridStitchError: no prompt, an empty or over-long one, one that is no text, a seed out of range, a size
                that does not fit.
        """
        if not prompts:
            raise HybridStitchError("there is no prompt: say what to draw")
        for text in prompts:
            self._text.check(text)
        if negative_prompt is not None:
            self._text.check(negative_prompt, "negative prompt", may_be_empty=True)
        if size is not None:
            self._check_size(size)
        return whole_seed(seed, len(prompts))

    def _check_size(self, size: Size) -> None:
        tokens = self.geometry.tokens(size)
        ranges = [profile.ranges["M"] for profile in self.engines["small"].manifest.profiles]
        if not any(low <= tokens <= high for low, _, high in ranges):
            built = "; ".join(f"{low}-{high}" for low, _, high in ranges)
            raise HybridStitchError(
                f"size {size} is {tokens} image tokens and the engines in {self.folder} take {built}; "
                f"the recipe's sizes: {', '.join(str(known) for known in self.recipe.profiles.sizes)}"
            )

    def draw(self, batch: Batch, watch: Stopwatch, on_step: Callable[[Step], None] = lambda _: None) -> list[Picture]:
        """Draw one checked batch, at most as many pictures as the engines take at once.

        On a GPU it runs on the pipeline's own stream, which is idle when this returns or raises.

        Raises:
            HybridStitchError: lengths that no profile holds, not enough memory, or an engine that gave NaN, infinity
                or only zeros.
        """
        try:
            with torch.inference_mode(), self._stream.run():
                return self._draw(batch, watch, on_step)
        except (MemoryError, torch.OutOfMemoryError):
            raise HybridStitchError(
                f"not enough memory on {self.device} for {len(batch.prompts)} pictures of {batch.size}: draw fewer at "
                "once or smaller ones; hybridstitch-trt inspect says what a run takes"
            ) from None

    def _draw(self, batch: Batch, watch: Stopwatch, on_step: Callable[[Step], None]) -> list[Picture]:
        rows, columns = self.geometry.grid(batch.size)
        sigmas, timesteps = noise_levels(self._scheduler, batch.plan.schedule.steps, rows * columns, self.device)
        noise = patchify(self._noise(batch.seeds, rows, columns), self.geometry.patch_size)
        health, step_number = Health(), 1

        def step_done(step: Step) -> None:
            nonlocal step_number
            step_number += 1
            watch.lap(str(step.stage))
            on_step(step)

        models = self._models(batch, watch, health, lambda: step_number)
        watch.lap("text")
        tokens, trace = sample(
            models,
            noise,
            sigmas,
            timesteps,
            batch.plan,
            token_bucket=self.recipe.profiles.token_bucket,
            on_step=step_done,
        )
        latents = unpatchify(tokens, self.geometry.patch_size, rows, columns)
        decoder = self.engines["vae_decoder"]
        with watch.engine("vae_decoder"):
            decoded = decoder({"latents": latents.to(decoder.dtype).contiguous()})["image"]
        health.watch("vae_decoder", decoded)
        health.check()
        images = to_pictures(decoded)
        watch.lap("decode")
        return pictures_of(batch, images, latents, trace, (rows, columns))

    def _models(self, batch: Batch, watch: Stopwatch, health: Health, step: Callable[[], int]) -> EngineModels:
        """The pair, ready to denoise this batch: prompts encoded, buffers there."""
        plan, grid = batch.plan, self.geometry.grid(batch.size)
        negatives = batch.negative_prompts if is_guided(plan.guidance) else ()
        text, pooled = self._text.encode([*negatives, *batch.prompts], watch.engine, health.watch)
        return EngineModels(
            self.engines["large"],
            self.engines["small"],
            geometry=self.geometry,
            large_position=crop_positions(self._positions["large"], *grid).to(self.device),
            small_position=crop_positions(self._positions["small"], *grid).to(self.device),
            text=text,
            pooled=pooled,
            guidance=plan.guidance,
            keep_keys=plan.has_hybrid,
            around=watch.engine,
            watch=lambda name, velocity: health.watch(f"{name}, step {step()},", velocity),
        )

    def _noise(self, seeds: Sequence[int], rows: int, columns: int) -> Tensor:
        """[B, C, H, W]: for each image what diffusers draws with torch.Generator().manual_seed(seed)."""
        patch = self.geometry.patch_size
        shape = (1, self.geometry.latent_channels, rows * patch, columns * patch)
        drawn = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return torch.cat(drawn).to(self.device)
