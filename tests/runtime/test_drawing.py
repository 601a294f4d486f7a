"""A run that is driven from outside, step by step, on the demo pair's real engines."""

from __future__ import annotations

import numpy as np
import pytest
from function_engine import Tampered

from hybridstitch import Failure, HybridStitchError, Picture
from hybridstitch.method.state import STATE

PROMPTS = [
    "a large striped red star left of a small plain white circle on a navy background",
    "a small dotted black circle below a large plain yellow square on a sand background",
    "a large plain green heart on a grey background",
]
HYBRID = {"steps": 7, "large_steps": 2, "hybrid_steps": 3, "score": "gap", "sketch": "small", "residual": 3.0}
HYBRID |= {"refresh_every": 0, "grid": 0}


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
    pipe._workspaces.clear()
    yield bound
    pipe._workspaces.clear()


def test_calls_are_bound_once_for_each_kind_of_step_and_memory_stays_where_it_is(pipe, counted):
    once = [("large", 256), ("large", 80), ("small", 256), ("vae_decoder", 0)]
    (batch,) = [pipe.resolve(PROMPTS[:1], **{**HYBRID, "refresh_every": 2})]
    drawn(pipe, batch)
    assert counted == once
    (workspace,) = pipe._workspaces.values()
    state = {name: getattr(workspace.state, name) for name in STATE}
    tensors = [state, workspace.fresh, workspace.frozen, workspace.sides]
    addresses = [{name: tensor.data_ptr() for name, tensor in group.items()} for group in tensors]
    drawn(pipe, pipe.resolve(PROMPTS[1:2], seed=4, **{**HYBRID, "hybrid_steps": 4, "residual": 1.0}, guidance=5.0))
    assert counted == once  # another draw of the same shape
    assert [{name: tensor.data_ptr() for name, tensor in group.items()} for group in tensors] == addresses
    drawn(pipe, pipe.resolve(PROMPTS[:1], **HYBRID, mask_ratio=0.5))
    assert counted == [*once, ("large", 256), ("large", 128), ("small", 256), ("vae_decoder", 0)]  # another M


def test_shapes_that_were_used_long_ago_make_room(pipe, monkeypatch):
    monkeypatch.setattr("hybridstitch.runtime.pipeline.WORKSPACES", 2)
    pipe._workspaces.clear()
    for size in ("128x128", "160x96", "128x128", "96x160"):
        drawn(pipe, pipe.resolve(PROMPTS[2:], size=size, steps=1, method="small"))
    assert [str(shape.size) for shape in pipe._workspaces] == ["128x128", "96x160"]
    pipe._workspaces.clear()


def test_where_memory_is_short_a_new_shape_takes_that_of_the_others(pipe, monkeypatch):
    real, refused = pipe._new_workspace, []

    def short(shape):
        if pipe._workspaces:
            refused.append(shape)
            raise MemoryError
        return real(shape)

    pipe._workspaces.clear()
    monkeypatch.setattr(pipe, "_new_workspace", short)
    for size in ("160x96", "128x128"):
        drawn(pipe, pipe.resolve(PROMPTS[2:], size=size, steps=1, method="small"))
    assert [str(shape.size) for shape in refused] == ["128x128"]
    assert len(pipe._workspaces) == 1


def test_a_run_is_cancelled_between_two_steps_and_the_next_is_as_it_would_be(pipe):
    batch = pipe.resolve(PROMPTS[:2], seed=3, **HYBRID)
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
    pipe._workspaces.clear()
    first, second, third = drawn(pipe, batch)
    pipe._workspaces.clear()
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
        return pipe.requests.batch_key(pipe.requests.resolve(PROMPTS[0], **{**HYBRID, **settings}))

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
        {"grid": 28},
    ]
    assert [key(**settings) for settings in alike] == [own] * len(alike)
    assert len({own, *(key(**settings) for settings in others)}) == 1 + len(others)
