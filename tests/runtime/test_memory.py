"""What `inspect` predicts is what a run allocates; the executor is the one for TensorRT, on its stand-in."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch.overrides import TorchFunctionMode

from hybridstitch import HybridStitch
from hybridstitch.engines.executors import tensorrt_engine
from hybridstitch.engines.executors.tensorrt_engine import TensorRTEngine
from hybridstitch.engines.store.folder import Store
from hybridstitch.method.sampler import sample
from hybridstitch.method.size import Size
from hybridstitch.pairs.plans import make_plan
from hybridstitch.runtime.engine_models import EngineModels
from hybridstitch.runtime.memory import predict
from tests.engines import fake_tensorrt
from tests.engines.handmade import GEOMETRY, make_recipe

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


def small(inputs, outputs):
    outputs["velocity"].copy_(inputs["tokens"])
    return outputs


@pytest.mark.parametrize("method", ["large", "small", "hybrid", "srdiffusion", "t-stitch"])
@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_the_keys_and_values_of_a_run_are_those_that_were_predicted(manifests, engine, method, guidance):
    recipe = make_recipe()
    plan = make_plan(recipe, method, steps=6, guidance=guidance)
    rows = BATCH * (2 if guidance > 1 else 1)
    models = EngineModels(
        engine,
        small,
        geometry=replace(GEOMETRY, attentions=ATTENTIONS),
        large_position=torch.randn(TOKENS, 4),
        small_position=torch.randn(TOKENS, 4),
        text=torch.randn(rows, 3, 4),
        pooled=torch.randn(rows, 4),
        guidance=guidance,
        keep_keys=plan.has_hybrid,
    )
    sigmas = torch.linspace(1, 0, 7)
    sample(models, torch.randn(BATCH, TOKENS, 4), sigmas, sigmas[:-1] * 1000, plan, token_bucket=2)
    allocated = [*models._keys.fresh.values(), *models._keys.frozen.values(), *engine._spare.values()]
    predicted = predict(manifests, recipe, plan, Size.parse("32x32"), BATCH)
    assert predicted.keys_values == sum(tensor.nbytes for tensor in allocated)
    assert (predicted.keys_values == 0) == (method == "small")


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
