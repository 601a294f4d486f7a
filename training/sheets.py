"""Measure and show a trained pair: `python -m training.sheets`.

Draws 16 captions that were never trained on by both models into docs/images/, beside 16 true renders, and prints as
JSON how often each model draws the right shape, colour, texture, size and place at each guidance scale, how often the
judge of that is right on true pictures, what a call of each model costs, and how well the VAE reconstructs.
"""

import argparse
import json
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
from diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3 import StableDiffusion3Pipeline
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from hybridstitch.evaluation.speed.machine import circumstances
from hybridstitch.evaluation.world.judge import JUDGE, accuracy_on_true_pictures, attribute_accuracy, load_judge
from hybridstitch.evaluation.world.scenes import Scene, caption, render, sample_scene
from training.diffusion import merge_zero_tokens
from training.ship import GUIDANCE, draw
from training.text import FEATURES, TextSettings
from training.vae import reconstruction_quality

ROOT = Path(__file__).parent.parent
FIRST_SEED = 1000  # of the held-out scenes drawn; training looks at others
SIZES = ("large", "small")


def load(folder: Path) -> StableDiffusion3Pipeline:
    """A shipped model; there is no T5."""
    return StableDiffusion3Pipeline.from_pretrained(folder, text_encoder_3=None, tokenizer_3=None)


def held_out_scenes(count: int) -> list[Scene]:
    return [sample_scene(FIRST_SEED + index, held_out_only=True) for index in range(count)]


def captioned_sheet(images: Sequence[Image.Image], captions: Sequence[str], columns: int = 4) -> Image.Image:
    """Pictures at twice their size, each over its caption."""
    side, band, gap = 2 * images[0].width, 48, 8
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * (side + gap) + gap, rows * (side + band + gap) + gap), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=13)
    for index, (image, text) in enumerate(zip(images, captions, strict=True)):
        left = gap + index % columns * (side + gap)
        top = gap + index // columns * (side + band + gap)
        sheet.paste(image.resize((side, side), Image.Resampling.LANCZOS), (left, top))
        pen.multiline_text((left, top + side + 2), textwrap.fill(text, 42), fill="black", font=font, spacing=1)
    return sheet


@torch.no_grad()
def cost_a_call(transformer: SD3Transformer2DModel, repeats: int = 60) -> dict[str, float]:
    """A call at batch 2 on 256 image and 25 text tokens: billions of floating-point operations, and milliseconds on
    two threads and on one; of many calls the shortest, which others disturbed least."""
    latents, timestep = torch.randn(2, 4, 32, 32), torch.tensor([500.0, 500.0])
    text, pooled = torch.randn(2, 25, FEATURES), torch.randn(2, TextSettings().pooled)

    def call() -> float:
        start = time.perf_counter()
        transformer(latents, text, pooled, timestep, return_dict=False)
        return 1000 * (time.perf_counter() - start)

    with FlopCounterMode(display=False) as counter:
        call()
    costs = {"operations_g": counter.get_total_flops() / 1e9}
    threads = torch.get_num_threads()
    for used in (2, 1):
        torch.set_num_threads(used)
        costs[f"ms_{used}_threads"] = min(call() for _ in range(repeats))
    torch.set_num_threads(threads)
    return costs


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training.sheets", description=__doc__)
    parser.add_argument("--pair", type=Path, default=ROOT / "hybridstitch" / "pairs" / "demo")
    parser.add_argument("--judge", type=Path, default=JUDGE)
    parser.add_argument("--images", type=Path, default=ROOT / "docs" / "images")
    parser.add_argument("--count", type=int, default=200, help="pictures judged per model; the first 16 are shown")
    parser.add_argument("--steps", type=int, default=28)
    parser.add_argument("--guidance", type=float, nargs="+", default=[GUIDANCE], help="the first one's are shown")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there too")
    arguments = parser.parse_args()
    judge = load_judge(arguments.judge)
    scenes = held_out_scenes(arguments.count)
    captions = [caption(scene) for scene in scenes]
    arguments.images.mkdir(parents=True, exist_ok=True)
    captioned_sheet(_unstack(render(scenes[:16])), captions[:16]).save(arguments.images / "world.png", optimize=True)
    report: dict[str, Any] = {
        **circumstances(["python", "-m", "training.sheets", *sys.argv[1:]]),
        "count": arguments.count,
        "steps": arguments.steps,
        "judge_on_true_pictures": _rounded(accuracy_on_true_pictures(judge)),
    }
    costs = {}
    for size in SIZES:
        pipeline = load(arguments.pair / size)
        merge_zero_tokens(pipeline.transformer)  # the same function as the default call, in half the time
        for guidance in arguments.guidance:
            images: list[Image.Image] = []
            for first in range(0, len(captions), 16):
                some = captions[first : first + 16]
                images += draw(pipeline, some, 128, arguments.steps, first, 1, guidance)
            if guidance == arguments.guidance[0]:
                shown = captioned_sheet(images[:16], captions[:16])
                shown.save(arguments.images / f"{size}-16-captions.png", optimize=True)
            accuracy = attribute_accuracy(judge, _stack(images), scenes)
            report.setdefault("right", {}).setdefault(size, {})[f"{guidance:g}"] = _rounded(accuracy)
        costs[size] = cost_a_call(pipeline.transformer)
        if size == "large":
            for noise in (0.0, 0.4):
                report[f"vae_psnr_db_at_noise_{noise}"] = round(reconstruction_quality(pipeline.vae, noise=noise), 2)
    report["cost_a_call"] = {size: _rounded(cost) for size, cost in costs.items()}
    ratios = {name: cost / costs["small"][name] for name, cost in costs["large"].items()}
    report["cost_ratio"] = _rounded(ratios)
    text = json.dumps(report, indent=2)
    print(text)
    if arguments.json is not None:
        arguments.json.write_text(text + "\n")


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in values.items()}


def _stack(images: Sequence[Image.Image]) -> Tensor:
    """[B, 3, H, W], values 0 to 1."""
    arrays = [torch.from_numpy(np.asarray(image).copy()) for image in images]
    return torch.stack(arrays).permute(0, 3, 1, 2).float() / 255


def _unstack(pictures: Tensor) -> list[Image.Image]:
    return [Image.fromarray((255 * picture.permute(1, 2, 0)).round().byte().numpy()) for picture in pictures]


if __name__ == "__main__":
    main()
