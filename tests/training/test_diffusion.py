"""The transformers of the demo pair and their training."""

import pytest
import torch
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler

from training.diffusion import (
    SAMPLER_SHIFT,
    SMALL,
    T5_TOKENS,
    Denoising,
    TransformerSettings,
    block_matrices,
    build,
    draw_sigmas,
    gelu_by_sigmoid,
    merge_zero_tokens,
    positions,
    speed_up_gelu,
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
def test_the_faster_gelu_is_that_of_the_transformer():
    transformer = _shaken(SMALL)
    latents, text, pooled, timestep = _inputs()
    expected = transformer(latents, text, pooled, timestep, return_dict=False)[0]
    speed_up_gelu(transformer)
    replaced = [module for module in transformer.modules() if getattr(module, "gelu", None) is gelu_by_sigmoid]
    assert len(replaced) == 2 * SMALL.layers - 1  # the last block has none for the text
    found = transformer(latents, text, pooled, timestep, return_dict=False)[0]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_what_is_trained_is_what_diffusers_runs():
    transformer = _shaken(SMALL)
    latents, text, pooled, timestep = _inputs()
    expected = transformer(latents, text, pooled, timestep, return_dict=False)[0]
    velocity, _ = Denoising(transformer).predict(latents, text, pooled, timestep, positions(transformer, 128))
    torch.testing.assert_close(velocity, expected, rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_a_token_of_a_small_picture_has_the_place_that_it_covers_in_a_large_one():
    transformer = build(SMALL)
    small, large = (positions(transformer, picture) for picture in (64, 128))
    assert small.shape == (1, 64, transformer.inner_dim)
    torch.testing.assert_close(small[0, 0], large[0, [0, 1, 16, 17]].mean(0))


@torch.no_grad()
def test_small_pictures_are_drawn_with_the_positions_that_they_were_trained_with():
    transformer = _shaken(SMALL)
    latents, text, pooled, timestep = _inputs(16)
    trained, _ = Denoising(transformer).predict(latents, text, pooled, timestep, positions(transformer, 64))
    cropped = transformer(latents, text, pooled, timestep, return_dict=False)[0]
    with spread_positions(transformer, 64):
        drawn = transformer(latents, text, pooled, timestep, return_dict=False)[0]
    torch.testing.assert_close(drawn, trained, rtol=1e-5, atol=1e-6)
    assert torch.equal(transformer(latents, text, pooled, timestep, return_dict=False)[0], cropped)


@torch.no_grad()
def test_the_loss_is_the_distance_to_noise_less_picture():
    """A new transformer says zero, so the error is the square of the velocity itself; the head is made to say zero of
    a geometry that is 2 everywhere, which a smooth L1 loss calls 1.5."""
    transformer = build(TransformerSettings(layers=2, heads=2))
    latents, text, pooled, _ = _inputs(16)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(1))
    table, geometry = positions(transformer, 64), torch.full((2, 64, 16), 2.0)
    denoising = Denoising(transformer)
    for parameter in denoising.head.parameters():
        parameter.zero_()
    error, told = denoising(latents, noise, torch.tensor([0.3, 0.9]), text, pooled, table, geometry)
    torch.testing.assert_close(error, (noise - latents).square().mean((1, 2, 3)))
    assert float(told) == 1.5


def test_muon_gets_the_matrices_of_attention_and_feed_forward():
    transformer = build(TransformerSettings(layers=2, heads=2))
    chosen = {id(matrix) for matrix in block_matrices(transformer)}
    names = {name for name, weight in transformer.named_parameters() if id(weight) in chosen}
    assert {"transformer_blocks.0.attn.to_q.weight", "transformer_blocks.1.ff.net.2.weight"} <= names
    assert not any("norm" in name or "embed" in name or "proj_out" in name for name in names)


@torch.no_grad()
def test_a_new_transformer_predicts_zero():
    transformer = build(TransformerSettings(layers=2, heads=2))
    latents, text, pooled, timestep = _inputs(16)
    assert not transformer(latents, text, pooled, timestep, return_dict=False)[0].any()


def test_noise_levels_lie_between_picture_and_noise_and_the_shift_raises_them():
    plain, shifted = (draw_sigmas(1000, shift, 0.0, torch.Generator().manual_seed(0)) for shift in (1.0, 3.0))
    assert float(plain.min()) > 0
    assert float(shifted.max()) < 1
    assert float(shifted.mean()) > float(plain.mean()) + 0.1


def test_a_share_of_the_noise_levels_lies_as_the_steps_of_the_sampler_do():
    scheduler = FlowMatchEulerDiscreteScheduler(shift=SAMPLER_SHIFT)
    scheduler.set_timesteps(1000)
    steps = torch.as_tensor(scheduler.sigmas)[:-1]
    stepped = draw_sigmas(100_000, 1.0, 1.0, torch.Generator().manual_seed(0))
    quarter, usual = (draw_sigmas(100_000, 1.0, share, torch.Generator().manual_seed(0)) for share in (0.25, 0.0))
    for level in (0.5, 0.9, 0.95, 0.99):
        share = float((steps > level).float().mean())
        assert float((stepped > level).float().mean()) == pytest.approx(share, abs=0.01)
        mixed = 0.25 * share + 0.75 * float((usual > level).float().mean())
        assert float((quarter > level).float().mean()) == pytest.approx(mixed, abs=0.01)
