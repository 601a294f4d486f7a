"""The TensorRT executor against a stand-in that keeps TensorRT's rules."""

from __future__ import annotations

import gc
import sys
import weakref
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch.testing import assert_close

from hybridstitch.engines.executors import tensorrt_engine
from hybridstitch.engines.executors.engine import run_once
from hybridstitch.engines.executors.scratch_arena import ScratchArena
from hybridstitch.engines.executors.tensorrt_engine import TensorRTEngine
from hybridstitch.engines.store.folder import Store
from hybridstitch.engines.tensorrt_module import ERRORS_KEPT, make_log, tensorrt_module
from hybridstitch.method.errors import HybridStitchError

from . import fake_tensorrt
from .fake_tensorrt import with_attentions
from .handmade import compute, random_inputs, weights


@pytest.fixture
def plan(tmp_path):
    (tmp_path / "plan").write_bytes(b"plan")
    return tmp_path / "plan"


@pytest.fixture
def manifest(built, monkeypatch):
    manifest = Store(built).manifest("large")
    monkeypatch.setattr(fake_tensorrt.Plan, "manifest", manifest, raising=False)
    monkeypatch.setattr(tensorrt_engine, "tensorrt_module", lambda backend: fake_tensorrt)
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: SimpleNamespace(cuda_stream=0))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    return manifest


@pytest.fixture
def engine(manifest, plan):
    return TensorRTEngine(manifest, plan, device=torch.device("cpu"))


@pytest.fixture
def session(engine):
    return engine.session()


@pytest.mark.parametrize(("tokens", "frozen"), [(16, 0), (4, 12), (7, 5), (15, 1)])
def test_full_and_masked_runs_use_one_plan(session, tokens, frozen):
    inputs = random_inputs(2, tokens, frozen)
    outputs = run_once(session, inputs)
    for name, expected in compute(inputs, weights()).items():
        assert_close(outputs[name], expected)


def test_bound_calls_alternate_between_full_and_masked_for_nothing(engine, session):
    tensors = [random_inputs(2, 16, 0), random_inputs(2, 4, 12)]
    calls = [session.bind(inputs) for inputs in tensors]
    for _ in range(3):
        for inputs, call in zip(tensors, calls, strict=True):
            inputs["tokens"].normal_()
            call.run()
            assert_close(call.outputs["velocity"], compute(inputs, weights())["velocity"])
    contexts = engine._engine.contexts
    assert [(context.profile, context.runs) for context in contexts] == [(0, 3), (1, 3)]
    assert all(context.shape_changes == len(engine.manifest.inputs) for context in contexts)
    tensors = len(engine.manifest.inputs) + len(engine.manifest.outputs)
    assert [context.address_changes for context in contexts] == [tensors] * 2


def test_two_sessions_have_scratch_memory_and_contexts_of_their_own(engine):
    one, other = engine.session(), engine.session()
    first, second = one.bind(random_inputs(2, 16, 0)), other.bind(random_inputs(2, 16, 0))
    assert one._scratch.data_ptr() != other._scratch.data_ptr()
    assert first._execution is not second._execution


def test_unwanted_outputs_do_not_come_back_and_wanted_ones_are_written_in_place(session):
    inputs, velocity = random_inputs(2, 4, 12), torch.full((2, 4, 4), torch.nan)
    outputs = run_once(session, inputs, {"velocity": velocity})
    assert list(outputs) == ["velocity"]
    assert outputs["velocity"] is velocity
    assert_close(velocity, compute(inputs, weights())["velocity"])


@pytest.mark.parametrize("attentions", [1, 2, 5, 8])
def test_keys_that_nobody_wants_share_memory_and_are_whole_while_they_are_read(manifest, plan, monkeypatch, attentions):
    many = with_attentions(manifest, attentions)
    monkeypatch.setattr(fake_tensorrt.Plan, "manifest", many)
    session = TensorRTEngine(many, plan, device=torch.device("cpu")).session()
    for tokens, frozen in [(4, 12), (16, 0), (7, 5)]:
        inputs = dict(random_inputs(2, tokens, frozen))
        for index in range(1, attentions):
            inputs |= {f"frozen_{kind}.{index}": inputs[f"frozen_{kind}.0"].clone() for kind in ("key", "value")}
        before, velocity = {name: tensor.clone() for name, tensor in inputs.items()}, torch.empty(2, tokens, 4)
        run_once(session, inputs, {"velocity": velocity})
        assert_close(velocity, compute(inputs, weights())["velocity"])
        assert all(torch.equal(inputs[name], tensor) for name, tensor in before.items())
    one = 2 * 16 * 4 * 4  # bytes of a key of two rows of 16 tokens
    assert sum(spare.nbytes for spare in session._spare.values()) == 2 * min(attentions, 2) * one


