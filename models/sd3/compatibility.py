"""Whether two checkpoints form a pair: one latent space, one text, one scheduler."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.method.sigmas import noise_levels

from ..checkpoint import has_component, read_config
from ..number_format import is_quantized
from ..scheduler import load_scheduler
from ..weights import StoredTensor, stored_tensors

# What must be equal, by component: the keys that decide, and how a person calls them.
_KEYS = {
    "transformer": {
        "patch_size": "patch size",
        "in_channels": "latent channels",
        "out_channels": "latent channels out",
        "joint_attention_dim": "text width",
        "pooled_projection_dim": "pooled text width",
    },
    "vae": {
        "latent_channels": "VAE latent channels",
        "block_out_channels": "VAE blocks",
        "scaling_factor": "VAE scaling factor",
        "shift_factor": "VAE shift factor",
    },
    "text_encoder": {"hidden_size": "width of text_encoder", "projection_dim": "pooled width of text_encoder"},
    "text_encoder_2": {"hidden_size": "width of text_encoder_2", "projection_dim": "pooled width of text_encoder_2"},
    "text_encoder_3": {"d_model": "width of text_encoder_3"},
}
_STEPS, _TOKENS = (1, 4, 28, 50), (256, 4096)  # at which two schedulers are compared
_SAMPLES = 1024  # values compared at the head, the middle and the tail of each tensor
_TOLERANCE = 0.02  # two dtypes of one weight differ less than this share of the tensor's largest value


def check_pair(large: Path, small: Path) -> None:
    """Make sure that the two checkpoints may be stitched. The small one may lack the parts that both share.

    Raises:
        HybridStitchError: they differ in what they must share; the message names it and both values.
    """
    for name, keys in _KEYS.items():
        if not (_has(large, name) and _has(small, name)):
            continue
        first, second = read_config(large, name), read_config(small, name)
        for key, called in keys.items():
            if first.get(key) != second.get(key):
                raise _differ(called, first.get(key), second.get(key))
    if _names_t5(small) and not _names_t5(large):
        raise _differ("T5 encoder", "no", "yes")
    if (small / "scheduler").is_dir():
        _check_scheduler(large, small)
    for name in ("vae", "text_encoder", "text_encoder_2", "text_encoder_3"):
        if _has(large, name) and _has(small, name):
            _check_same_weights(large / name, small / name)


def _has(checkpoint: Path, name: str) -> bool:
    return (checkpoint / name / "config.json").is_file()


def _names_t5(checkpoint: Path) -> bool:
    return (checkpoint / "model_index.json").is_file() and has_component(checkpoint, "text_encoder_3")


def _check_scheduler(large: Path, small: Path) -> None:
    """Two schedulers are one where they give the same noise levels, whatever their files write out."""
    first, second = (load_scheduler(folder / "scheduler") for folder in (large, small))
    for steps, tokens in product(_STEPS, _TOKENS):
        levels = [_levels(scheduler, steps, tokens) for scheduler in (first, second)]
        if levels[0] == levels[1]:
            continue
        for key in sorted(key for key in first.config if not key.startswith("_")):
            if first.config[key] != second.config.get(key):
                raise _differ(f"scheduler setting {key}", first.config[key], second.config.get(key))
        raise _differ("the first noise level", *(f"{level[0][0]:g}" if level else "none" for level in levels))


def _levels(scheduler: Any, steps: int, tokens: int) -> list[list[float]]:
    """A scheduler's noise levels; none where it has none for so many steps, as with shift_terminal for a single one."""
    try:
        return noise_levels(scheduler, steps, tokens, torch.device("cpu")).tolist()
    except HybridStitchError:
        return []


def _check_same_weights(large: Path, small: Path) -> None:
    """Compare samples of every tensor, so that copies in another dtype count as the same."""
    try:
        first, second = stored_tensors(large), stored_tensors(small)
    except HybridStitchError:
        if _weightless(small):
            return  # the small checkpoint was fetched without what both share
        raise
    if is_quantized(large, first) or is_quantized(small, second):
        return  # the large one's is refused where it is read; nothing reads the small one's
    for name in sorted({*first, *second}):
        if name.endswith("position_ids"):
            continue  # a constant that some versions store
        if name not in first or name not in second or first[name].shape != second[name].shape:
            raise HybridStitchError(f"{large} and {small} are not the same model: tensor {name} is not in both")
        if not _alike(first[name], second[name]):
            raise HybridStitchError(f"{large} and {small} are not the same model: the weights of {name} differ")


def _weightless(folder: Path) -> bool:
    return not any(folder.glob("*.safetensors*")) and not any(folder.glob("*.bin"))


def _alike(first: StoredTensor, second: StoredTensor) -> bool:
    if first.file.samefile(second.file) and first.offset == second.offset:
        return True
    one, other = _sample(first), _sample(second)
    return bool(torch.allclose(one, other, rtol=0, atol=_TOLERANCE * max(float(one.abs().max()), 1e-6)))


def _sample(tensor: StoredTensor) -> Tensor:
    """Up to 3 * _SAMPLES values in float32, or one zero for an empty tensor."""
    count = tensor.length // tensor.dtype.itemsize
    starts = sorted({0, max(0, count // 2 - _SAMPLES // 2), max(0, count - _SAMPLES)})
    parts = [tensor.read_values(start, min(_SAMPLES, count - start)).float() for start in starts]
    return torch.cat(parts) if count else torch.zeros(1)


def _differ(what: str, large: Any, small: Any) -> HybridStitchError:
    return HybridStitchError(f"the two models do not form a pair: {what} is {large} in the large, {small} in the small")
