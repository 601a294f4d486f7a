"""From trained parts to two diffusers folders that StableDiffusion3Pipeline.from_pretrained loads unchanged."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
from diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3 import StableDiffusion3Pipeline
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from PIL import Image
from transformers import CLIPTokenizer

from training.diffusion import SAMPLER_SHIFT
from training.text import TextEncoders

GUIDANCE = 5.0
MOST_BYTES = 24_000_000  # of a pair
MOST_BYTES_A_FILE = 16_000_000


def pipeline_of(
    transformer: SD3Transformer2DModel, vae: AutoencoderKL, tokenizer: CLIPTokenizer, text: TextEncoders
) -> StableDiffusion3Pipeline:
    """The parts as a pipeline without a T5. Both text encoders share one tokenizer."""
    return StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=SAMPLER_SHIFT),
        vae=vae,
        text_encoder=text.first,
        tokenizer=tokenizer,
        text_encoder_2=text.second,
        tokenizer_2=tokenizer,
        text_encoder_3=None,  # pyright: ignore
        tokenizer_3=None,  # pyright: ignore
    )


def ship(
    folder: Path,
    transformer: SD3Transformer2DModel,
    vae: AutoencoderKL,
    text: TextEncoders,
    tokenizer: CLIPTokenizer,
    tokenizer_folder: Path,
) -> None:
    """Write one diffusers folder, weights in float16, configured to be read in float32."""
    shutil.rmtree(folder, ignore_errors=True)
    halves = TextEncoders(_half(text.first), _half(text.second))
    pipeline = pipeline_of(_half(transformer), _half(vae), tokenizer, halves)
    pipeline.save_pretrained(folder)
    for name in ("tokenizer", "tokenizer_2"):
        for legacy in ("vocab.json", "merges.txt"):
            shutil.copyfile(tokenizer_folder / legacy, folder / name / legacy)
    for name in ("text_encoder", "text_encoder_2"):
        _edit(folder / name / "config.json", dtype="float32")
    for path in folder.rglob("*.json"):
        _edit(path)


def _half(module):
    """A float16 copy of a model."""
    copy = type(module).from_config(module.config) if hasattr(module, "from_config") else type(module)(module.config)
    copy.load_state_dict(module.state_dict())
    return copy.half()


def _edit(path: Path, **changes: object) -> None:
    """Set keys of a JSON file, and drop the local path that diffusers and transformers remember."""
    content = json.loads(path.read_text())
    if isinstance(content, dict):
        content.pop("_name_or_path", None)
        content.pop("name_or_path", None)
        content.update(changes)
        path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def check_sizes(folders: Sequence[Path]) -> int:
    """Bytes of all files. Raises ValueError where they or one of them are too many to ship."""
    sizes = {path: path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file()}
    for path, size in sizes.items():
        if size > MOST_BYTES_A_FILE:
            raise ValueError(f"{path} has {size} bytes; at most {MOST_BYTES_A_FILE} are shipped in a file")
    if (total := sum(sizes.values())) > MOST_BYTES:
        raise ValueError(f"the pair has {total} bytes; at most {MOST_BYTES} are shipped")
    return total


@torch.no_grad()
def draw(
    pipeline: StableDiffusion3Pipeline,
    captions: Sequence[str],
    size: int = 128,
    steps: int = 28,
    seed: int = 0,
    zero_tokens: int = 256,
    guidance: float = GUIDANCE,
) -> list[Image.Image]:
    """One picture a caption; picture i starts from seed + i. `zero_tokens` is 256, the default of
    the pipeline, but 1 for a transformer whose zero tokens are merged."""
    pipeline.set_progress_bar_config(disable=True)
    generators = [torch.Generator().manual_seed(seed + index) for index in range(len(captions))]
    output = pipeline(
        list(captions),
        height=size,
        width=size,
        num_inference_steps=steps,
        guidance_scale=guidance,
        generator=generators,
        max_sequence_length=zero_tokens,
    )
    return output.images  # pyright: ignore


def contact_sheet(images: Sequence[Image.Image], columns: int) -> Image.Image:
    """Pictures of one size, row by row."""
    width, height = images[0].size
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * width, rows * height))
    for index, image in enumerate(images):
        sheet.paste(image, (index % columns * width, index // columns * height))
    return sheet
