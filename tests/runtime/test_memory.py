"""What `inspect` predicts is what a run allocates; the executor is the one for TensorRT, on its stand-in."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from function_engine import FunctionEngine
from torch.overrides import TorchFunctionMode
from torch.profiler import ProfilerActivity, profile

from hybridstitch import HybridStitch
from hybridstitch.engines.executors import tensorrt_engine
from hybridstitch.engines.executors.tensorrt_engine import TensorRTEngine
from hybridstitch.engines.store.folder import Store
from hybridstitch.method.guidance import halves
from hybridstitch.method.program import make_program
from hybridstitch.method.size import Size
from hybridstitch.method.state import STATE, TREND
from hybridstitch.pairs.parameters import make_parameters
from hybridstitch.runtime.memory import predict
from hybridstitch.runtime.specification import Shape, Specification, specification
from hybridstitch.runtime.workspace import Workspace
from tests.engines import fake_tensorrt
from tests.engines.handmade import make_recipe

ATTENTIONS, TOKENS, BATCH = 5, 16, 2


@pytest.fixture
def manifests(built):
    store = Store(built)
    large = replace(fake_tensorrt.with_attentions(store.manifest("large"), ATTENTIONS), backend="tensorrt")
    return {"large": large, "small": store.manifest("small"), "vae_decoder": store.manifest("small")}


@pytest.fixture
def engine(manifests, tmp_path, monkeypatch):
    (tmp_path / "plan").write_bytes(b"plan")
    monkeypatch.setattr(fake_tensorrt.Plan, "manifest", manifests["large"], raising=False)
    monkeypatch.setattr(tensorrt_engine, "tensorrt_module", lambda backend: fake_tensorrt)
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: SimpleNamespace(cuda_stream=0))
    return TensorRTEngine(manifests["large"], tmp_path / "plan", device=torch.device("cpu"))


MOVING: dict[str, Any] = {
    "large_steps": 2,
    "hybrid_steps": 4,
    "refresh_every": 1,
    "score": "change",
    "sketch": "held",
    "extrapolate": 0.5,
    "correct": "on",
}


@pytest.mark.parametrize(
    ("method", "settings"),
    [("large", {}), ("small", {}), ("hybrid", {}), ("hybrid", MOVING), ("srdiffusion", {}), ("t-stitch", {})],
)
@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_the_tensors_of_a_run_are_those_that_were_predicted(manifests, engine, method, settings, guidance):
    recipe = make_recipe()
    parameters = make_parameters(recipe, method, steps=6, guidance=guidance, **settings)
    masked = parameters.masked_tokens(TOKENS, recipe.profiles.token_bucket)
    session = engine.session()
    workspace = Workspace(
        {
            "large": session,
            "small": FunctionEngine(manifests["small"], dict),
            "vae_decoder": FunctionEngine(manifests["vae_decoder"], dict),
        },
        lambda: {name: torch.randn(TOKENS, 4) for name in ("large", "small")},
        Shape.of(Size.parse("32x32"), BATCH, BATCH * halves(guidance), masked, make_program(parameters)),
    )
    predicted = predict(manifests, recipe, parameters, Size.parse("32x32"), BATCH)
    moving = workspace.earlier.values()
    keys = [*workspace.fresh.values(), *workspace.frozen.values(), *moving, *session._spare.values()]
    assert predicted.keys_values == sum(tensor.nbytes for tensor in keys) > 0
    others = [*(getattr(workspace.state, name) for name in STATE), *workspace.io.values()]
    others += [getattr(workspace.state.trend, name) for name in TREND if workspace.state.trend]
    assert bool(moving) == bool(workspace.state.trend) == bool(settings)
    assert predicted.latents == sum(tensor.nbytes for tensor in others) > 0


def test_keys_and_values_that_move_on_take_no_more_than_those_of_two_full_steps_and_one_tensor(manifests):
    def needed(**settings: Any) -> Specification:
        parameters = make_parameters(make_recipe(), "hybrid", steps=6, guidance=1.0, **{**MOVING, **settings})
        masked = parameters.masked_tokens(TOKENS, make_recipe().profiles.token_bucket)
        return specification(manifests, Shape.of(Size.parse("32x32"), BATCH, BATCH, masked, make_program(parameters)))

    found = needed(mask_ratio=0.4)
    assert found.keys_values == 2 * found.fresh_bytes + found.earlier["moved"].bytes
    for settings in ({"mask_ratio": 0.0}, {"mask_ratio": 1.0}, {"extrapolate": 0.0}):  # there is nothing to move
        assert needed(**settings).earlier_bytes == 0
    assert needed(extrapolate=0.0).trend_bytes > 0
    assert needed(extrapolate=0.0, correct="off").trend_bytes == 0


class Moves(TorchFunctionMode):
    """Notes the shape of every tensor that is moved to a device."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.Tensor.to and any(isinstance(value, torch.device) for value in args):
            self.shapes.append(tuple(args[0].shape))
        return func(*args, **(kwargs or {}))


def test_of_a_position_table_only_the_crop_goes_to_the_device(demo_engines):
    with Moves() as moves:
        pipe = HybridStitch.load("demo", engines=demo_engines)
        pipe("a large plain green heart on a grey background", steps=2, large_steps=1, hybrid_steps=1)
    widths = {pipe._positions[name].shape[-1] for name in ("large", "small")}
    moved = {shape for shape in moves.shapes if shape[-1:] and shape[-1] in widths}
    assert moved == {(256, width) for width in widths}


MOVING_ON = {"sketch": "held", "score": "change", "residual": "off", "extrapolate": 0.5, "correct": "on"}


@pytest.mark.parametrize(
    "settings",
    [
        {"method": "large", "steps": 3},
        {"steps": 6, "large_steps": 3, "hybrid_steps": 2},
        {"steps": 6, "large_steps": 4, "hybrid_steps": 2, **MOVING_ON},
    ],
)
@pytest.mark.parametrize("prompts", [["a red star"], ["a red star", "a blue ring"]])
def test_what_the_allocator_holds_after_a_whole_run_is_what_was_predicted_to_the_byte(demo_engines, settings, prompts):
    with HybridStitch.load("demo", engines=demo_engines, threads=1) as pipe:
        requests = pipe.resolve(prompts, **settings)
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            pipe.run(requests)
        manifests = {name: engine.manifest for name, engine in pipe.engines.items()}
        parameters, size = requests[0].parameters, requests[0].size
        predicted = predict(manifests, pipe.recipe, parameters, size, len(prompts))
    held = most = 0
    events: Any = profiler.profiler.kineto_results.events()  # type: ignore[union-attr]  # it has run
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes() if event.name() == "[memory]" else 0
        most = max(most, held)
    tensors = predicted.keys_values + predicted.latents
    assert held == tensors
    assert most <= 1.3 * tensors  # pictures on their way out, scores, one clean-image estimate
