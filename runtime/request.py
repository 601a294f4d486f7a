"""A request: one picture that somebody wants, and everything about it that can be refused before anything runs."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any, Unpack

import torch
from torch import Tensor

from hybridstitch.engines.open import FoundPair
from hybridstitch.engines.store.manifest import Manifest
from hybridstitch.method.errors import HybridStitchError, blaming
from hybridstitch.method.geometry import Geometry
from hybridstitch.method.guidance import halves, is_guided
from hybridstitch.method.numbers import whole_seed
from hybridstitch.method.parameters import SamplingParameters
from hybridstitch.method.program import Program, make_program
from hybridstitch.method.settings import SamplingSettings
from hybridstitch.method.sigmas import noise_levels
from hybridstitch.method.size import Size
from hybridstitch.models.scheduler import load_scheduler
from hybridstitch.pairs.parameters import make_parameters
from hybridstitch.pairs.recipe import Recipe

from .batch_sizes import batch_sizes
from .prompts import Tokenizers, encoder_length
from .specification import Shape


@dataclass(frozen=True)
class BatchKey:
    """What requests of one batch have in common. Prompt, seed, guidance scale and residual exponent are each image's.

    grid: of the noise levels. masked: M. adaptive: the threshold of adaptive switching, which replaces the program.
    """

    size: Size
    program: Program
    grid: int
    guided: bool
    masked: int | None
    adaptive: float | None


@dataclass(frozen=True)
class Request:
    """One picture, as `Requests.resolve` has checked it: whoever batches, counts or serves reads it from here.

    masked: M, the tokens that the large model computes in a hybrid step; None: there is none. batch_sizes: how many
    such pictures the engines take at once, ascending.
    """

    prompt: str
    negative_prompt: str
    seed: int
    size: Size
    parameters: SamplingParameters
    masked: int | None = None
    batch_sizes: tuple[int, ...] = (1,)

    @cached_property
    def program(self) -> Program:
        """What each step does; adaptive switching replaces the rest of it on the way."""
        return make_program(self.parameters)

    @property
    def rows(self) -> int:
        """Of the engines' batch: a negative and a positive one when guided."""
        return halves(self.parameters.guidance)

    @cached_property
    def batch_key(self) -> BatchKey:
        """Requests of equal keys share a batch."""
        parameters = self.parameters
        guided = is_guided(parameters.guidance)
        grid = parameters.schedule.grid
        return BatchKey(self.size, self.program, grid, guided, self.masked, parameters.adaptive)


def batch_shape(batch: Sequence[Request]) -> Shape:
    """The workspace that a batch of requests of one key needs."""
    first = batch[0]
    return Shape.of(first.size, len(batch), len(batch) * first.rows, first.masked, first.program)


class Requests:
    """Makes requests of a pair, and says which of them are drawn together. Safe from any thread.

    Args:
        recipe: gives what a request leaves open. manifests: of the pair's engines, by component.
        geometry: the large transformer's. scheduler: the checkpoint's. folder: where the engines are, for messages.
    """

    def __init__(
        self,
        recipe: Recipe,
        manifests: Mapping[str, Manifest],
        geometry: Geometry,
        tokenizers: Tokenizers,
        scheduler: Any,
        folder: Path,
    ) -> None:
        self._recipe, self._manifests, self._geometry = recipe, manifests, geometry
        self._tokenizers, self._folder = tokenizers, folder
        self._levels = lru_cache(maxsize=64)(partial(noise_levels, scheduler, device=torch.device("cpu")))

    @classmethod
    def of_built(cls, recipe: Recipe, pair: FoundPair) -> Requests:
        """Those of a pair that is built: from manifests, tokenizers and the scheduler alone; no engine is opened.

        Raises:
            HybridStitchError: files that are missing or damaged.
        """
        assets = pair.store.assets([plan for plans in pair.plans.values() for plan in plans])
        lengths = [encoder_length(each) for name, each in pair.manifests.items() if name.startswith("text_encoder")]
        scheduler = load_scheduler(assets / "scheduler")
        tokenizers = Tokenizers(assets, lengths)
        return cls(recipe, pair.manifests, pair.geometry, tokenizers, scheduler, pair.folder)

    def resolve(
        self,
        prompt: str,
        *,
        negative_prompt: str | None = None,
        seed: int = 0,
        size: Size | str | None = None,
        method: str | None = None,
        **settings: Unpack[SamplingSettings],
    ) -> Request:
        """A request, with every refusal that can be told before anything runs.

        Args:
            seed: of the noise, which is drawn on the CPU, so that a seed means the same on every device.
            size: WxH in pixels; one of the recipe's.
            method, settings: see `make_parameters`; what is not given is the recipe's.

        Raises:
            HybridStitchError: an unknown method or setting, a prompt that is empty, over-long or no text, a seed out of
                range, or a size or settings that the engines do not take.
        """
        parameters = make_parameters(self._recipe, method, **settings)
        with blaming("size"):
            picture_size = self._recipe.defaults.size if size is None else Size.parse(size)
        negative = self._recipe.defaults.negative_prompt if negative_prompt is None else negative_prompt
        with blaming("prompt"):
            self._tokenizers.check(prompt)
        with blaming("negative_prompt"):
            self._tokenizers.check(negative, "negative prompt", may_be_empty=True)
        with blaming("size"):
            self._check_size(picture_size)
        with blaming("seed"):
            number = whole_seed(seed)
        tokens, bucket, schedule = (
            self._geometry.tokens(picture_size),
            self._recipe.profiles.token_bucket,
            parameters.schedule,
        )
        with blaming("steps"):
            self._levels(schedule.steps, tokens, grid=schedule.grid)
        return Request(
            prompt,
            negative,
            number,
            picture_size,
            parameters,
            masked=parameters.masked_tokens(tokens, bucket),
            batch_sizes=batch_sizes(self._manifests, self._geometry, picture_size, parameters, bucket),
        )

    def levels(self, request: Request) -> Tensor:
        """[S, 4], on the CPU: the noise levels of a request, see `noise_levels`."""
        schedule = request.parameters.schedule
        return self._levels(schedule.steps, self._geometry.tokens(request.size), grid=schedule.grid)

    def batches(self, requests: Sequence[Request]) -> list[list[int]]:
        """Requests, by their place, cut into batches that every engine takes at once, the largest first.

        Raises:
            HybridStitchError: one that no engine takes in the number that there is.
        """
        alike: dict[Hashable, list[int]] = {}
        for place, request in enumerate(requests):
            alike.setdefault(request.batch_key, []).append(place)
        batches = []
        for places in alike.values():
            sizes = requests[places[0]].batch_sizes
            while places:
                possible = [size for size in sizes if size <= len(places)]
                if not possible:
                    raise HybridStitchError(
                        f"the engines in {self._folder} draw {sizes[0]} pictures at once and no fewer; here are "
                        f"{len(places)}"
                    )
                batches.append(places[: possible[-1]])
                places = places[possible[-1] :]
        return batches

    def _check_size(self, size: Size) -> None:
        tokens = self._geometry.tokens(size)
        ranges = [profile.ranges["M"] for profile in self._manifests["small"].profiles]
        if not any(low <= tokens <= high for low, _, high in ranges):
            built = "; ".join(f"{low}-{high}" for low, _, high in ranges)
            raise HybridStitchError(
                f"size {size} is {tokens} image tokens and the engines in {self._folder} take {built}; "
                f"the recipe's sizes: {', '.join(str(each) for each in self._recipe.profiles.sizes)}"
            )
