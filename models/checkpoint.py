"""A checkpoint folder in diffusers' layout: what it says of itself, whichever family of models it holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.pairs.lookalikes import CONVERT, LAYOUT, MERGE, describe_file, holds_lora

_LORA_FILES = {"pytorch_lora_weights.safetensors", "adapter_model.safetensors"}  # of diffusers, and of peft


def check_folder(folder: Path) -> None:
    """Make sure that a checkpoint is a folder.

    Raises:
        HybridStitchError: it is not; the message says what it is instead.
    """
    if folder.is_file():
        raise HybridStitchError(f"checkpoint {folder} {describe_file(folder)}")
    if not folder.is_dir():
        raise HybridStitchError(f"checkpoint {folder} is not a folder")


def has_component(folder: Path, name: str) -> bool:
    """Whether model_index.json names this component (the T5 encoder may be left out).

    Raises:
        HybridStitchError: it is missing or no JSON object.
    """
    return class_of(read_json(folder / "model_index.json"), name) is not None


def read_config(folder: Path, name: str) -> dict[str, Any]:
    """The config of a component: config.json, or scheduler_config.json.

    Raises:
        HybridStitchError: it is missing or no JSON object.
    """
    file = "scheduler_config.json" if name == "scheduler" else "config.json"
    return read_json(folder / name / file)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        HybridStitchError: the file is missing, cannot be read, or is no JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise HybridStitchError(f"{path} cannot be read: {error.strerror}") from None
    except ValueError:
        raise HybridStitchError(f"{path} is not JSON; fetch it again") from None
    if not isinstance(content, dict):
        raise HybridStitchError(f"{path} is not a JSON object; fetch it again")
    return content


def class_of(index: dict[str, Any], name: str) -> str | None:
    """The class that a model_index.json names for a component; None where it names none."""
    entry = index.get(name)
    return entry[1] if isinstance(entry, list) and len(entry) == 2 else None


def what_it_is(folder: Path, family: str) -> str:
    """One line on a folder without model_index.json. family: the kind of models that was looked for."""
    if (folder / "config.json").is_file():
        name = read_json(folder / "config.json").get("_class_name", "a model")
        where = f"; {folder.parent} may be it" if (folder.parent / "model_index.json").is_file() else ""
        return f"checkpoint {folder} is one component ({name}), not a pipeline: {LAYOUT}{where}"
    singles = sorted(path.name for path in folder.iterdir() if path.suffix in {".safetensors", ".ckpt"})
    if lora := [name for name in singles if name in _LORA_FILES or holds_lora(folder / name)]:
        return f"checkpoint {folder} is a LoRA ({lora[0]}), not a model: {MERGE}"
    if singles:
        return f"checkpoint {folder} holds the single file {singles[0]}: {LAYOUT}; {CONVERT}"
    return f"checkpoint {folder} is not a {family} checkpoint: {LAYOUT}"
