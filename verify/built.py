"""What a verification compares: the engines of a folder, and for each the reference from its checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from hybridstitch.engines.backends import find_backend, hardware, require_gpu
from hybridstitch.engines.executors.engine import Engine
from hybridstitch.engines.open import load_engine, position_file
from hybridstitch.engines.store.folder import Store, default_folder, rebuild_command
from hybridstitch.engines.store.manifest import Manifest, check_usable
from hybridstitch.method.errors import HybridStitchError
from hybridstitch.method.geometry import Geometry
from hybridstitch.models.component import COMPONENTS
from hybridstitch.models.token_transformer import position_table
from hybridstitch.pairs.recipe import Recipe

from .engine import enough_memory, open_reference

INPUTS_NEED = ("large", "text_encoder", "text_encoder_2")
"""What must be built whichever component is verified: its inputs come of their manifests."""


@dataclass(frozen=True)
class Built:
    """A built pair. manifests: of every component that is built."""

    recipe: Recipe
    folder: Path
    backend: str
    device: torch.device
    threads: int | None
    manifests: Mapping[str, Manifest]

    @property
    def geometry(self) -> Geometry:
        geometry = self.manifests["large"].geometry
        assert geometry is not None  # every transformer has one
        return geometry

    @property
    def rebuild(self) -> str:
        """The command that builds these engines."""
        return rebuild_command(self.recipe.name, self.backend, self.folder)

    def engine(self, name: str) -> Engine:
        with enough_memory(name):
            return load_engine(
                self.folder, name, backend=self.backend, threads=self.threads, device=self.device, pair=self.recipe.name
            )

    def checkpoint(self, name: str) -> Path:
        """A small transformer is the small checkpoint's; all else is the large one's."""
        return self.recipe.checkpoint("small" if name == "small" else "large")

    def reference(self, name: str) -> Engine:
        return open_reference(self.manifests[name], self.checkpoint(name), self.device)

    def checkpoint_positions(self, name: str) -> Tensor:
        """A transformer's position table [S, S, D], from the checkpoint."""
        return position_table(self.checkpoint(name)).to(self.device)

    def stored_positions(self, name: str) -> Tensor:
        """The same, as it was stored beside the engine."""
        return load_file(position_file(self.folder, name))["position"]


def find_built(
    recipe: Recipe, engines: str | Path | None, backend: str, components: Sequence[str], threads: int | None
) -> tuple[Built, list[str]]:
    """What is built, and the components to verify, text encoders first: the others are fed what those write.

    Raises:
        HybridStitchError: as `verify_pair`, but for the checkpoint, damaged files and memory: those show later.
    """
    known = find_backend(backend)
    if known.name == "torch":
        raise HybridStitchError(
            "backend torch is the reference that engines are compared with; name the backend that you built for"
        )
    _ = known.version
    if known.needs_gpu:
        require_gpu(known)
    folder = Path(engines) if engines is not None else default_folder(recipe.name, backend)
    store = Store(folder, pair=recipe.name, backend=backend)
    found = store.components()
    for name in components:
        if name not in COMPONENTS:
            raise HybridStitchError(f"unknown component {name!r}; known: {', '.join(COMPONENTS)}")
    needed = (*INPUTS_NEED, *components) if components else [name for name in COMPONENTS if name != "text_encoder_3"]
    manifests = {name: store.manifest(name) for name in COMPONENTS if name in needed or name in found}
    device = torch.device("cuda", torch.cuda.current_device()) if known.needs_gpu else torch.device("cpu")
    for manifest in manifests.values():
        if manifest.pair != recipe.name:
            raise HybridStitchError(
                f"{folder} holds engines of pair {manifest.pair!r}, not of {recipe.name!r}. Build them: {store.rebuild}"
            )
        check_usable(manifest, backend=backend, hardware=hardware(device), rebuild=store.rebuild)
    names = [name for name in COMPONENTS if name in (components or manifests)]
    names.sort(key=lambda name: not name.startswith("text_encoder"))
    return Built(recipe, folder, backend, device, threads, manifests), names
