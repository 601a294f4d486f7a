"""One call of each engine is timed in turns, and a masked one beside its share of the operations."""

from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from weakref import WeakSet

import pytest
import torch
from function_engine import FunctionCall, FunctionEngine
from small_pair import SmallPair

from hybridstitch.engines.profiles import Profile
from hybridstitch.evaluation.cost.operations import count_operations
from hybridstitch.evaluation.speed.calls import CallTime, call_lengths, masked_tokens, measure_calls, spread
from hybridstitch.method.errors import HybridStitchError
from hybridstitch.models.component import Component
from hybridstitch.models.sd3.token_transformer import TokenTransformer
from hybridstitch.models.tensors import TensorSpec


def test_a_calls_time_is_the_median_of_its_repetitions():
    masked = CallTime("masked", {}, (1.0, 4.0, 0.5), full=(2.0, 8.0, 2.0))
    assert masked.median == 1.0
    assert masked.per_second == 1.0
    assert masked.share == (0.5, (0.375, 0.5))


def test_every_bucket_that_a_profile_holds_is_a_masked_call():
    manifest: Any = SimpleNamespace(
        profiles=(
            Profile("full", {"B": (2, 2, 2), "M": (64, 64, 64), "F": (0, 0, 0)}),
            Profile("masked", {"B": (2, 2, 2), "M": (8, 16, 32), "F": (32, 48, 56)}),
        )
    )
    assert masked_tokens(manifest, {"B": 2, "M": 64, "F": 0}, 8) == [8, 16, 24, 32]
    assert masked_tokens(manifest, {"B": 1, "M": 64, "F": 0}, 8) == []


def test_a_spread_keeps_the_ends_and_what_must_be_there():
    assert spread(range(10), 4, always=[5, 99]) == [0, 3, 5, 6, 9]
    assert spread([7], 4) == [7]
    assert spread([], 4) == []


def counted(module: TokenTransformer, rows: int, computed: int, frozen: int, text: int) -> int:
    """The operations of a call of a small pair's transformer."""
    specs = {
        "tokens": TensorSpec("float32", ("B", "M", module.patch_size**2 * module.latent_channels)),
        "position": TensorSpec("float32", ("B", "M", module.heads * module.head_dim)),
        "text": TensorSpec("float32", ("B", "T", module.text_width)),
        "pooled": TensorSpec("float32", ("B", module.pooled_width)),
        "timestep": TensorSpec("float32", ("B",)),
    }
    held = TensorSpec("float32", ("B", module.heads, "F", module.head_dim))
    inputs = {name: specs.get(name, held) for name in module.input_names()}
    transformer = Component("large", Path(), module, torch.float32, inputs, {})
    return count_operations(transformer, {"B": rows, "M": computed, "F": frozen, "T": text})


def test_operations_are_those_of_the_matrix_products():
    pair = SmallPair()
    module: TokenTransformer = pair.engines["small"].module.to("meta")
    rows, image, text, width, heads = 2, 24, 5, 32, 2

    def linear(positions: int, inputs: int, outputs: int) -> int:
        return 2 * rows * positions * inputs * outputs

    def attention(queries: int, keys: int) -> int:
        return 2 * 2 * rows * heads * queries * keys * 16

    condition = linear(1, 256, width) + linear(1, width, width) + linear(1, 12, width) + linear(1, width, width)
    ends = linear(image, 16, width) + linear(text, 24, width) + linear(1, width, 2 * width) + linear(image, width, 16)
    block = linear(1, width, 6 * width) + 4 * linear(image, width, width) + 8 * linear(image, width, width)
    first = block + linear(1, width, 6 * width) + 12 * linear(text, width, width)
    first += attention(image + text, image + text)
    last = block + linear(1, width, 2 * width) + 2 * linear(text, width, width) + attention(image, image + text)
    assert counted(module, rows, image, 0, text) == condition + ends + first + last


def test_a_masked_call_has_more_than_its_share_of_tokens_in_operations():
    module = SmallPair().engines["large"].module.to("meta")
    full = counted(module, 2, 24, 0, 5)
    halved = counted(module, 2, 12, 12, 5)
    assert 0.5 < halved / full < 0.6
    assert counted(module, 4, 12, 12, 5) == 2 * halved


def test_calls_of_every_engine_are_timed_as_a_run_makes_them(pipe):
    size = pipe.recipe.defaults.size
    lengths = call_lengths(pipe, size, 3.5)
    assert lengths["large"] == {"B": 2, "M": 256, "F": 0, "T": 25}
    assert call_lengths(pipe, size, 1.0)["small"]["B"] == 1
    calls = {name: (name, found) for name, found in lengths.items()}
    calls["masked"] = ("large", {**lengths["large"], "M": 80, "F": 176})
    found = measure_calls(pipe, calls, 3)
    assert set(found) == {*pipe.engines, "masked"}
    assert all(len(call.seconds) == 3 for call in found.values())
    assert 0.1 < found["masked"].share[0] < 1


def test_calls_take_turns_with_the_full_one_on_the_pipelines_stream_and_no_two_others_are_bound_at_once(monkeypatch):
    ran: list[str] = []
    bound: WeakSet[Any] = WeakSet()
    most: list[int] = []

    def compute(inputs):
        assert on_stream
        ran.append(str(inputs["tokens"].shape[1]))
        most.append(len(bound))
        return {"velocity": torch.zeros(inputs["tokens"].shape)}

    class Call(FunctionCall):
        def __init__(self, *arguments):
            assert on_stream
            super().__init__(*arguments)
            bound.add(self)

    on_stream: list[bool] = []

    @contextmanager
    def stream():
        on_stream.append(True)
        yield
        on_stream.clear()

    spec = {"tokens": TensorSpec("float32", ("B", "M", 4))}
    manifest = SimpleNamespace(
        component="large", inputs=spec, outputs={"velocity": TensorSpec("float32", ("B", "M", 4))}
    )
    engine = FunctionEngine(manifest, compute)
    monkeypatch.setattr(engine, "bind", lambda inputs, outputs: Call(engine, inputs, outputs))
    pipe: Any = SimpleNamespace(engines={"large": engine}, device=engine.device, on_its_stream=stream)
    monkeypatch.setattr("hybridstitch.evaluation.speed.calls.LEAST", 0)
    found = measure_calls(pipe, {f"{count}": ("large", {"B": 1, "M": count}) for count in (16, 4, 8)}, 3)
    assert ran == ["16"] * 5 + ["4"] * 2 + ["16", "4"] * 3 + ["8"] * 2 + ["16", "8"] * 3
    assert max(most) == 2
    assert {name: (len(call.seconds), len(call.full)) for name, call in found.items()} == {
        "16": (3, 0),
        "4": (3, 3),
        "8": (3, 3),
    }


def test_lengths_that_no_profile_holds_are_refused(pipe):
    wrong = {"B": 2, "M": 4000, "F": 176, "T": 25}
    with pytest.raises(HybridStitchError, match="large engine: 4000 tokens"):
        measure_calls(pipe, {"masked": ("large", wrong)}, 1)
