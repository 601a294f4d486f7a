"""What several folders of tests share: the demo pair, exported and built once."""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from hybridstitch.engines.builders.build_pair import build_pair
from hybridstitch.evaluation.cases import DEMO_CASES
from hybridstitch.evaluation.speed import bench as benches
from hybridstitch.evaluation.speed.bench_report import BenchReport
from hybridstitch.export import write
from hybridstitch.export.export_pair import export_pair
from hybridstitch.models.dtypes import BY_NAME
from hybridstitch.models.sd3.components import clip_text_encoder, text_shape, transformer, vae_decoder, vae_factor
from hybridstitch.pairs.recipe import Recipe
from hybridstitch.runtime.pipeline import HybridStitch
from hybridstitch.verify.report import Report
from hybridstitch.verify.verify_pair import verify_pair

from .engines.handmade import make_recipe, write_export
from .function_engine import Tampered
from .traced_once import traced_once

# A shell that starts a command in the background has it ignore Ctrl-C, and its children with it: the tests of
# cancelling would then wait for a signal that never arrives.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# One thread of PyTorch for each process of tests: two pools of two threads on two cores wait for each other at every
# small operation, which takes many times as long.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def exported(tmp_path_factory) -> Path:
    """The export of a tiny pair; not to be changed."""
    return write_export(tmp_path_factory.mktemp("onnx"))


@pytest.fixture(scope="session")
def built(exported, tmp_path_factory) -> Path:
    """Its engines for ONNX Runtime; not to be changed."""
    folder = tmp_path_factory.mktemp("build") / "mini" / "onnxruntime"
    build_pair(make_recipe(), exported, folder)
    return folder


@pytest.fixture(scope="session")
def this_run(tmp_path_factory) -> Path:
    """A folder of this run that all its processes see."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session", autouse=True)
def graphs_are_traced_once(this_run) -> Iterator[None]:
    """Whatever test exports a component, its graph is traced by the first process that needs it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(write, "trace", traced_once(write.trace, this_run / "traced"))
        yield


@pytest.fixture(scope="session")
def shared(this_run) -> Path:
    """Where the demo pair is built: a folder of this run, or HYBRIDSTITCH_TEST_DEMO, in which the next run finds it."""
    folder = Path(os.environ.get("HYBRIDSTITCH_TEST_DEMO") or this_run)
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def demo_onnx(shared) -> Path:
    """The demo pair as ONNX: exported by the first process that asks, found unchanged by the others."""
    recipe = Recipe.load("demo")
    if not (shared / "onnx").exists():
        _trace(recipe)
    with FileLock(shared / "onnx.lock"):
        export_pair(recipe, shared / "onnx")
    return shared / "onnx"


def _trace(recipe: Recipe) -> None:
    """Trace its components, every second process from the end on, so that two that wait for them share the work."""
    large, small = recipe.checkpoint("large"), recipe.checkpoint("small")
    text, dtype = text_shape(large, recipe.max_sequence_length), BY_NAME[recipe.dtype].torch
    components = [
        transformer(large, "large", text, dtype, keeps_keys=True),
        *(clip_text_encoder(large, name, text, dtype) for name in ("text_encoder", "text_encoder_2")),
        vae_decoder(large, dtype),
        transformer(small, "small", text, dtype, keeps_keys=False, factor=vae_factor(large)),
    ]
    odd = os.environ.get("PYTEST_XDIST_WORKER", "gw0")[-1] in "13579"
    for component in reversed(components) if odd else components:
        write.trace(component)


@pytest.fixture(scope="session")
def demo_engines(shared, demo_onnx) -> Path:
    """The demo pair's ONNX Runtime engines, likewise."""
    with FileLock(shared / "onnxruntime.lock"):
        build_pair(Recipe.load("demo"), demo_onnx, shared / "onnxruntime")
    return shared / "onnxruntime"


@pytest.fixture(scope="session")
def pipe(demo_engines) -> HybridStitch:
    """The demo pair, loaded, on one thread: two beside another process of tests wait for each other."""
    return HybridStitch.load("demo", engines=demo_engines, threads=1)


@pytest.fixture
def tampered(pipe, monkeypatch):
    """Lets a test change what an engine gives: `after(inputs, outputs)` is called after each of its runs."""

    def tamper(name, after):
        monkeypatch.setitem(pipe._sessions, name, Tampered(pipe._sessions[name], after))
        pipe._kept.clear()

    yield tamper
    pipe._kept.clear()


@pytest.fixture(scope="session")
def verified(demo_engines) -> Report:
    """What verify finds in the demo pair's engines."""
    return verify_pair("demo", engines=demo_engines, quick=True)


@pytest.fixture(scope="session")
def bench_report(pipe, this_run) -> BenchReport:
    """A bench of the demo pair, by the first process that asks: two prompts, once, 4 steps and 2, no diffusers."""
    kept = this_run / "bench.pickle"
    with FileLock(this_run / "bench.lock"):
        if not kept.exists():
            kept.write_bytes(pickle.dumps(_quick_bench(pipe)))
    return pickle.loads(kept.read_bytes())


def _quick_bench(pipe: HybridStitch) -> BenchReport:
    options = benches.BenchOptions(repetitions=1, steps=4, fewer_steps=2, diffusers=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(benches, "CALL_TURNS", 3)
        patch.setattr(benches, "PILOT_CASES", 1)
        return benches.bench(pipe, DEMO_CASES[:2], options, ["hybridstitch-trt", "bench"])
