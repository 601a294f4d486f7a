"""The device memory that a run takes, told from manifests alone: no plan is loaded."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from hybridstitch.engines.backends import find_backend
from hybridstitch.engines.full_lengths import full_lengths
from hybridstitch.engines.profiles import resolve
from hybridstitch.engines.store.manifest import Manifest
from hybridstitch.engines.unread_outputs import unread_bytes
from hybridstitch.method.guidance import halves
from hybridstitch.method.parameters import SamplingParameters
from hybridstitch.method.program import make_program
from hybridstitch.method.size import Size
from hybridstitch.pairs.recipe import Recipe

from .specification import Shape, specification


@dataclass(frozen=True)
class Memory:
    """Bytes of a run.

    weights: of all engines. keys_values: the large model's, of all tokens, and the frozen part, and where held tokens
    move on of the full step before; of a TensorRT plan also those that a call does not want. latents: the rest of a
    workspace: the sampler's state, positions, text, and the inputs and outputs of all engines.
    scratch: an estimate of the activations. ONNX Runtime's engines keep their own as long as they live, encoders and
    decoder too; elsewhere they share the memory of the one that needs most.
    """

    weights: int
    keys_values: int
    latents: int
    scratch: int

    @property
    def total(self) -> int:
        return self.weights + self.keys_values + self.latents + self.scratch

    def as_dict(self) -> dict[str, int]:
        return {**asdict(self), "total": self.total}


def predict(
    manifests: Mapping[str, Manifest],
    recipe: Recipe,
    parameters: SamplingParameters,
    size: Size,
    batch: int,
    *,
    low_memory: bool = False,
) -> Memory:
    """The memory of one batch of pictures; a pipeline keeps the workspaces of a few shapes.

    Args:
        manifests: of the built engines, by component; of several plans, the one that the size needs.
        size, batch: of the recipe: the scratch of others is not known and counts as none.
        low_memory: whether text encoders and decoder are held only while they run.

    Raises:
        HybridStitchError: a size that the model cannot draw.
    """
    large = manifests["large"]
    geometry = large.geometry
    assert geometry is not None
    rows, tokens = batch * halves(parameters.guidance), geometry.tokens(size)
    masked = parameters.masked_tokens(tokens, recipe.profiles.token_bucket)
    drawn = {name: manifests[name] for name in ("large", "small", "vae_decoder")}
    needed = specification(drawn, Shape.of(size, batch, rows, masked, make_program(parameters)))

    def scratch(component: str) -> int:
        lengths = full_lengths(manifests[component].inputs, geometry, size, batch)
        return next((entry.bytes for entry in manifests[component].scratch if entry.lengths == lengths), 0)

    def held(sizes: Mapping[str, int]) -> int:
        """What is there at once, of a number for each component."""
        if not low_memory:
            return sum(sizes.values())
        encoders = sum(size for name, size in sizes.items() if name.startswith("text_encoder"))
        return sizes["large"] + sizes["small"] + max(encoders, sizes["vae_decoder"])

    scratches = {name: scratch(name) for name in manifests}
    return Memory(
        weights=held({name: weight_bytes(manifest) for name, manifest in manifests.items()}),
        keys_values=needed.keys_values + _unwanted(large, rows, tokens if masked is None else masked),
        latents=needed.others + _text_bytes(manifests, rows),
        scratch=held(scratches) if large.backend == "onnxruntime" else max(scratches.values()),
    )


def largest_workspace(manifests: Mapping[str, Manifest], recipe: Recipe) -> int:
    """Bytes of the largest workspace that a request may ask for: of the recipe's largest batch, guided, with the mask
    that takes most. A pipeline keeps no more than this of the batches that it has drawn."""
    geometry = manifests["large"].geometry
    assert geometry is not None
    drawn = {name: manifests[name] for name in ("large", "small", "vae_decoder")}
    batch, workspaces = max(recipe.profiles.batch_sizes), []
    for size in recipe.profiles.sizes:
        tokens = geometry.tokens(size)
        for masked in (0, min(recipe.profiles.token_bucket, tokens), tokens):
            shape = Shape(size, batch, 2 * batch, masked, remembers=True, extrapolates=True)
            spec = specification(drawn, shape)
            workspaces.append(spec.keys_values + spec.others)
    return max(workspaces)


def free_bytes(device: torch.device) -> int | None:
    """Bytes that are free on a device; None where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    available = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return int(available[0]) * 1024 if available else None


def _text_bytes(manifests: Mapping[str, Manifest], rows: int) -> int:
    """The token ids and outputs of the text encoders, which stay bound for the next batch."""
    encoders = [manifest for name, manifest in manifests.items() if name.startswith("text_encoder")]
    tensors = [spec for manifest in encoders for spec in (*manifest.inputs.values(), *manifest.outputs.values())]
    return sum(math.prod(resolve(spec.dims, {"B": rows})) * getattr(torch, spec.dtype).itemsize for spec in tensors)


def weight_bytes(manifest: Manifest) -> int:
    """Of the files that hold them, or, for a plan made of the checkpoint itself, of the checkpoint's tensors."""
    return sum(file.bytes for role, file in manifest.files.items() if role != "position") or manifest.weight_bytes


def _unwanted(large: Manifest, rows: int, tokens: int) -> int:
    """Of a call on `tokens` tokens that wants the velocity alone: what a plan writes nevertheless."""
    if not find_backend(large.backend).is_tensorrt or not tokens:
        return 0
    lengths = {"B": rows, "M": tokens}
    sizes = {
        name: math.prod(resolve(spec.dims, lengths)) * getattr(torch, spec.dtype).itemsize
        for name, spec in large.outputs.items()
        if name != "velocity"
    }
    return sum(unread_bytes(sizes).values())
