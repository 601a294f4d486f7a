"""One model alone, through our engines, is StableDiffusion3Pipeline on the same checkpoint, with its own defaults."""

import numpy as np
import pytest
import torch
from diffusers import StableDiffusion3Pipeline

PROMPT = "a large striped red star left of a small plain white circle on a navy background"


@pytest.fixture(scope="module")
def diffusers(pipe):
    loaded = {}

    def get(role):
        if role not in loaded:
            loaded[role] = StableDiffusion3Pipeline.from_pretrained(
                pipe.recipe.checkpoint(role), text_encoder_3=None, tokenizer_3=None
            )
            loaded[role].set_progress_bar_config(disable=True)
        return loaded[role]

    return get


@pytest.mark.parametrize("role", ["large", "small"])
@pytest.mark.parametrize(
    ("size", "guidance", "negative"),
    [("128x128", 3.5, ""), ("160x96", 5.0, "a small green ring"), ("128x128", 1.0, "")],
)
def test_one_model_alone_draws_the_picture_of_diffusers(pipe, diffusers, role, size, guidance, negative):
    ours = pipe(PROMPT, negative_prompt=negative, seed=11, steps=4, guidance=guidance, method=role, size=size)
    width, height = (int(side) for side in size.split("x"))
    shared = {"height": height, "width": width, "num_inference_steps": 4, "guidance_scale": guidance}
    latents = diffusers(role)(
        PROMPT,
        negative_prompt=negative,
        generator=torch.Generator().manual_seed(11),
        output_type="latent",
        **shared,
    ).images
    torch.testing.assert_close(ours.pictures[0].latents, latents[0], atol=1e-3, rtol=0)

    picture = diffusers(role)(
        PROMPT, negative_prompt=negative, generator=torch.Generator().manual_seed(11), **shared
    ).images[0]
    difference = np.abs(np.asarray(ours.images[0], dtype=int) - np.asarray(picture, dtype=int))
    assert difference.max() <= 1
