"""From prompts to pictures on the demo pair's real engines."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from function_engine import Tampered

from hybridstitch import Failure, HybridStitch, HybridStitchError, Picture
from hybridstitch.method.settings import settings_from
from hybridstitch.pairs.parameters import make_parameters
from hybridstitch.runtime.health import Health
from hybridstitch.runtime.pictures import encode_png, read_metadata
from hybridstitch.runtime.result import settings_of

PROMPTS = [
    "a large striped red star left of a small plain white circle on a navy background",
    "a small dotted black circle below a large plain yellow square on a sand background",
    "a large plain green heart on a grey background",
    "a large dotted blue ring on a sand background",
    "a small plain white star above a large striped purple triangle on a navy background",
]
QUICK = {"steps": 6, "large_steps": 2, "hybrid_steps": 2, "score": "gap", "sketch": "small", "refresh_every": 0}


def same(picture, other) -> bool:
    """Equal but for a rounding: engines sum in another order when the batch differs."""
    return int(np.abs(np.asarray(picture, dtype=int) - np.asarray(other, dtype=int)).max()) <= 1


def test_a_run_goes_through_three_stages(pipe):
    stages = []
    result = pipe(PROMPTS[0], **QUICK, on_step=lambda progress: stages.append(str(progress.stage)))
    assert stages == ["large"] * 2 + ["hybrid"] * 2 + ["small"] * 2
    timing = result.timing
    assert {name: spent.calls for name, spent in timing.stages.items()} == {
        "text": 1,
        "large": 2,
        "hybrid": 2,
        "small": 2,
        "decode": 1,
    }
    assert {name: spent.calls for name, spent in timing.engines.items()} == {
        "text_encoder": 1,
        "text_encoder_2": 1,
        "large": 4,
        "small": 5,
        "vae_decoder": 1,
    }
    assert sum(spent.seconds for spent in timing.stages.values()) == pytest.approx(timing.total, rel=0.1)
    assert "hybrid" in str(timing)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"residual": "off"},
        {"refresh_every": 1},
        {"score": "change"},
        {"guidance": 1},
        {"sketch": "held"},
        {"sketch": "held", "hybrid_steps": 4, "refresh_every": 1, "extrapolate": 0.5, "correct": "on"},
    ],
)
def test_the_same_seed_gives_the_same_picture_alone_or_in_a_batch(pipe, settings):
    together = pipe(PROMPTS, seed=20, **{**QUICK, **settings})  # five prompts: a batch of four and one of one
    for index in (0, 3, 4):
        alone = pipe(PROMPTS[index], seed=20 + index, **{**QUICK, **settings})
        assert same(alone.images[0], together.images[index])
        assert torch.equal(alone.pictures[0].refined, together.pictures[index].refined)


def test_adaptive_switching_draws_the_same_alone_or_among_others(pipe):
    settings = {"steps": 8, "adaptive": 0.2}
    together = pipe(PROMPTS[:2], seed=5, **settings)
    alone = pipe(PROMPTS[1], seed=6, **settings)
    assert alone.pictures[0].parameters == together.pictures[1].parameters
    assert same(alone.images[0], together.images[1])


def test_each_picture_of_a_batch_has_its_own_mask(pipe):
    first, second = pipe(PROMPTS[:2], **QUICK).pictures
    assert first.refined.shape == (16, 16)
    assert not torch.equal(first.refined, second.refined)
    assert first.mask_ratio == pytest.approx(80 / 256)  # 30 % of 256 tokens, in buckets of 16


@pytest.mark.parametrize("size", ["160x96", "96x160"])
def test_a_picture_need_not_be_square(pipe, size):
    picture = pipe(PROMPTS[2], size=size, **QUICK).pictures[0]
    assert "x".join(str(side) for side in picture.image.size) == size
    assert picture.refined.shape == (picture.image.size[1] // 8, picture.image.size[0] // 8)


def test_every_method_draws_and_hybrid_is_closer_to_large_than_small_is(pipe):
    latents = {
        method: pipe(PROMPTS[0], seed=3, steps=14, method=method).pictures[0].latents
        for method in ("large", "small", "hybrid", "srdiffusion", "t-stitch")
    }
    distance = {method: float((value - latents["large"]).square().mean()) for method, value in latents.items()}
    assert 0 < distance["hybrid"] < distance["small"]
    assert 0 < distance["srdiffusion"] < distance["small"]
    assert distance["t-stitch"] > 0


def test_a_picture_says_how_it_was_made_and_can_be_drawn_again_from_it(pipe, tmp_path):
    picture = pipe(PROMPTS[1], seed=9, negative_prompt="a small red ring", size="96x160", **QUICK).pictures[0]
    settings = settings_of(picture, "demo", "onnxruntime", "1.2")
    (tmp_path / "one.png").write_bytes(encode_png(picture.image, settings))
    made = read_metadata(tmp_path / "one.png")
    assert made["prompt"] == PROMPTS[1]
    assert made["seed"] == 9
    assert made["software"] == "hybridstitch-trt 1.2"
    plan = settings_from(made)
    again = pipe(made["prompt"], negative_prompt=made["negative_prompt"], seed=made["seed"], size=made["size"], **plan)
    assert again.images[0].tobytes() == picture.image.tobytes()
    assert make_parameters(pipe.recipe, made["method"], **plan) == picture.parameters


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("",), "the prompt is empty"),
        (("  ",), "the prompt is empty"),
        (("\n\t",), "the prompt is empty"),
        (("\x00\n",), r"the prompt holds the control character '\\x00'"),
        (([],), "there is no prompt"),
        ((None,), "the prompt must be text, not None"),
        ((b"a star",), "the prompt must be text, not b'a star'"),
        (([PROMPTS[0], 3],), "the prompt must be text, not 3"),
        (("a \ud800 star",), r"the prompt is not UTF-8 text: it holds '\\ud800'"),
        (("a large red star " * 12,), r"tokens long and the limit is 24: '.*star.*' would be cut off"),
    ],
)
def test_a_prompt_that_cannot_be_read_whole_is_refused(pipe, arguments, words):
    with pytest.raises(HybridStitchError, match=words) as caught:
        pipe(*arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"seed": -1}, "seed must be a whole number from 0"),
        ({"seed": 2**63}, r"seed must be a whole number from 0 to 2\^63 - 1, not 9223372036854775808"),
        ({"seed": 1.5}, "seed must be a whole number from 0"),
        ({"seed": True}, "seed must be a whole number from 0 .* not True"),
        ({"negative_prompt": 3}, "the negative prompt must be text, not 3"),
        ({"negative_prompt": "a large red star " * 12}, "the negative prompt is 50 tokens long and the limit is 24"),
        ({"size": "100x128"}, "size 100x128 is not a multiple of 8 pixels on both sides; try 96x128"),
        ({"size": "64x64"}, r"size 64x64 is 64 image tokens and the engines in .* take 240-256; .*sizes: 128x128"),
        ({"size": "4096x4096"}, "size 4096x4096 is too large"),
        ({"size": "large"}, "is not WIDTHxHEIGHT"),
    ],
)
def test_a_request_that_does_not_fit_is_refused_before_anything_runs(pipe, settings, words):
    ran = []
    with pytest.raises(HybridStitchError, match=words):
        pipe(PROMPTS[0], on_step=ran.append, **settings)
    assert not ran


def test_the_length_of_a_prompt_is_checked_against_the_engines_not_the_tokenizers(pipe, monkeypatch):
    monkeypatch.setattr(pipe.requests._tokenizers, "lengths", (12, 12))
    with pytest.raises(HybridStitchError, match=r"tokens long and the limit is 12: '.*' would be cut off"):
        pipe.resolve([PROMPTS[0]])


def test_transformers_that_do_not_take_the_encoders_text_are_told_before_anything_runs(pipe, monkeypatch):
    encoder = pipe.engines["text_encoder"].manifest
    short = replace(encoder, inputs={"input_ids": replace(encoder.inputs["input_ids"], dims=("B", 12))})
    manifests = {**pipe.requests._manifests, "text_encoder": short}
    monkeypatch.setattr(pipe.requests, "_manifests", manifests)
    with pytest.raises(HybridStitchError, match="large engine: 13 text tokens; this plan has 25"):
        pipe.resolve([PROMPTS[0]], **QUICK)


def test_engines_that_were_not_built_name_the_command_that_builds_them(tmp_path):
    with pytest.raises(
        HybridStitchError, match=r"is not built: .* holds none\. Build it: hybridstitch-trt build --pair demo"
    ):
        HybridStitch.load("demo", engines=tmp_path)


def nan_in(image, call):
    """Puts NaN into an image of a batch, at the call of that number."""
    calls = []

    def after(inputs, outputs):
        calls.append(inputs)
        if len(calls) == call:
            outputs["velocity"][image, 0, 0] = float("nan")

    return after


def test_an_engine_that_gives_nan_never_becomes_a_picture(pipe, tampered):
    tampered("large", nan_in(0, call=2))
    with pytest.raises(HybridStitchError, match="large, step 2, gave NaN or infinity"):
        pipe(PROMPTS[0], **QUICK)


def test_a_picture_that_went_wrong_does_no_harm_to_the_others_of_its_batch(pipe, tampered):
    alone = [pipe(PROMPTS[index], seed=20 + index, **QUICK).images[0] for index in (0, 2)]
    together = pipe(PROMPTS[:3], seed=20, **QUICK).images
    tampered("large", nan_in(1, call=2))
    result = pipe.run(pipe.resolve(PROMPTS[:3], seed=20, **QUICK))
    assert [type(outcome) for outcome in result.outcomes] == [Picture, Failure, Picture]
    (failure,) = result.failures
    assert failure.request.prompt == PROMPTS[1]
    assert failure.error.startswith("large, step 2, gave NaN or infinity: the engine overflows or is damaged")
    assert [image.tobytes() for image in result.images] == [together[0].tobytes(), together[2].tobytes()]
    assert all(same(image, other) for image, other in zip(result.images, alone, strict=True))


def test_a_text_encoder_that_gives_nan_is_named_itself(pipe, monkeypatch):
    real = pipe._text._sessions[1]

    def after(inputs, outputs):
        outputs["hidden"].fill_(float("nan"))

    broken = Tampered(real, after)
    monkeypatch.setattr(pipe._text, "_sessions", [pipe._text._sessions[0], broken])
    monkeypatch.setattr(pipe._text, "_calls", {})
    with pytest.raises(HybridStitchError, match="text_encoder_2, hidden, gave NaN or infinity"):
        pipe(PROMPTS[0], **QUICK)


def test_what_does_not_fit_the_decoder_is_refused_before_anything_runs(pipe):
    ran = []
    with pytest.raises(HybridStitchError, match="vae_decoder engine: 20 latent rows; this plan has 24-40"):
        pipe(PROMPTS[0], size="192x80", on_step=ran.append)
    assert not ran


def test_pictures_go_together_in_the_batches_that_all_engines_take(pipe, monkeypatch):
    def sizes(count, **settings):
        return [len(places) for places in pipe.requests.batches(pipe.resolve([PROMPTS[0]] * count, **settings))]

    assert sizes(7) == [4, 3]
    assert sizes(2, adaptive=0.1) == [1, 1]
    decoder = pipe.engines["vae_decoder"].manifest
    only = [replace(decoder.profiles[0], ranges={**decoder.profiles[0].ranges, "B": (b, b, b)}) for b in (1, 4)]
    static = {**pipe.requests._manifests, "vae_decoder": replace(decoder, profiles=tuple(only))}
    monkeypatch.setattr(pipe.requests, "_manifests", static)
    assert sizes(7) == [4, 1, 1, 1]
    alone = {**static, "vae_decoder": replace(decoder, profiles=(only[1],))}
    monkeypatch.setattr(pipe.requests, "_manifests", alone)
    with pytest.raises(HybridStitchError, match="draw 4 pictures at once and no fewer; here are 3"):
        sizes(7)


def test_a_bad_picture_is_told_by_its_row():
    health = Health()
    health.watch("vae_decoder", torch.stack([torch.ones(3), torch.zeros(3)]))
    first, second = health.problems(2)
    assert first is None
    assert (second or "").startswith("vae_decoder gave only zeros")
    with pytest.raises(HybridStitchError, match="vae_decoder gave only zeros"):
        health.check(2)


def test_too_little_memory_is_told_in_one_line(pipe, monkeypatch):
    def full(*_, **__):
        raise MemoryError

    monkeypatch.setattr("hybridstitch.runtime.drawing.Sampler", full)
    with pytest.raises(HybridStitchError, match="not enough memory on cpu for 1 pictures of 128x128: draw fewer"):
        pipe(PROMPTS[0], **QUICK)


@pytest.mark.parametrize(
    ("value", "words"),
    [(float("nan"), "NaN or infinity"), (float("-inf"), "NaN or infinity"), (0.0, "only zeros")],
)
def test_infinity_and_zeros_are_refused_as_well(value, words):
    health = Health()
    health.watch("small, step 1,", torch.ones(1, 3))
    health.watch("small, nothing asked,", torch.ones(1, 0, 3))
    health.watch("small, step 2,", torch.full((1, 3), value))
    with pytest.raises(HybridStitchError, match=f"small, step 2, gave {words}"):
        health.check(1)
