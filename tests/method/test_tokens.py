"""Tokens, masks, guidance and the carried residual, by themselves."""

import pytest
import torch
from diffusers.models.embeddings import PatchEmbed

from hybridstitch.method import residual
from hybridstitch.method.geometry import masked_count
from hybridstitch.method.guidance import guide, halves
from hybridstitch.method.masks import hardest, relative_change
from hybridstitch.method.state import STATE, State
from hybridstitch.method.tokens import crop_positions, gather, patchify, pick_rows, row_index, stitch, unpatchify


def test_patchify_and_back_is_the_same_latent():
    latents = torch.randn(2, 3, 6, 10)
    tokens = patchify(latents, 2)
    assert tokens.shape == (2, 15, 12)
    assert torch.equal(unpatchify(tokens, 2, 3, 5), latents)


def test_a_token_is_row_column_channel_as_the_last_layer_writes_it():
    latents = torch.randn(1, 3, 4, 4)
    expected = torch.einsum("nchpwq->nhwpqc", latents.reshape(1, 3, 2, 2, 2, 2)).reshape(1, 4, 12)
    assert torch.equal(patchify(latents, 2), expected)


@pytest.mark.parametrize(("rows", "columns"), [(8, 8), (4, 7), (5, 2)])
def test_positions_are_cropped_as_diffusers_crops_them(rows, columns):
    embed = PatchEmbed(16, 16, 2, 4, 8, pos_embed_max_size=9)
    assert embed.pos_embed is not None
    table = embed.pos_embed.reshape(9, 9, 8)
    assert torch.equal(crop_positions(table, rows, columns), embed.cropped_pos_embed(2 * rows, 2 * columns)[0])


@pytest.mark.parametrize(
    ("tokens", "ratio", "bucket", "expected"),
    [
        (256, 0.3, 16, 80),
        (256, 0.3, 1, 77),
        (256, 0.25, 16, 64),
        (256, 0.0, 16, 0),
        (256, 1.0, 16, 256),
        (60, 0.9, 16, 60),
        (256, 0.001, 16, 16),
        (10, 0.7, 1, 7),
    ],
)
def test_masked_count_is_rounded_up_to_the_bucket_and_never_above_all(tokens, ratio, bucket, expected):
    assert masked_count(tokens, ratio, bucket) == expected


def test_each_image_of_a_batch_has_its_own_hardest_tokens():
    scores = torch.tensor([[0.1, 0.9, 0.5, 0.2], [0.8, 0.1, 0.2, 0.7]])
    mask = hardest(scores, 2)
    assert mask.computed.tolist() == [[1, 2], [0, 3]]
    assert torch.cat([mask.computed, mask.frozen], 1).sort(1).values.tolist() == [[0, 1, 2, 3]] * 2


def test_gather_and_stitch_undo_each_other():
    tokens, index = torch.randn(2, 5, 3), torch.tensor([[4, 0], [1, 2]])
    rows = gather(tokens, index)
    assert torch.equal(rows[1, 0], tokens[1, 1])
    assert torch.equal(stitch(torch.zeros_like(tokens), rows, index).sum(1), rows.sum(1))
    assert torch.equal(stitch(tokens, rows, index), tokens)


def test_rows_are_picked_for_both_halves_and_every_head_alike():
    keys, index = torch.randn(4, 3, 5, 2), torch.tensor([[4, 0], [1, 2]])
    out = torch.empty(4, 3, 2, 2)
    pick_rows(keys, row_index(index, keys), out)
    for row in range(4):
        assert torch.equal(out[row], keys[row][:, index[row % 2]])
    positions, picked = torch.randn(2, 5, 7), torch.empty(2, 2, 7)
    pick_rows(positions, row_index(index, positions), picked)
    assert torch.equal(picked, gather(positions, index))


def guided(velocity, scale):
    out = torch.empty(velocity.shape[0] // 2, *velocity.shape[1:])
    guide(velocity.chunk(2), torch.full((len(out), 1, 1), scale), out)
    return out


def test_guidance_is_the_diffusers_formula_and_none_up_to_one():
    velocity = torch.randn(4, 3, 2)
    negative, positive = velocity.chunk(2)
    torch.testing.assert_close(guided(velocity, 4.0), negative + 4.0 * (positive - negative))
    out = torch.empty_like(velocity)
    guide([velocity], torch.ones(4, 1, 1), out)
    assert torch.equal(out, velocity)
    assert [halves(scale) for scale in (0.0, 1.0, 1.5)] == [1, 1, 2]


def test_guiding_before_or_after_the_stitch_is_the_same():
    large, small, index = torch.randn(2, 2, 3), torch.randn(2, 5, 3), torch.tensor([[3, 1]])
    before = stitch(guided(small, 5.0), guided(large, 5.0), index)
    after = guided(stitch(small, large, index.repeat(2, 1)), 5.0)
    torch.testing.assert_close(after, before)


@pytest.mark.parametrize("exponent", [2.0, None], ids=["of all images", "of each image"])
def test_the_residual_fades_with_sigma_and_is_renewed_on_masked_tokens(exponent):
    lengths = {"B": 1, "N": 2, "M": 1, "F": 1, "W": 1}
    state = State(
        **{  # type: ignore[arg-type]
            name: torch.zeros([lengths.get(str(dim), dim) for dim in dims], dtype=dtype)  # type: ignore[misc]
            for name, (dims, dtype) in STATE.items()
        }
    )
    state.exponent.fill_(2)

    def corrected(sigma: float) -> list[float]:
        state.level[0] = sigma
        residual.correct(state, exponent)
        return state.velocity.flatten().tolist()

    state.level[0], state.velocity[:] = 1.0, torch.tensor([[[4.0], [8.0]]])
    residual.measure(state)
    assert corrected(0.5) == [1.0, 2.0]
    state.masked_velocity[:] = 3.0  # what the large model says of token 0, where the small one says 0
    residual.renew(state)
    assert corrected(0.5) == [3.0, 2.0]
    assert corrected(0.25) == [0.75, 0.5]


def test_relative_change_is_l1():
    assert relative_change(torch.tensor([1.0, -3.0]), torch.tensor([2.0, -2.0])).item() == pytest.approx(0.5)