def test_a_larger_call_grows_the_scratch_memory_of_those_that_were_bound_before(session):
    inputs = random_inputs(1, 4, 12)
    small = session.bind(inputs)
    before = session._scratch
    large = session.bind(random_inputs(4, 16, 0))
    assert session._scratch.numel() > before.numel()
    del before
    large.run()
    small.run()
    assert_close(small.outputs["velocity"], compute(inputs, weights())["velocity"])
    after = session._scratch
    session.bind(random_inputs(1, 4, 12))
    assert session._scratch is after


def test_sessions_that_never_run_at_once_share_the_scratch_memory_of_the_one_that_needs_most(engine):
    arena, inputs = ScratchArena(engine.device), random_inputs(1, 4, 12)
    one, other = engine.session(arena), engine.session(arena)
    small = one.bind(inputs)
    before = arena.memory.numel()
    large = other.bind(random_inputs(4, 16, 0))
    assert arena.memory.numel() > before
    assert one._scratch is other._scratch is arena.memory
    large.run()
    small.run()  # it was bound to memory that has moved since
    assert_close(small.outputs["velocity"], compute(inputs, weights())["velocity"])


def test_the_last_session_that_is_closed_gives_shared_scratch_memory_back(manifest, plan, engine):
    arena = ScratchArena(engine.device)
    second = TensorRTEngine(manifest, plan, device=torch.device("cpu"))
    sessions = [each.session(arena) for each in (engine, second)]
    calls = [session.bind(random_inputs(2, 16, 0)) for session in sessions]
    engine.close()
    assert arena.memory.numel()
    calls[1].run()
    second.close()
    assert not arena.memory.numel()


def test_a_call_that_nobody_holds_gives_its_context_back(engine, session):
    session.bind(random_inputs(2, 16, 0))
    gc.collect()
    assert not session._calls


def test_lengths_outside_the_profiles_never_reach_tensorrt(engine, session):
    with pytest.raises(HybridStitchError, match="large engine: 24 tokens; this plan has 1-16"):
        run_once(session, random_inputs(2, 24, 0))
    assert not engine._engine.contexts


def test_a_run_that_fails_tells_tensorrt_s_reason_in_a_line(session):
    inputs = random_inputs(2, 16, 0)
    inputs["tokens"][0, 0, 0] = torch.nan
    with pytest.raises(HybridStitchError, match=r"^the large engine failed: CUDA error 700 at somewhere$"):
        run_once(session, inputs)


def test_an_address_that_tensorrt_does_not_take_is_told(session, monkeypatch):
    monkeypatch.setattr(fake_tensorrt.Context, "set_tensor_address", lambda self, name, address: name != "velocity")
    with pytest.raises(HybridStitchError, match=r"^the large engine does not take the memory of velocity: TensorRT g"):
        run_once(session, random_inputs(2, 16, 0))


def test_a_plan_that_tensorrt_does_not_read_is_told(manifest, plan):
    plan.write_bytes(b"something else")
    with pytest.raises(HybridStitchError, match=r"onnxruntime cannot read \S+plan: Serialization assertion"):
        TensorRTEngine(manifest, plan, device=torch.device("cpu"))


def test_a_plan_with_other_profiles_than_its_manifest_is_refused(manifest, plan, monkeypatch):
    engine_of = fake_tensorrt.Plan.__init__

    def fewer(self, log):
        engine_of(self, log)
        self.num_optimization_profiles -= 1

    monkeypatch.setattr(fake_tensorrt.Plan, "__init__", fewer)
    with pytest.raises(HybridStitchError, match="the plan of large is not the one that its manifest describes"):
        TensorRTEngine(manifest, plan, device=torch.device("cpu"))


def test_a_closed_engine_says_so(engine, session):
    call = session.bind(random_inputs(2, 16, 0))
    engine.close()
    engine.close()
    for use in (engine.session, lambda: session.bind(random_inputs(2, 16, 0)), call.run):
        with pytest.raises(HybridStitchError, match="the large engine is closed"):
            use()


