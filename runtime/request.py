"""A request: one picture that somebody wants, and everything about it that can be refused before anything runs."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack

from hybridstitch.engines.store.manifest import Manifest
from hybridstitch.method.errors import HybridStitchError, blaming
from hybridstitch.method.geometry import Geometry
from hybridstitch.method.guidance import halves
from hybridstitch.method.masks import masked_count
from hybridstitch.method.numbers import whole_seed
from hybridstitch.method.parameters import SamplingParameters
from hybridstitch.method.settings import SamplingSettings
from hybridstitch.method.size import Size
from hybridstitch.pairs.parameters import make_parameters
from hybridstitch.pairs.recipe import Recipe

from .fits import batch_sizes
from .prompts import Tokenizers
from .workspace import Shape


@dataclass(frozen=True)
class Request:
    """One picture, as `Requests.resolve` has checked it."""

    prompt: str
    negative_prompt: str
    seed: int
    size: Size
    parameters: SamplingParameters


class Requests:
    """Makes requests of a pair, and says which of them are drawn together. Safe from any thread.

    Args:
        recipe: gives what a request leaves open. manifests: of the pair's engines, by component.
        geometry: the large transformer's. folder: where the engines are, for messages.
    """

    def __init__(
        self,
        recipe: Recipe,
        manifests: Mapping[str, Manifest],
        geometry: Geometry,
        tokenizers: Tokenizers,
        folder: Path,
    ) -> None:
        self._recipe, self._manifests, self._geometry = recipe, manifests, geometry
        self._tokenizers, self._folder = tokenizers, folder

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
            wanted = self._recipe.defaults.size if size is None else Size.parse(size)
        negative = self._recipe.defaults.negative_prompt if negative_prompt is None else negative_prompt
        with blaming("prompt"):
            self._tokenizers.check(prompt)
        with blaming("negative_prompt"):
            self._tokenizers.check(negative, "negative prompt", may_be_empty=True)
        with blaming("size"):
            self._check_size(wanted)
        with blaming("seed"):
            request = Request(prompt, negative, whole_seed(seed), wanted, parameters)
        self.batch_sizes(request)
        return request

    def batch_sizes(self, request: Request) -> tuple[int, ...]:
        """How many pictures like this the engines take at once, ascending.

        Adaptive switching looks at a whole batch: to draw the same picture alone and among others, it gets one.

        Raises:
            HybridStitchError: none.
        """
        return batch_sizes(self._manifests, self._geometry, request.size, request.parameters, self._bucket)

    def batch_key(self, request: Request) -> Hashable:
        """Requests of equal keys share a batch. Prompt, seed, guidance scale and residual exponent are each image's."""
        parameters = request.parameters
        masked = self.shape([request]).masked
        carries = parameters.residual is not None
        how = parameters.score, parameters.sketch, carries, parameters.adaptive
        return request.size, parameters.schedule, halves(parameters.guidance), masked, *how

    def shape(self, batch: Sequence[Request]) -> Shape:
        """The workspace that a batch needs."""
        first = batch[0]
        count = masked_count(self._geometry.tokens(first.size), first.parameters.mask_ratio, self._bucket)
        return Shape(
            size=first.size,
            images=len(batch),
            rows=len(batch) * halves(first.parameters.guidance),
            masked=count if first.parameters.has_hybrid else None,
        )

    def batches(self, requests: Sequence[Request]) -> list[list[int]]:
        """Requests, by their place, cut into batches that every engine takes at once, the largest first.

        Raises:
            HybridStitchError: one that no engine takes in the number that there is.
        """
        alike: dict[Hashable, list[int]] = {}
        for place, request in enumerate(requests):
            alike.setdefault(self.batch_key(request), []).append(place)
        found = []
        for places in alike.values():
            sizes = self.batch_sizes(requests[places[0]])
            while places:
                possible = [size for size in sizes if size <= len(places)]
                if not possible:
                    raise HybridStitchError(
                        f"the engines in {self._folder} draw {sizes[0]} pictures at once and no fewer; here are "
                        f"{len(places)}"
                    )
                found.append(places[: possible[-1]])
                places = places[possible[-1] :]
        return found

    @property
    def _bucket(self) -> int:
        return self._recipe.profiles.token_bucket

    def _check_size(self, size: Size) -> None:
        tokens = self._geometry.tokens(size)
        ranges = [profile.ranges["M"] for profile in self._manifests["small"].profiles]
        if not any(low <= tokens <= high for low, _, high in ranges):
            built = "; ".join(f"{low}-{high}" for low, _, high in ranges)
            raise HybridStitchError(
                f"size {size} is {tokens} image tokens and the engines in {self._folder} take {built}; "
                f"the recipe's sizes: {', '.join(str(known) for known in self._recipe.profiles.sizes)}"
            )
