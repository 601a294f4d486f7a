"""A run that is driven from outside, step by step, on the demo pair's real engines."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
import torch
from function_engine import Tampered

from hybridstitch import Failure, HybridStitchError, Picture
from hybridstitch.method.errors import OutOfMemory
from hybridstitch.runtime import workspace
from hybridstitch.runtime.request import batch_shape

PROMPTS = [
    "a large striped red star left of a small plain white circle on a navy background",
    "a small dotted black circle below a large plain yellow square on a sand background",
    "a large plain green heart on a grey background",
]
HYBRID = {"steps": 7, "large_steps": 2, "hybrid_steps": 3, "score": "gap", "sketch": "small", "residual": 3.0}
HYBRID |= {"refresh_every": 0, "grid": 0}


MOVING = {"steps": 7, "large_steps": 2, "hybrid_steps": 5, "score": "change", "sketch": "held", "residual": "off"}
MOVING |= {"refresh_every": 2, "grid": 0, "extrapolate": 0.5, "correct": "on"}  # full 0, 1, 4; held 2, 3, 5, 6


def drawn(pipe, batch):
    with pipe.drawing(batch) as drawing:
        for _ in drawing:
            pass
        return drawing.finish()


@pytest.fixture
def counted(pipe, monkeypatch):
    """Notes the engines whose calls are bound while a test runs, by name, with the tokens of the call."""
    bound = []

    def counting(name, session):
        class Counting:
            engine = session.engine

            def bind(self, inputs, outputs=None):
                bound.append((name, inputs["tokens"].shape[1] if "tokens" in inputs else 0))
                return session.bind(inputs, outputs)

        return Counting()

    for name, session in list(pipe._sessions.items()):
        monkeypatch.setitem(pipe._sessions, name, counting(name, session))
    pipe._kept.clear()
    yield bound
    pipe._kept.clear()


def pieces(pipe) -> dict[tuple[str, str, int | None], int]:
    """What is kept: size, kind and M of each piece, and the address of one of its tensors."""
    return {(str(key.lengths.size), key.kind, key.masked): id(kept.piece) for key, kept in pipe._kept._pieces.items()}


def test_calls_are_bound_once_for_each_kind_of_step_and_memory_stays_where_it_is(pipe, counted):
    once = [("small", 256), ("vae_decoder", 0), ("large", 256), ("large", 80)]
    (batch,) = [pipe.resolve(PROMPTS[:1], **{**HYBRID, "refresh_every": 2})]
    drawn(pipe, batch)
    assert counted == once
    before = pieces(pipe)
    drawn(pipe, pipe.resolve(PROMPTS[1:2], seed=4, **{**HYBRID, "hybrid_steps": 4, "residual": 1.0}, guidance=5.0))
    assert counted == once  # another draw of the same shape
    assert pieces(pipe) == before


def test_another_mask_ratio_makes_what_depends_on_the_mask_and_nothing_else(pipe, counted):
    drawn(pipe, pipe.resolve(PROMPTS[:1], **HYBRID))
    before = pieces(pipe)
    counted.clear()
    drawn(pipe, pipe.resolve(PROMPTS[:1], **HYBRID, mask_ratio=0.5))
    assert counted == [("large", 128)]
    assert pieces(pipe).items() >= before.items()
    assert pieces(pipe).keys() - before.keys() == {("128x128", "masked", 128)}


def test_tokens_that_move_on_need_two_pieces_more_and_the_others_none(pipe):
    pipe._kept.clear()
    settings = {**MOVING, "extrapolate": 0.0, "correct": "off"}
    drawn(pipe, pipe.resolve(PROMPTS[:1], **settings))
    assert {key.kind for key in pipe._kept} == {"base", "full", "masked"}
    before = pieces(pipe)
    drawn(pipe, pipe.resolve(PROMPTS[:1], **MOVING))
    assert pieces(pipe).items() >= before.items()
    assert {key.kind for key in pipe._kept} == {"base", "full", "masked", "trend", "earlier"}
    pipe._kept.clear()
    drawn(pipe, pipe.resolve(PROMPTS[:1], **{**MOVING, "extrapolate": 0.0}))
    assert {key.kind for key in pipe._kept} == {"base", "full", "masked", "trend"}
    pipe._kept.clear()


def test_all_mask_ratios_share_one_set_of_fresh_keys_and_values(pipe):
    pipe._kept.clear()
    sizes = []
    for ratio in (0.1, 0.3, 0.5, 0.9):
        request = pipe.requests.resolve(PROMPTS[0], **HYBRID, mask_ratio=ratio)
        drawn(pipe, [request])
        drawing = pipe._workspace(batch_shape([request]))
        sizes.append({tensor.data_ptr() for tensor in drawing.fresh.values()})
    assert all(addresses == sizes[0] for addresses in sizes)


def test_no_client_can_make_a_pipeline_keep_more_than_the_largest_batch_of_its_recipe(pipe):
    pipe._kept.clear()
    for size in pipe.recipe.profiles.sizes:
        for ratio in (0.0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0):
            drawn(
                pipe,
                pipe.resolve(PROMPTS[:1], **{**HYBRID, "hybrid_steps": 1, "steps": 3}, size=size, mask_ratio=ratio),
            )
            assert pipe._kept.bytes <= pipe._kept.most


def test_pieces_that_were_used_long_ago_make_room(pipe, monkeypatch):
    pipe._kept.clear()
    ask = {"steps": 1, "method": "small"}
    drawn(pipe, pipe.resolve(PROMPTS[2:], size="128x128", **ask))
    monkeypatch.setattr(pipe._kept, "most", 2 * pipe._kept.bytes)
    for size in ("160x96", "128x128", "96x160"):
        drawn(pipe, pipe.resolve(PROMPTS[2:], size=size, **ask))
    assert {str(key.lengths.size) for key in pipe._kept} == {"128x128", "96x160"}
    pipe._kept.clear()


def test_where_memory_is_short_a_new_batch_takes_that_of_the_others(pipe, monkeypatch):
    real, refused = pipe._assemble, []

    def short(shape):
        if pipe._kept:
            refused.append(shape)
            raise MemoryError
        return real(shape)

    pipe._kept.clear()
    monkeypatch.setattr(pipe, "_assemble", short)
    for size in ("160x96", "128x128"):
        drawn(pipe, pipe.resolve(PROMPTS[2:], size=size, steps=1, method="small"))
    assert [str(shape.size) for shape in refused] == ["128x128"]
    assert {str(key.lengths.size) for key in pipe._kept} == {"128x128"}


def test_of_a_failed_attempt_nothing_is_left_when_the_second_one_begins(pipe, monkeypatch):
    drawn(pipe, pipe.resolve(PROMPTS[2:], size="160x96", steps=1, method="small"))
    real, attempt, made, left = workspace._allocate, 1, [], []

    def allocate(spaces, device):
        nonlocal attempt
        if attempt == 1 and any(name.startswith("frozen_") for name in spaces):
            attempt = 2
            raise torch.OutOfMemoryError("a GPU that is full")
        if attempt == 2:
            left.append([tensor.shape for known in made if (tensor := known()) is not None])
            attempt = 3
        tensors = real(spaces, device)
        if attempt == 1:
            made.extend(weakref.ref(tensor) for tensor in tensors.values())
        return tensors

    monkeypatch.setattr(workspace, "_allocate", allocate)
    (outcome,) = drawn(pipe, pipe.resolve(PROMPTS[:1], **HYBRID))
    assert isinstance(outcome, Picture)
    assert made
    assert left == [[]]
    pipe._kept.clear()


def test_a_batch_that_does_not_fit_at_all_is_refused_in_one_line(pipe, monkeypatch):
    def full(spaces, device):
        raise torch.OutOfMemoryError("a GPU that is full")

    pipe._kept.clear()
    monkeypatch.setattr(workspace, "_allocate", full)
    with pytest.raises(OutOfMemory, match="not enough memory on cpu for 1 pictures of 128x128: draw fewer at once or"):
        drawn(pipe, pipe.resolve(PROMPTS[:1], **HYBRID))


@pytest.mark.parametrize("settings", [HYBRID, MOVING])
def test_a_run_is_cancelled_between_two_steps_and_the_next_is_as_it_would_be(pipe, settings):
    batch = pipe.resolve(PROMPTS[:2], seed=3, **settings)
    expected = [outcome.image.tobytes() for outcome in drawn(pipe, batch)]
    with pipe.drawing(batch) as drawing:
        for step in drawing:
            if step.index == 3:  # in the middle of the hybrid stage
                break
    assert [outcome.image.tobytes() for outcome in drawn(pipe, batch)] == expected


def test_a_run_shows_previews_that_come_nearer_and_change_nothing(pipe):
    (batch,) = [pipe.resolve(PROMPTS[:1], seed=5, **HYBRID)]
    (expected,) = drawn(pipe, batch)
    previews = []
    with pipe.drawing(batch) as drawing:
        for _ in drawing:
            previews += drawing.preview()
        (picture,) = drawing.finish()
    assert picture.image.tobytes() == expected.image.tobytes()
    final = np.asarray(picture.image, dtype=float)
    distances = [float(np.square(np.asarray(preview) - final).mean()) for preview in previews]
    assert len(previews) == 7
    assert distances[0] > distances[3] > distances[6]
    assert previews[-1].tobytes() == picture.image.tobytes()  # at the last step the estimate is the picture


def test_requests_of_one_batch_have_their_own_guidance_and_are_as_in_any_other_company(pipe):
    def request(index, guidance):
        return pipe.requests.resolve(PROMPTS[index], seed=10 + index, guidance=guidance, **HYBRID)

    first, second = drawn(pipe, [request(0, 2.0), request(1, 6.0)])
    again, other = drawn(pipe, [request(0, 2.0), request(2, 4.0)])
    same, more = drawn(pipe, [request(0, 5.0), request(1, 6.0)])
    assert first.image.tobytes() == again.image.tobytes()
    assert second.image.tobytes() == more.image.tobytes()
    assert first.image.tobytes() != same.image.tobytes()
    assert (first.parameters.guidance, second.parameters.guidance, other.parameters.guidance) == (2.0, 6.0, 4.0)


def test_nan_in_one_image_of_three_leaves_the_other_two_byte_for_byte(pipe, monkeypatch):
    batch = pipe.resolve(PROMPTS, seed=30, **HYBRID)
    expected = drawn(pipe, batch)

    def spoil(inputs, outputs):
        if inputs["tokens"].shape[1] < 256:  # the masked calls
            outputs["velocity"][1::3] = float("nan")

    monkeypatch.setitem(pipe._sessions, "large", Tampered(pipe._sessions["large"], spoil))
    pipe._kept.clear()
    first, second, third = drawn(pipe, batch)
    pipe._kept.clear()
    assert isinstance(second, Failure)
    assert second.request == batch[1]
    assert second.error.startswith("large, step 3, gave NaN or infinity")
    for picture, other in ((first, expected[0]), (third, expected[2])):
        assert isinstance(picture, Picture)
        assert picture.image.tobytes() == other.image.tobytes()


def test_one_pipeline_draws_one_batch_at_a_time(pipe):
    batch = pipe.resolve(PROMPTS[2:], steps=1, method="small")
    with pipe.drawing(batch), pytest.raises(HybridStitchError, match="this pipeline is drawing already"):
        drawn(pipe, batch)
    assert len(drawn(pipe, batch)) == 1


def test_what_shares_a_batch_is_decided_by_everything_but_prompt_seed_guidance_and_exponent(pipe):
    def key(**settings):
        return pipe.requests.resolve(PROMPTS[0], **{**HYBRID, **settings}).batch_key

    own = key()
    alike = [{"seed": 9}, {"guidance": 3.0}, {"residual": 1.5}, {"negative_prompt": "a small red ring"}]
    others = [
        {"size": "160x96"},
        {"steps": 8},
        {"large_steps": 3},
        {"hybrid_steps": 2},
        {"refresh_every": 1},
        {"guidance": 1},
        {"mask_ratio": 0.5},
        {"score": "change"},
        {"residual": "off"},
        {"sketch": "held"},
        {"sketch": "held", "extrapolate": 0.5},
        {"sketch": "held", "hybrid_steps": 5, "refresh_every": 1},
        {"sketch": "held", "hybrid_steps": 5, "refresh_every": 1, "correct": "on"},
        {"grid": 28},
    ]
    assert [key(**settings) for settings in alike] == [own] * len(alike)
    assert len({own, *(key(**settings) for settings in others)}) == 1 + len(others)