def test_tensorrt_opens_runs_and_closes_with_the_named_gpu_as_the_current_one(manifest, plan, monkeypatch):
    current, seen = ["another"], {}

    @contextmanager
    def make_current(device):
        current.append(str(device))
        yield
        current.pop()

    def note(what, does):
        def noted(*arguments):
            seen[what] = current[-1]
            return does(*arguments)

        return noted

    monkeypatch.setattr(torch.cuda, "device", make_current)
    for where, what in [
        (fake_tensorrt.Runtime, "deserialize_cuda_engine"),
        (fake_tensorrt.Plan, "create_execution_context"),
        (fake_tensorrt.Context, "execute_async_v3"),
    ]:
        monkeypatch.setattr(where, what, note(what, getattr(where, what)))
    engine = TensorRTEngine(manifest, plan, device=torch.device("cpu"))
    run_once(engine.session(), random_inputs(2, 16, 0))
    weakref.finalize(engine._runtime, note("close", lambda: None))
    engine.close()
    assert seen == dict.fromkeys(
        ("deserialize_cuda_engine", "create_execution_context", "execute_async_v3", "close"), "cpu"
    )


@pytest.mark.parametrize(
    ("name", "gives", "words"),
    [
        ("create_execution_context", None, "cannot use its profile full"),
        ("set_optimization_profile_async", False, "cannot use its profile full"),
        ("set_input_shape", False, r"refuses tokens of shape \[2, 16, 4\]"),
        ("set_tensor_address", False, "does not take the memory of tokens"),
        ("execute_async_v3", False, "failed"),
    ],
)
def test_a_failure_is_not_explained_with_the_reason_of_an_earlier_one(session, monkeypatch, name, gives, words):
    broken = random_inputs(2, 16, 0)
    broken["tokens"][0, 0, 0] = torch.nan
    with pytest.raises(HybridStitchError, match="CUDA error 700"):
        run_once(session, broken)
    owner = fake_tensorrt.Plan if name == "create_execution_context" else fake_tensorrt.Context
    monkeypatch.setattr(owner, name, lambda *_: gives)
    with pytest.raises(HybridStitchError, match=rf"^the large engine {words}: TensorRT gave no reason$"):
        run_once(session, random_inputs(2, 16, 0))


def test_the_reasons_since_a_call_began_are_quoted_however_many_came_before():
    log, severity = make_log(fake_tensorrt), fake_tensorrt.ILogger.Severity
    for index in range(2 * ERRORS_KEPT):
        log.log(severity.ERROR, f"old {index}")
    before = log.count
    assert log.last_error(before) == "TensorRT gave no reason"
    log.log(severity.ERROR, "new")
    log.log(severity.ERROR, "newer")
    assert (log.first_error(before), log.last_error(before)) == ("new", "newer")


def test_the_log_keeps_the_latest_errors_and_no_warnings():
    log, severity = make_log(fake_tensorrt), fake_tensorrt.ILogger.Severity
    assert log.last_error() == "TensorRT gave no reason"
    log.log(severity.ERROR, "first\n   line")
    log.log(severity.WARNING, "a warning")
    log.log(severity.INTERNAL_ERROR, "second")
    log.log(severity.INFO, "noise")
    assert log.errors() == ["first\n   line", "second"]
    assert (log.first_error(), log.last_error()) == ("first line", "second")
    for index in range(1000):
        log.log(severity.ERROR, f"error {index}")
    assert (len(log.errors()), log.last_error()) == (ERRORS_KEPT, "error 999")


def test_a_tensorrt_that_is_too_old_is_refused(monkeypatch):
    monkeypatch.setattr("hybridstitch.engines.backends.metadata.version", lambda package: "10.7.0")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    with pytest.raises(HybridStitchError, match=r"backend tensorrt needs TensorRT 10.8 or later; here is 10.7.0"):
        tensorrt_module("tensorrt")


def test_a_tensorrt_whose_libraries_do_not_load_is_told(monkeypatch):
    monkeypatch.setattr("hybridstitch.engines.backends.metadata.version", lambda package: "11.4.0")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(HybridStitchError, match=r"backend tensorrt: TensorRT 11.4.0 does not load: "):
        tensorrt_module("tensorrt")
