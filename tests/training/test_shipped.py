"""The pair as it is shipped in hybridstitch/pairs/demo."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3 import StableDiffusion3Pipeline

from training.ship import check_sizes
from training.text import world_words

PAIR = Path(__file__).parents[2] / "hybridstitch" / "pairs" / "demo"
SHARED = ("vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler")


def test_the_shipped_pair_keeps_to_its_size():
    assert check_sizes([PAIR / "large", PAIR / "small"]) <= 23_500_000


def test_both_models_share_every_part_but_the_transformer():
    for name in SHARED:
        large, small = (
            {path.name: path.read_bytes() for path in (PAIR / size / name).iterdir()} for size in ("large", "small")
        )
        assert large == small


def test_no_path_of_the_training_machine_is_shipped():
    for path in PAIR.rglob("*.json"):
        if path.name != "tokenizer.json":
            assert "name_or_path" not in path.read_text(), path


@pytest.mark.parametrize("size", ["large", "small"])
def test_the_shipped_models_draw_in_float32_by_the_default_call(size):
    pipeline = StableDiffusion3Pipeline.from_pretrained(PAIR / size, text_encoder_3=None, tokenizer_3=None)
    for part in (pipeline.transformer, pipeline.vae, pipeline.text_encoder, pipeline.text_encoder_2):
        assert part.dtype == torch.float32
    assert all(len(pipeline.tokenizer(word).input_ids) == 3 for word in world_words())
    generator = torch.Generator().manual_seed(0)
    output: Any = pipeline("a large red star on a navy background", num_inference_steps=2, generator=generator)
    image = output.images[0]
    assert image.size == (128, 128)
