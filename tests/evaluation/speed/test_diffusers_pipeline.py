"""diffusers' own pipeline draws the same pictures in turns with ours; what cannot run is told."""

from __future__ import annotations

from hybridstitch.evaluation.cases import DEMO_CASES
from hybridstitch.evaluation.speed import diffusers_pipeline
from hybridstitch.evaluation.speed.diffusers_pipeline import Rival, against_diffusers, take_turns


def test_ways_take_turns_and_the_first_picture_is_kept_apart():
    order, slow = [], iter([60.0, 2.0, 4.0, 3.0, 3.0])

    def quick(case):
        order.append(("quick", case.seed))
        return 1.0

    def compiling(case):
        order.append(("compile", case.seed))
        return next(slow)

    found = take_turns({"quick": lambda: quick, "compile": lambda: compiling}, DEMO_CASES[:2], 2)
    assert order[:2] == [("quick", 0), ("compile", 0)]
    assert order[2:] == [("quick", 0), ("compile", 0), ("quick", 1), ("compile", 1)] * 2
    assert found["compile"].seconds == (2, 4, 3, 3)
    assert (found["compile"].median, found["compile"].first) == (3, 57)
    assert found["quick"].quartiles == (1, 1)


def test_a_way_that_fails_says_why_in_one_line_and_the_others_go_on():
    def broken(_):
        raise RuntimeError("\n  no compiler was found\nTraceback")

    found = take_turns({"compile": lambda: broken, "eager": lambda: lambda _: 1.0}, DEMO_CASES[:1], 1)
    assert found["compile"] == Rival("compile", reason="RuntimeError: no compiler was found")
    assert (found["compile"].median, found["compile"].quartiles) == (None, None)
    assert found["eager"].median == 1


def test_the_large_checkpoint_draws_in_diffusers_as_it_comes(pipe, monkeypatch):
    def refuse(_):
        raise RuntimeError("no compiler")

    monkeypatch.setattr(diffusers_pipeline, "compiled", refuse)
    size = pipe.recipe.defaults.size
    found = against_diffusers(pipe, DEMO_CASES[:1], 1, size=size, steps=2, guidance=3.5)
    assert found["compile"].reason == "RuntimeError: no compiler"
    assert len(found["eager"].seconds) == len(found["large"].seconds) == 1
    assert min(found["large"].seconds + found["eager"].seconds) > 0


def test_compiling_leaves_the_eager_pipeline_as_it_is(pipe):
    eager = diffusers_pipeline.load_pipeline(pipe)
    twin = diffusers_pipeline.compiled(eager)
    assert twin.transformer is not eager.transformer
    assert "decode" not in vars(eager.vae)
    assert twin.vae.decoder is eager.vae.decoder
    assert next(twin.transformer.parameters()) is next(eager.transformer.parameters())


def test_a_checkpoint_that_cannot_be_loaded_is_told_for_both(pipe, monkeypatch):
    def gone(_):
        raise OSError("it is gone")

    monkeypatch.setattr(diffusers_pipeline, "load_pipeline", gone)
    found = against_diffusers(pipe, DEMO_CASES[:1], 1, size=pipe.recipe.defaults.size, steps=1, guidance=1.0)
    assert {name: rival.reason for name, rival in found.items()} == dict.fromkeys(
        ("eager", "compile"), "OSError: it is gone"
    )
