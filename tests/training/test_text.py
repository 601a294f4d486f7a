"""The tokenizer and the text encoders of the demo pair."""

import pytest
import torch

from hybridstitch.evaluation.world.scenes import caption, sample_scene
from training.text import LENGTH, TextEncoders, TextSettings, build_encoder, build_tokenizer, tokenize, world_words


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return build_tokenizer(tmp_path_factory.mktemp("tokenizer"))


def test_every_word_of_the_world_is_one_token(tokenizer):
    for word in world_words():
        assert len(tokenizer(word).input_ids) == 3, word


def test_captions_survive_the_tokenizer(tokenizer):
    for seed in range(50):
        text = caption(sample_scene(seed))
        ids = tokenizer(text).input_ids
        assert len(ids) <= LENGTH
        assert tokenizer.decode(ids, skip_special_tokens=True).strip() == text


def test_unknown_words_fall_back_to_bytes(tokenizer):
    ids = tokenizer("a zebra, étoile 42").input_ids
    assert len(ids) > 8
    assert tokenizer.unk_token_id not in ids[1:-1]


def test_the_last_of_25_text_tokens_is_zero_and_the_pooled_one_sees_the_caption(tokenizer):
    settings = TextSettings()
    torch.manual_seed(0)
    encoders = [build_encoder(part, tokenizer) for part in (settings.first, settings.second)]
    text = TextEncoders(*encoders).eval()
    with torch.no_grad():
        tokens, pooled = text(tokenize(tokenizer, ["a red star", "a red ring", ""]))
    assert tokens.shape == (3, LENGTH + 1, 192)
    assert pooled.shape == (3, settings.pooled)
    assert not tokens[:, -1].any()
    assert not torch.allclose(pooled[0], pooled[1])
