"""What somebody named as a checkpoint that is none: a file, or a LoRA; and what helps."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open

LAYOUT = "a folder in diffusers' layout (with model_index.json) is needed"
CONVERT = "convert it with StableDiffusion3Pipeline.from_single_file(...).save_pretrained(...)"
MERGE = "draw with the model that it belongs to, or merge it: pipe.load_lora_weights(...), pipe.fuse_lora(), " + (
    "pipe.unload_lora_weights(), pipe.save_pretrained(...)"
)


def holds_lora(file: Path) -> bool:
    """Whether a file of weights is a LoRA, told from its tensors' names."""
    try:
        with safe_open(file, framework="pt") as content:
            return any("lora_" in name for name in content.keys())  # noqa: SIM118 - it is no dict
    except (OSError, SafetensorError):
        return False


def describe_file(file: Path) -> str:
    """What a file is that stands where a checkpoint's folder is wanted, and what helps."""
    if file.suffix == ".safetensors" and holds_lora(file):
        return f"is a LoRA, not a model: {MERGE}"
    if file.suffix in {".safetensors", ".ckpt"}:
        return f"is a single file of weights: {LAYOUT}; {CONVERT}"
    if file.suffix == ".gguf":
        return f"is a GGUF file, whose weights are quantized: {LAYOUT}, from before it was quantized"
    if file.name in {"model_index.json", "config.json"}:
        return f"is a file: {LAYOUT}; name the checkpoint's folder"
    return f"is a file: {LAYOUT}"
