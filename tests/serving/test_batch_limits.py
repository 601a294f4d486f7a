"""A batch is as large as leaves every picture as it is alone, to the last bit."""

from __future__ import annotations

import pytest

from hybridstitch.serving.batch_limits import BatchLimits


def test_engines_that_round_otherwise_in_a_large_batch_draw_smaller_ones(pipe, ask, tampered):
    def after(inputs, outputs):
        if len(inputs["tokens"]) > 4:  # with guidance two rows a picture
            outputs["velocity"] += 1e-6

    tampered("small", after)
    limits = BatchLimits(None)
    assert limits.sizes(ask()) == (1,)
    limits.warm_up(pipe, pipe.recipe.defaults.size)
    assert limits.sizes(ask()) == (1, 2)
    assert limits.sizes(pipe.requests.resolve("a star", method="small")) == (1, 2)
    assert limits.sizes(ask(mask_ratio=0.5)) == (1,)  # it was not looked at
    assert limits.sizes(ask(guidance=1)) == (1,)
    assert limits.sizes(ask(size="160x96")) == (1,)


def test_a_batch_that_there_is_no_memory_for_is_not_drawn(pipe, ask, monkeypatch):
    begin = pipe._begin

    def full(batch, *how):
        if len(batch) > 2:
            raise MemoryError
        return begin(batch, *how)

    monkeypatch.setattr(pipe, "_begin", full)
    limits = BatchLimits(None)
    limits.warm_up(pipe, pipe.recipe.defaults.size)
    assert limits.sizes(ask())[-1] <= 2


@pytest.mark.parametrize(("most", "sizes"), [(1, (1,)), (3, (1, 2, 3)), (64, (1, 2, 3, 4))])
def test_a_number_that_was_asked_for_holds_for_all(pipe, ask, most, sizes):
    assert BatchLimits(most).sizes(ask(mask_ratio=0.5)) == sizes
    assert BatchLimits(most).sizes(pipe.requests.resolve("a star", adaptive=0.1)) == (1,)
