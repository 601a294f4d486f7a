"""What the steps of a program cost beside a full step of the large model: counted in operations, nothing runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Literal

import torch

from hybridstitch.engines.store.manifest import Manifest
from hybridstitch.method.program import Kind, StepSpec
from hybridstitch.models.component import Component
from hybridstitch.models.family import family_of
from hybridstitch.pairs.recipe import Recipe
from hybridstitch.runtime.request import Request

from .operations import count_operations

Count = Callable[[str, int, int, int], int]
"""Operations of a call: of the large or small model, in so many rows of so many tokens, computing so many of them."""


def step_shares(recipe: Recipe, manifests: Mapping[str, Manifest], request: Request) -> dict[StepSpec, float]:
    """The operations of each step of a request's program, as a share of a full step's. 1.1 is a full step with another
    call of the small model that costs a tenth of it.

    Args:
        manifests: of the pair's engines, by component.

    Raises:
        HybridStitchError: a checkpoint whose config cannot be read here.
    """
    return _shares(_counting(recipe, manifests), manifests, request)


def program_costs(recipe: Recipe, manifests: Mapping[str, Manifest], requests: Iterable[Request]) -> list[float]:
    """The operations of each request's program, in full steps: those of the large model alone in 28 steps are 28.

    Raises:
        HybridStitchError: a checkpoint whose config cannot be read here.
    """
    count = _counting(recipe, manifests)
    shares = [(request, _shares(count, manifests, request)) for request in requests]
    return [sum(costs[step] for step in request.program) for request, costs in shares]


def describe_transformer(recipe: Recipe, name: Literal["large", "small"], manifest: Manifest) -> Component:
    """The transformer that an engine was made from, without weights.

    Raises:
        HybridStitchError: a checkpoint whose config cannot be read here.
    """
    checkpoint = recipe.checkpoint(name)
    return family_of(checkpoint).describe(name, checkpoint, torch.float32, manifest.zero_text_tokens)


def _counting(recipe: Recipe, manifests: Mapping[str, Manifest]) -> Count:
    transformers = {name: describe_transformer(recipe, name, manifests[name]) for name in ("large", "small")}
    geometry = manifests["large"].geometry
    assert geometry is not None  # every transformer has one

    @cache
    def count(name: str, rows: int, tokens: int, computed: int) -> int:
        lengths = {"B": rows, "M": computed, "F": tokens - computed, "T": geometry.text_tokens}
        return count_operations(transformers[name], lengths)

    return count


def _shares(count: Count, manifests: Mapping[str, Manifest], request: Request) -> dict[StepSpec, float]:
    geometry = manifests["large"].geometry
    assert geometry is not None
    tokens, masked = geometry.tokens(request.size), request.masked or 0
    full = count("large", request.rows, tokens, tokens)
    small = count("small", request.rows, tokens, tokens) / full
    some = count("large", request.rows, tokens, masked) / full if masked else 0.0
    kinds = {Kind.FULL: 1.0, Kind.HYBRID: some + small, Kind.HELD: some, Kind.SMALL: small}
    return {step: kinds[step.kind] + (small if step.measure else 0.0) for step in request.program}
