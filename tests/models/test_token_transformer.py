"""The token-space transformer is diffusers' transformer, whichever of its tokens are computed."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from hybridstitch.models.sd3.token_transformer import (
    TokenTransformer,
    _attend,
    _key_bias,
    _zero_token_biases,
    position_table,
)

from .architectures import ARCHITECTURES, NARROW, random_inputs, random_transformer, run_diffusers, run_tokens


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(("rows", "columns"), [(4, 4), (3, 5), (5, 2)])
def test_all_tokens_give_what_diffusers_gives(architecture, rows, columns):
    transformer = random_transformer(**ARCHITECTURES[architecture])
    inputs = random_inputs(transformer, rows, columns)
    outputs = run_tokens(TokenTransformer(transformer, keeps_keys=True), inputs)
    assert_close(outputs["velocity"], run_diffusers(transformer, inputs), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_masked_call_with_keys_of_the_same_step_gives_the_rows_of_the_full_call(architecture):
    transformer = random_transformer(**ARCHITECTURES[architecture])
    module = TokenTransformer(transformer, keeps_keys=True)
    inputs = random_inputs(transformer, 3, 5)
    full = run_tokens(module, inputs)
    for computed in (torch.tensor([7, 0, 11, 3, 4]), torch.arange(15), torch.tensor([14])):
        kept = torch.ones(15, dtype=torch.bool)
        kept[computed] = False
        frozen = {
            f"frozen_{kind}.{index}": full[f"{kind}.{index}"][:, :, kept]
            for index in range(module.attentions)
            for kind in ("key", "value")
        }
        chosen = {name: inputs[name][:, computed] for name in ("tokens", "position")}
        masked = run_tokens(module, {**inputs, **chosen, **frozen})
        assert_close(masked["velocity"], full["velocity"][:, computed], atol=1e-5, rtol=1e-5)
        assert_close(masked["key.0"], full["key.0"][:, :, computed], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_one_weighted_zero_token_stands_for_all_of_them_exactly(architecture):
    transformer = random_transformer(**ARCHITECTURES[architecture]).double()
    inputs = {name: tensor.double() for name, tensor in random_inputs(transformer, 3, 5).items()}
    text = inputs["text"]
    zero = torch.zeros_like(text[:, :1])
    expected = run_diffusers(transformer, {**inputs, "text": torch.cat([text, zero.expand(-1, 256, -1)], dim=1)})
    module = TokenTransformer(transformer, keeps_keys=False, zero_text_tokens=256)
    outputs = run_tokens(module, {**inputs, "text": torch.cat([text, zero], dim=1)})
    assert_close(outputs["velocity"], expected, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("count", [2, 3, 16, 100, 256, 512])
def test_zero_tokens_weigh_in_16_bits_what_they_are_worth(dtype, count):
    biases = torch.tensor(_zero_token_biases(count, dtype), dtype=dtype)
    assert abs(float(biases.double().exp().sum()) / count - 1) < 1e-4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_16_bits_weighted_zero_tokens_are_as_near_to_the_truth_as_256_real_ones(dtype):
    generator = torch.Generator().manual_seed(0)

    def draw(tokens: int) -> torch.Tensor:
        return torch.randn(4, 2, tokens, 16, generator=generator).to(dtype)

    query, key, value, zero_key, zero_value = draw(64), draw(30), draw(30), draw(1), draw(1)

    def attended(count: int, bias: torch.Tensor | None, wanted: torch.dtype) -> torch.Tensor:
        keys = torch.cat([key, zero_key.expand(-1, -1, count, -1)], dim=2).to(wanted)
        values = torch.cat([value, zero_value.expand(-1, -1, count, -1)], dim=2).to(wanted)
        return _attend(query.to(wanted), keys, values, bias).double()

    biases = _zero_token_biases(256, dtype)
    exact, real = attended(256, None, torch.float64), attended(256, None, dtype)
    ours = attended(len(biases), _key_bias(query, 30 + len(biases), biases), dtype)
    assert (ours - exact).norm() < (real - exact).norm()


def test_a_bfloat16_model_is_as_near_to_the_truth_with_its_weighted_zero_tokens_as_with_256():
    transformer = random_transformer(**ARCHITECTURES["qk_norm"]).bfloat16()
    inputs = {name: tensor.bfloat16() for name, tensor in random_inputs(transformer, 3, 5).items()}
    zero = torch.zeros_like(inputs["text"][:, :1])
    one = {**inputs, "text": torch.cat([inputs["text"], zero], dim=1)}
    every = {**inputs, "text": torch.cat([inputs["text"], zero.expand(-1, 256, -1)], dim=1)}
    ours = run_tokens(TokenTransformer(transformer, keeps_keys=False, zero_text_tokens=256), one)["velocity"].double()
    plain = TokenTransformer(transformer, keeps_keys=False)
    real = run_tokens(plain, every)["velocity"].double()
    exact = run_tokens(plain.double(), {name: tensor.double() for name, tensor in every.items()})["velocity"]
    assert (ours - exact).norm() < 1.1 * (real - exact).norm()


def test_names_follow_the_graph_and_parameters_keep_the_checkpoint_s_names():
    transformer = random_transformer(**ARCHITECTURES["dual attention"])
    module = TokenTransformer(transformer, keeps_keys=True)
    assert module.attentions == 3
    assert module.input_names()[5:9] == ["frozen_key.0", "frozen_value.0", "frozen_key.1", "frozen_value.1"]
    assert module.output_names()[:3] == ["velocity", "key.0", "value.0"]
    assert set(module.state_dict()) == set(transformer.state_dict()) - {"pos_embed.pos_embed"}
    small = TokenTransformer(transformer, keeps_keys=False)
    assert small.input_names() == ["tokens", "position", "text", "pooled", "timestep"]
    assert small.output_names() == ["velocity"]


@pytest.mark.parametrize("shard_size", ["10GB", "20KB"])
def test_weights_load_from_one_file_or_from_shards(tmp_path, shard_size):
    transformer = random_transformer(**ARCHITECTURES["dual attention"])
    transformer.save_pretrained(tmp_path / "transformer", max_shard_size=shard_size)
    inputs = random_inputs(transformer, 4, 4)
    module = TokenTransformer.load(tmp_path, keeps_keys=False)
    expected = run_tokens(TokenTransformer(transformer, keeps_keys=False), inputs)
    assert torch.equal(run_tokens(module, inputs)["velocity"], expected["velocity"])
    table = position_table(tmp_path)
    assert table.shape == (8, 8, NARROW["num_attention_heads"] * NARROW["attention_head_dim"])
    assert torch.equal(table.flatten(0, 1)[None], transformer.state_dict()["pos_embed.pos_embed"])


def test_geometry_is_read_from_the_model():
    module = TokenTransformer(random_transformer(**ARCHITECTURES["plain"]), keeps_keys=True)
    geometry = module.geometry(vae_factor=8, text_tokens=77)
    assert geometry.width == 32
    assert geometry.token_width == 16
    assert (geometry.attentions, geometry.position_size, geometry.text_tokens) == (2, 8, 77)
