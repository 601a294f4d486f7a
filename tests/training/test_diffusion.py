"""The transformers of the demo pair and their training."""

import torch

from training.diffusion import (
    SMALL,
    T5_TOKENS,
    TransformerSettings,
    build,
    draw_sigmas,
    merge_zero_tokens,
    spread_positions,
)
from training.text import FEATURES, TextSettings


def _inputs(side: int = 32) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(2, 4, side, side, generator=generator)
    text = torch.randn(2, 24, FEATURES, generator=generator)
    pooled = torch.randn(2, TextSettings().pooled, generator=generator)
    return latents, text, pooled, torch.tensor([500.0, 20.0])


def _shaken(settings: TransformerSettings):
    """A transformer whose blocks do something, unlike at the start of training."""
    torch.manual_seed(0)
    transformer = build(settings).eval()
    with torch.no_grad():
        for weight in transformer.parameters():
            weight += 0.05 * torch.randn_like(weight)
    return transformer


@torch.no_grad()
def test_one_merged_zero_token_is_the_256_of_the_pipeline():
    transformer = _shaken(SMALL)
    latents, text, pooled, timestep = _inputs()
    padded = torch.cat([text, torch.zeros(2, T5_TOKENS, FEATURES)], dim=1)
    expected = transformer(latents, padded, pooled, timestep, return_dict=False)[0]
    merge_zero_tokens(transformer)
    merged = torch.cat([text, torch.zeros(2, 1, FEATURES)], dim=1)
    torch.testing.assert_close(
        transformer(latents, merged, pooled, timestep, return_dict=False)[0], expected, rtol=1e-4, atol=1e-5
    )


@torch.no_grad()
def test_spread_positions_change_nothing_at_the_full_size():
    transformer = _shaken(SMALL)
    latents, text, pooled, timestep = _inputs()
    expected = transformer(latents, text, pooled, timestep, return_dict=False)[0]
    spread_positions(transformer, 128)
    assert torch.equal(transformer(latents, text, pooled, timestep, return_dict=False)[0], expected)


@torch.no_grad()
def test_a_new_transformer_predicts_zero():
    transformer = build(TransformerSettings(layers=2, heads=2))
    latents, text, pooled, timestep = _inputs(16)
    assert not transformer(latents, text, pooled, timestep, return_dict=False)[0].any()


def test_noise_levels_lie_between_picture_and_noise_and_the_shift_raises_them():
    plain, shifted = (draw_sigmas(1000, shift, torch.Generator().manual_seed(0)) for shift in (1.0, 3.0))
    assert float(plain.min()) > 0
    assert float(shifted.max()) < 1
    assert float(shifted.mean()) > float(plain.mean()) + 0.1
