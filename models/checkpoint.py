"""A checkpoint folder in diffusers' layout: what it says of itself, and the refusal of what is no SD3."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.pairs.lookalikes import CONVERT, LAYOUT, MERGE, describe_file, holds_lora

# Component -> the class that model_index.json must name for it. text_encoder_3 may be left out, as diffusers allows.
_CLASSES = {
    "transformer": "SD3Transformer2DModel",
    "vae": "AutoencoderKL",
    "text_encoder": "CLIPTextModelWithProjection",
    "text_encoder_2": "CLIPTextModelWithProjection",
    "text_encoder_3": "T5EncoderModel",
    "scheduler": "FlowMatchEulerDiscreteScheduler",
}
_TOKENIZERS = ("tokenizer", "tokenizer_2", "tokenizer_3")
_FAMILY = "StableDiffusion3"
_LORA_FILES = {"pytorch_lora_weights.safetensors", "adapter_model.safetensors"}  # of diffusers, and of peft


def check_checkpoint(folder: Path) -> None:
    """Make sure that `folder` is a Stable Diffusion 3 checkpoint whose every part is of a kind that we export.

    Raises:
        HybridStitchError: it is not; the message says what it is instead.
    """
    _check_folder(folder)
    if not (folder / "model_index.json").is_file():
        raise HybridStitchError(_what_it_is(folder))
    _check_index(folder, lacking=("text_encoder_3",))
    _check_transformer(folder)
    with_t5 = has_component(folder, "text_encoder_3")
    if with_t5 and _lacks_weights(folder / "text_encoder_3"):
        raise HybridStitchError(
            f"checkpoint {folder} lacks the T5 encoder that its model_index.json names: fetch its folder "
            'text_encoder_3, or write "text_encoder_3": [null, null] there, and pictures are drawn without T5'
        )
    for name in (*_CLASSES, *_TOKENIZERS):
        if (with_t5 or not name.endswith("_3")) and not (folder / name).is_dir():
            raise HybridStitchError(f"checkpoint {folder} lacks the folder {name}; fetch it")


def check_small_checkpoint(folder: Path) -> None:
    """Make sure that `folder` holds a Stable Diffusion 3 transformer: nothing else is read of a pair's small model.

    It may lack model_index.json and every other component; what its index names must be of a kind that we know.

    Raises:
        HybridStitchError: it does not; the message says what it is instead.
    """
    _check_folder(folder)
    if (folder / "model_index.json").is_file():
        _check_index(folder, lacking=set(_CLASSES) - {"transformer"})
    elif not (folder / "transformer" / "config.json").is_file():
        raise HybridStitchError(_what_it_is(folder))
    _check_transformer(folder)


def _check_folder(folder: Path) -> None:
    if folder.is_file():
        raise HybridStitchError(f"checkpoint {folder} {describe_file(folder)}")
    if not folder.is_dir():
        raise HybridStitchError(f"checkpoint {folder} is not a folder")


def _check_index(folder: Path, lacking: Collection[str]) -> None:
    """lacking: the components that it need not name."""
    index = read_json(folder / "model_index.json")
    pipeline = str(index.get("_class_name"))
    if not pipeline.startswith(_FAMILY):
        raise HybridStitchError(f"checkpoint {folder} is a {pipeline}, not a {_FAMILY}Pipeline")
    for name, wanted in _CLASSES.items():
        given = _class_of(index, name)
        if given is None and name in lacking:
            continue
        if given != wanted:
            raise HybridStitchError(f"checkpoint {folder}: {name} is {given or 'missing'}, not {wanted}")


def _check_transformer(folder: Path) -> None:
    config = read_config(folder, "transformer")
    if config.get("_class_name") != _CLASSES["transformer"]:
        raise HybridStitchError(
            f"checkpoint {folder}: transformer/config.json says {config.get('_class_name')}, "
            f"not {_CLASSES['transformer']}"
        )


def has_component(folder: Path, name: str) -> bool:
    """Whether model_index.json names this component (the T5 encoder may be left out).

    Raises:
        HybridStitchError: it is missing or no JSON object.
    """
    return _class_of(read_json(folder / "model_index.json"), name) is not None


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


def _class_of(index: dict[str, Any], name: str) -> str | None:
    entry = index.get(name)
    return entry[1] if isinstance(entry, list) and len(entry) == 2 else None


def _what_it_is(folder: Path) -> str:
    """One line on a folder without model_index.json."""
    if (folder / "config.json").is_file():
        name = read_json(folder / "config.json").get("_class_name", "a model")
        where = f"; {folder.parent} may be it" if (folder.parent / "model_index.json").is_file() else ""
        return f"checkpoint {folder} is one component ({name}), not a pipeline: {LAYOUT}{where}"
    singles = sorted(path.name for path in folder.iterdir() if path.suffix in {".safetensors", ".ckpt"})
    if lora := [name for name in singles if name in _LORA_FILES or holds_lora(folder / name)]:
        return f"checkpoint {folder} is a LoRA ({lora[0]}), not a model: {MERGE}"
    if singles:
        return f"checkpoint {folder} holds the single file {singles[0]}: {LAYOUT}; {CONVERT}"
    return f"checkpoint {folder} is not a Stable Diffusion 3 checkpoint: {LAYOUT}"


def _lacks_weights(folder: Path) -> bool:
    return not any(
        path.suffix in {".safetensors", ".bin"} or ".safetensors.index" in path.name for path in folder.glob("*")
    )
