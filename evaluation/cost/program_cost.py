"""What the steps of a program cost beside a full step of the large model: counted in operations, nothing runs."""

from __future__ import annotations

from collections.abc import Mapping

from hybridstitch.engines.store.manifest import Manifest
from hybridstitch.method.program import Kind, StepSpec
from hybridstitch.models.sd3.token_transformer import TokenTransformer
from hybridstitch.pairs.recipe import Recipe
from hybridstitch.runtime.request import Request

from .operations import count_operations


def step_shares(recipe: Recipe, manifests: Mapping[str, Manifest], request: Request) -> dict[StepSpec, float]:
    """The operations of each step of a request's program, as a share of a full step's. 1.1 is a full step with another
    call of the small model that costs a tenth of it.

    Args:
        manifests: of the pair's engines, by component.

    Raises:
        HybridStitchError: a checkpoint whose config cannot be read here.
    """
    modules = {
        name: TokenTransformer.describe(
            recipe.checkpoint(name),
            keeps_keys=name == "large",
            zero_text_tokens=manifests[name].zero_text_tokens,
        )
        for name in ("large", "small")
    }
    geometry = manifests["large"].geometry
    assert geometry is not None  # every transformer has one
    tokens, masked, text = geometry.tokens(request.size), request.masked or 0, geometry.text_tokens
    full = count_operations(modules["large"], request.rows, tokens, 0, text)
    small = count_operations(modules["small"], request.rows, tokens, 0, text) / full
    some = count_operations(modules["large"], request.rows, masked, tokens - masked, text) / full if masked else 0.0
    kinds = {Kind.FULL: 1.0, Kind.HYBRID: some + small, Kind.HELD: some, Kind.SMALL: small}
    return {step: kinds[step.kind] + (small if step.measure else 0.0) for step in request.program}
