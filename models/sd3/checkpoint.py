"""What a Stable Diffusion 3 checkpoint holds, and the refusal of what is none."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from hybridstitch.method.errors import HybridStitchError

from ..checkpoint import check_folder, class_of, has_component, read_config, read_json, what_it_is

NAME: str = "Stable Diffusion 3"
PIPELINE: str = "StableDiffusion3"
"""How diffusers' classes of its pipelines begin."""

TRANSFORMER: str = "SD3Transformer2DModel"

# Component -> the class that model_index.json must name for it. text_encoder_3 may be left out, as diffusers allows.
_CLASSES = {
    "transformer": TRANSFORMER,
    "vae": "AutoencoderKL",
    "text_encoder": "CLIPTextModelWithProjection",
    "text_encoder_2": "CLIPTextModelWithProjection",
    "text_encoder_3": "T5EncoderModel",
    "scheduler": "FlowMatchEulerDiscreteScheduler",
}
TOKENIZERS = ("tokenizer", "tokenizer_2", "tokenizer_3")


def check_checkpoint(folder: Path) -> None:
    """Make sure that `folder` is a Stable Diffusion 3 checkpoint whose every part is of a kind that we export.

    Raises:
        HybridStitchError: it is not; the message says what it is instead.
    """
    check_folder(folder)
    if not (folder / "model_index.json").is_file():
        raise HybridStitchError(what_it_is(folder, NAME))
    _check_index(folder, lacking=("text_encoder_3",))
    _check_transformer(folder)
    with_t5 = has_component(folder, "text_encoder_3")
    if with_t5 and _lacks_weights(folder / "text_encoder_3"):
        raise HybridStitchError(
            f"checkpoint {folder} lacks the T5 encoder that its model_index.json names: fetch its folder "
            'text_encoder_3, or write "text_encoder_3": [null, null] there, and pictures are drawn without T5'
        )
    for name in (*_CLASSES, *TOKENIZERS):
        if (with_t5 or not name.endswith("_3")) and not (folder / name).is_dir():
            raise HybridStitchError(f"checkpoint {folder} lacks the folder {name}; fetch it")


def check_small_checkpoint(folder: Path) -> None:
    """Make sure that `folder` holds a Stable Diffusion 3 transformer: nothing else is read of a pair's small model.

    It may lack model_index.json and every other component; what its index names must be of a kind that we know.

    Raises:
        HybridStitchError: it does not; the message says what it is instead.
    """
    check_folder(folder)
    if (folder / "model_index.json").is_file():
        _check_index(folder, lacking=set(_CLASSES) - {"transformer"})
    elif not (folder / "transformer" / "config.json").is_file():
        raise HybridStitchError(what_it_is(folder, NAME))
    _check_transformer(folder)


def _check_index(folder: Path, lacking: Collection[str]) -> None:
    """lacking: the components that it need not name."""
    index = read_json(folder / "model_index.json")
    pipeline = str(index.get("_class_name"))
    if not pipeline.startswith(PIPELINE):
        raise HybridStitchError(f"checkpoint {folder} is a {pipeline}, not a {PIPELINE}Pipeline")
    for name, expected in _CLASSES.items():
        given = class_of(index, name)
        if given is None and name in lacking:
            continue
        if given != expected:
            raise HybridStitchError(f"checkpoint {folder}: {name} is {given or 'missing'}, not {expected}")


def _check_transformer(folder: Path) -> None:
    config = read_config(folder, "transformer")
    if config.get("_class_name") != TRANSFORMER:
        raise HybridStitchError(
            f"checkpoint {folder}: transformer/config.json says {config.get('_class_name')}, not {TRANSFORMER}"
        )


def _lacks_weights(folder: Path) -> bool:
    return not any(
        path.suffix in {".safetensors", ".bin"} or ".safetensors.index" in path.name for path in folder.glob("*")
    )
