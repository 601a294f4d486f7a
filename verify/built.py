"""What a verification compares: the engines of a built pair, and for each the reference from its checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from hybridstitch.engines.backends import find_backend
from hybridstitch.engines.executors.engine import Engine
from hybridstitch.engines.open import BuiltPair, open_pair
from hybridstitch.engines.store.manifest import Manifest
from hybridstitch.method.errors import HybridStitchError
from hybridstitch.models.component import COMPONENTS, REQUIRED
from hybridstitch.models.family import Family, family_of
from hybridstitch.pairs.recipe import Recipe

from .engine import enough_memory, open_reference

INPUTS_NEED = tuple(name for name in REQUIRED if name == "large" or name.startswith("text_encoder"))
"""What must be built whichever component is verified: its inputs come of their manifests."""


@dataclass(frozen=True)
class Built:
    """A built pair, and the recipe that says where its checkpoints are."""

    recipe: Recipe
    pair: BuiltPair

    @property
    def family(self) -> Family:
        return family_of(self.checkpoint("large"))

    def engine(self, name: str) -> Engine:
        with enough_memory(name, self.pair.device):
            return self.pair.engine(name)

    def open_plan(self, plan: Manifest) -> Engine:
        with enough_memory(plan.name, self.pair.device):
            return self.pair.open_plan(plan)

    def checkpoint(self, name: str) -> Path:
        """A small transformer is the small checkpoint's; all else is the large one's."""
        return self.recipe.checkpoint("small" if name == "small" else "large")

    def reference(self, name: str) -> Engine:
        return open_reference(self.pair.manifests[name], self.checkpoint(name), self.pair.device, self.pair.threads)

    def checkpoint_positions(self, name: str) -> Tensor:
        """A transformer's position table [S, S, D], from the checkpoint, on the CPU."""
        return self.family.positions(self.checkpoint(name))


def find_built(
    recipe: Recipe, engines: str | Path | None, backend: str, components: Sequence[str], threads: int | None
) -> tuple[Built, list[str]]:
    """What is built, and the components to verify, text encoders first: the others are fed what those write.

    Raises:
        HybridStitchError: as `verify_pair`, but for the checkpoint and memory: those show later.
    """
    if find_backend(backend).name == "torch":
        raise HybridStitchError(
            "backend torch is the reference that engines are compared with; name the backend that you built for"
        )
    for name in components:
        if name not in COMPONENTS:
            raise HybridStitchError(f"unknown component {name!r}; known: {', '.join(COMPONENTS)}")
    needed = (*INPUTS_NEED, *components) if components else REQUIRED
    pair = open_pair(
        engines,
        pair=recipe.name,
        backend=backend,
        threads=threads,
        needed=needed,
        argument=recipe.argument,
        split=recipe.profiles.split,
    )
    names = [name for name in COMPONENTS if name in (components or pair.manifests)]
    names.sort(key=lambda name: not name.startswith("text_encoder"))
    return Built(recipe, pair), names
