"""The token-space transformer is diffusers' transformer, whichever of its tokens are computed."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from hybridstitch.models.token_transformer import TokenTransformer, position_table

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
