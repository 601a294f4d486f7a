"""Weights in a quantized format: refused by its name, because their bytes read as floats draw garbage."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from hybridstitch.method.errors import HybridStitchError

from .checkpoint import read_json
from .dtypes import BY_TORCH
from .weights import StoredTensor

_EIGHT, _FOUR = "bitsandbytes 8 bit", "bitsandbytes 4 bit"
_NAMES = {"gptq": "GPTQ", "awq": "AWQ", "fp8": "FP8", "gguf": "GGUF"}
# What only one format stores beside or instead of a weight, by the end of its name or a part of it.
_MARKS = (
    (".SCB", _EIGHT),
    (".quant_state.bitsandbytes__", _FOUR),
    (".absmax", _FOUR),
    (".g_idx", "GPTQ"),
    (".qweight", "GPTQ or AWQ"),
    (".weight._data", "quanto"),
    (".weight_scale", "scaled 8 bit"),
    (".scale_weight", "scaled 8 bit"),
)


def check_plain_floats(names: Collection[str], stored: Mapping[str, StoredTensor], folder: Path) -> None:
    """Refuse a model whose weights are no plain floats.

    A config that still tells of bitsandbytes passes where every weight is a float and nothing of the format is stored:
    that is what diffusers' `dequantize()` leaves.

    Args:
        names: the weights that are read, by their names in `stored`.

    Raises:
        HybridStitchError: quantized weights, or whole numbers; the message names the format and what helps.
    """
    told, seen = _format_of_config(folder), _format_of_tensors(stored)
    plain = all(name in stored and stored[name].dtype.is_floating_point for name in names)
    if told and not (told in (_EIGHT, _FOUR) and plain and not seen):
        raise _refusal(folder, told)
    if seen and not plain:
        raise _refusal(folder, seen)
    for name in names:
        if name in stored and not stored[name].dtype.is_floating_point:
            kind = BY_TORCH[stored[name].dtype].safetensors
            raise _refusal(folder, f"a quantized format that is not known (tensor {name} is {kind})")


def is_quantized(folder: Path, stored: Mapping[str, StoredTensor]) -> bool:
    """Whether a model's config.json, or the names of its tensors, tell of a quantized format."""
    return (_format_of_config(folder) or _format_of_tensors(stored)) is not None


def _format_of_config(folder: Path) -> str | None:
    config: Any = read_json(folder / "config.json").get("quantization_config")
    if not config:
        return None
    if not isinstance(config, dict):
        return "a quantized format that its config.json does not name"
    if config.get("load_in_8bit") or config.get("_load_in_8bit"):
        return _EIGHT
    if config.get("load_in_4bit") or config.get("_load_in_4bit"):
        return _FOUR
    method = str(config.get("quant_method") or "a quantized format that its config.json does not name")
    return _NAMES.get(method, method)


def _format_of_tensors(stored: Mapping[str, StoredTensor]) -> str | None:
    return next((kind for mark, kind in _MARKS if any(mark in name for name in stored)), None)


def _refusal(folder: Path, kind: str) -> HybridStitchError:
    again = ", or load this one, call its dequantize() and save it again" if kind in (_EIGHT, _FOUR) else ""
    return HybridStitchError(
        f"{folder} holds weights in {kind}; float32, float16 and bfloat16 are supported: "
        f"use the checkpoint from before it was quantized{again}"
    )
