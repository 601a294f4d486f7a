"""In low memory, text encoders and decoder are held only while they run, and pictures stay the same."""

from __future__ import annotations

from contextlib import suppress

import pytest

from hybridstitch import HybridStitch
from hybridstitch.engines.executors.released_engine import ReleasedEngine
from hybridstitch.method.errors import HybridStitchError
from hybridstitch.pairs.parameters import make_parameters
from hybridstitch.runtime.memory import predict, weight_bytes

PROMPT = "a large red star on a navy background"
QUICK = {"steps": 4, "large_steps": 2, "hybrid_steps": 1}


@pytest.fixture(scope="module")
def lean(demo_engines):
    with HybridStitch.load("demo", engines=demo_engines, threads=1, low_memory=True) as pipe:
        yield pipe


def open_now(pipe) -> set[str]:
    return {name for name, engine in pipe.engines.items() if not isinstance(engine, ReleasedEngine) or engine.is_open}


def test_pictures_are_those_of_a_pipeline_that_holds_everything(lean, pipe):
    for size in ("128x128", "96x160", "128x128"):
        ours, theirs = (each(PROMPT, seed=4, size=size, **QUICK).images[0].tobytes() for each in (lean, pipe))
        assert ours == theirs


def test_while_steps_are_made_only_the_transformers_are_held(lean):
    assert open_now(lean) == {"large", "small"}
    with lean.drawing(lean.resolve([PROMPT], **QUICK)) as drawing:
        for _ in drawing:
            assert open_now(lean) == {"large", "small"}
        drawing.finish()
    assert open_now(lean) == {"large", "small"}


def test_a_preview_opens_the_decoder_for_its_own_time(lean):
    with lean.drawing(lean.resolve([PROMPT], **QUICK)) as drawing:
        next(iter(drawing))
        assert drawing.preview()[0] is not None
        assert open_now(lean) == {"large", "small"}


def test_loading_again_is_timed(lean):
    timing = lean(PROMPT, **QUICK).timing
    assert timing.stages["load"].calls == 2  # encoders, and decoder
    assert timing.stages["load"].seconds > 0


def test_a_run_that_fails_leaves_no_encoder_open(lean, monkeypatch):
    def broken(*_):
        raise RuntimeError("an encoder broke")

    monkeypatch.setattr(lean._text, "encode", broken)
    with suppress(RuntimeError), lean.drawing(lean.resolve([PROMPT], **QUICK)):
        pass
    assert open_now(lean) == {"large", "small"}


def test_the_prediction_counts_what_is_there_at_once(lean, pipe):
    manifests = {name: engine.manifest for name, engine in pipe.engines.items()}
    parameters, size = make_parameters(pipe.recipe), pipe.recipe.defaults.size
    whole, less = (
        predict(manifests, pipe.recipe, parameters, size, 1, low_memory=low_memory) for low_memory in (False, True)
    )
    decoder = weight_bytes(manifests["vae_decoder"])
    encoders = sum(weight_bytes(manifest) for name, manifest in manifests.items() if name.startswith("text_encoder"))
    assert whole.weights - less.weights == min(decoder, encoders)
    assert less.weights < whole.weights
    assert less.scratch < whole.scratch
    assert (less.keys_values, less.latents) == (whole.keys_values, whole.latents)


def test_a_closed_engine_is_not_opened_again(demo_engines):
    pipe = HybridStitch.load("demo", engines=demo_engines, threads=1, low_memory=True)
    decoder = pipe.engines["vae_decoder"]
    pipe.close()
    with pytest.raises(HybridStitchError, match="the vae_decoder engine is closed"):
        decoder.session()
