"""A checkpoint folder in diffusers' layout: what it says of itself, and the refusal of what is no SD3."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hybridstitch.method.errors import HybridStitchError

# Component -> the class that model_index.json must name for it. text_encoder_3 may be left out, as diffusers allows.
_CLASSES = {
    "transformer": "SD3Transformer2DModel",
    "vae": "AutoencoderKL",
    "text_encoder": "CLIPTextModelWithProjection",
    "text_encoder_2": "CLIPTextModelWithProjection",
    "text_encoder_3": "T5EncoderModel",
    "scheduler": "FlowMatchEulerDiscreteScheduler",
}
_FAMILY = "StableDiffusion3"


def check_checkpoint(folder: Path) -> None:
    """Make sure that `folder` is a Stable Diffusion 3 checkpoint whose every part is of a kind that we export.

    Raises:
        HybridStitchError: it is not; the message says what it is instead.
    """
    if not folder.is_dir():
        raise HybridStitchError(f"checkpoint {folder} is not a folder")
    if not (folder / "model_index.json").is_file():
        raise HybridStitchError(_what_it_is(folder))
    index = read_json(folder / "model_index.json")
    pipeline = str(index.get("_class_name"))
    if not pipeline.startswith(_FAMILY):
        raise HybridStitchError(f"checkpoint {folder} is a {pipeline}, not a {_FAMILY}Pipeline")
    for name, wanted in _CLASSES.items():
        given = _class_of(index, name)
        if given is None and name == "text_encoder_3":
            continue
        if given != wanted:
            raise HybridStitchError(f"checkpoint {folder}: {name} is {given or 'missing'}, not {wanted}")
    config = read_config(folder, "transformer")
    if config.get("_class_name") != _CLASSES["transformer"]:
        raise HybridStitchError(
            f"checkpoint {folder}: transformer/config.json says {config.get('_class_name')}, "
            f"not {_CLASSES['transformer']}"
        )


def has_component(folder: Path, name: str) -> bool:
    """Whether model_index.json names this component (the T5 encoder may be left out)."""
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
    layout = "a folder in diffusers' layout (with model_index.json) is needed"
    if (folder / "config.json").is_file():
        name = read_json(folder / "config.json").get("_class_name", "a model")
        where = f"; {folder.parent} may be it" if (folder.parent / "model_index.json").is_file() else ""
        return f"checkpoint {folder} is one component ({name}), not a pipeline: {layout}{where}"
    singles = sorted(path.name for path in folder.iterdir() if path.suffix in {".safetensors", ".ckpt"})
    if singles:
        return (
            f"checkpoint {folder} holds the single file {singles[0]}: {layout}; "
            "convert it with StableDiffusion3Pipeline.from_single_file(...).save_pretrained(...)"
        )
    return f"checkpoint {folder} is not a Stable Diffusion 3 checkpoint: {layout}"
