"""How many pictures of a kind the engines take at once, told from their profiles before anything runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from hybridstitch.engines.full_lengths import full_lengths
from hybridstitch.engines.profiles import refusal
from hybridstitch.engines.store.manifest import Manifest
from hybridstitch.method.errors import HybridStitchError
from hybridstitch.method.geometry import Geometry
from hybridstitch.method.guidance import is_guided
from hybridstitch.method.parameters import SamplingParameters
from hybridstitch.method.size import Size

from .prompts import text_tokens


def batch_sizes(
    manifests: Mapping[str, Manifest], geometry: Geometry, size: Size, parameters: SamplingParameters, token_bucket: int
) -> tuple[int, ...]:
    """The batches that every engine takes, ascending; with adaptive switching at most one picture.

    Raises:
        HybridStitchError: none; the message names the engine, the length and what it takes.
    """
    decoder = manifests["vae_decoder"]
    most = 1 if parameters.adaptive is not None else max(profile.ranges["B"][2] for profile in decoder.profiles)
    problems = [_problem(manifests, geometry, size, parameters, token_bucket, batch) for batch in range(1, most + 1)]
    possible = tuple(batch for batch, problem in enumerate(problems, start=1) if problem is None)
    if not possible and problems[0] is not None:
        raise problems[0]
    return possible


def _problem(
    manifests: Mapping[str, Manifest],
    geometry: Geometry,
    size: Size,
    parameters: SamplingParameters,
    token_bucket: int,
    batch: int,
) -> HybridStitchError | None:
    """Why an engine does not take a batch; None: all do."""
    text = text_tokens(manifests)
    for component, manifest in manifests.items():
        for lengths in _calls(manifest, geometry, size, parameters, token_bucket, batch):
            lengths |= {"T": text} if "T" in lengths else {}
            if not any(profile.admits(lengths) for profile in manifest.profiles):
                blamed = "mask_ratio" if lengths.get("F") else "size" if is_guided(parameters.guidance) else "guidance"
                return HybridStitchError(refusal(component, manifest.profiles, lengths), parameter=blamed)
    return None


def _calls(
    manifest: Manifest, geometry: Geometry, size: Size, parameters: SamplingParameters, token_bucket: int, batch: int
) -> Iterator[dict[str, int]]:
    """The lengths of an engine's dynamic dimensions, in full calls and in masked ones."""
    lengths = full_lengths(manifest.inputs, geometry, size, batch)
    if not is_guided(parameters.guidance):
        lengths["B"] = batch
    yield lengths
    masked = parameters.masked_tokens(geometry.tokens(size), token_bucket)
    if "F" in lengths and masked:
        yield {**lengths, "M": masked, "F": lengths["M"] - masked}
