"""Verifying an engine: where it is called, what it is given, and what counts as wrong."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from damage import damage, one_weight, swap_keys_and_values
from function_engine import FunctionEngine

from hybridstitch.engines.profiles import Profile
from hybridstitch.engines.store.manifest import Manifest
from hybridstitch.models.family import FAMILIES
from hybridstitch.verify.call_cases import cases_for
from hybridstitch.verify.compare import CALL_BOUNDS, RUN_BOUNDS, compare, precision
from hybridstitch.verify.engine import CaseReport, verify_engine
from hybridstitch.verify.inputs import Material, inputs_for, picture_like

from ..engines.handmade import GEOMETRY, compute, open_engine, weights

BOUNDS = CALL_BOUNDS["float32"]


def computing(manifest: Manifest) -> FunctionEngine:
    """What the tiny large model is to compute, at any lengths."""
    return FunctionEngine(manifest, lambda inputs: compute(dict(inputs), weights()))


@pytest.fixture(scope="module")
def material() -> Material:
    generator = torch.Generator().manual_seed(3)
    sigmas = torch.linspace(1, 0.1, 8)
    return Material(
        family=FAMILIES[0],
        device=torch.device("cpu"),
        channels=1,
        seed=0,
        text=torch.randn(5, GEOMETRY.text_tokens, 4, generator=generator),
        pooled=torch.randn(5, 4, generator=generator),
        input_ids={},
        positions={"large": torch.randn(8, 8, 4, generator=generator)},
        sigmas=sigmas,
        timesteps=sigmas,  # the tiny model adds them as they are
    )


@pytest.fixture
def mine(built, tmp_path) -> Path:
    """The tiny pair's engines, to be changed."""
    return Path(shutil.copytree(built, tmp_path / "onnxruntime"))


def verify(folder: Path, material: Material) -> list[CaseReport]:
    engine = open_engine(folder, "large", backend="onnxruntime", threads=1)
    return verify_engine(engine, computing(engine.manifest), cases_for(engine.manifest), material)


def failures(reports: list[CaseReport]) -> list[str]:
    return [line for report in reports for line in report.failures]


def test_every_profile_is_called_at_its_corners_and_in_between(built):
    manifest = open_engine(built, "large", backend="onnxruntime").manifest
    cases = cases_for(manifest)
    called = [dict(case.lengths) for case in cases]
    for profile in manifest.profiles:
        for end in range(3):
            assert {symbol: found[end] for symbol, found in profile.ranges.items()} in called
    assert {case.profile for case in cases} == {profile.name for profile in manifest.profiles}
    assert len({tuple(lengths.items()) for lengths in called}) == len(called)
    assert all(any(profile.admits(lengths) for profile in manifest.profiles) for lengths in called)


def test_lengths_in_between_are_odd_so_that_no_bucket_has_them(built):
    manifest = open_engine(built, "large", backend="onnxruntime").manifest
    wide = replace(manifest, profiles=(Profile("wide", {"B": (1, 2, 8), "M": (16, 64, 128), "F": (32, 64, 112)}),))
    between = [case.lengths for case in cases_for(wide) if "between" in case.place]
    assert [dict(lengths) for lengths in between] == [{"B": 3, "M": 53, "F": 59}, {"B": 5, "M": 91, "F": 85}]


def test_a_quick_verification_still_calls_every_profile(built):
    manifest = open_engine(built, "large", backend="onnxruntime").manifest
    quick, thorough = cases_for(manifest, quick=True), cases_for(manifest)
    assert len(quick) < len(thorough) / 2
    assert {case.profile for case in quick} == {case.profile for case in thorough}


def test_a_healthy_engine_is_within_bounds_in_every_case(built, material):
    reports = verify(built, material)
    assert failures(reports) == []
    assert {found.output for report in reports for found in report.comparisons} == {"velocity", "key.0", "value.0"}


def test_inputs_are_the_same_for_a_seed_and_different_in_every_row(built, material):
    engine = open_engine(built, "large", backend="onnxruntime", threads=1)
    lengths = {"B": 4, "M": 5, "F": 7, "T": GEOMETRY.text_tokens}
    reference = computing(engine.manifest)
    inputs, again = (inputs_for(engine, lengths, material, reference) for _ in range(2))
    other = inputs_for(engine, lengths, replace(material, seed=1), reference)
    assert all(torch.equal(inputs[name], again[name]) for name in inputs)
    assert not torch.equal(inputs["tokens"], other["tokens"])
    assert len(set(inputs["timestep"].tolist())) == 4
    for name, tensor in inputs.items():
        assert tensor.shape[0] == 4
        assert not torch.equal(tensor[0], tensor[1]), name


def test_frozen_keys_are_those_of_a_full_call_on_the_other_tokens(built, material):
    engine = open_engine(built, "large", backend="onnxruntime", threads=1)
    calls = []

    def full(inputs):
        calls.append({**inputs, **compute(dict(inputs), weights())})
        return calls[-1]

    lengths = {"B": 2, "M": 5, "F": 7, "T": 3}
    inputs = inputs_for(engine, lengths, material, FunctionEngine(engine.manifest, full))
    (call,) = calls
    assert call["tokens"].shape[1] == 12
    for row in range(2):
        frozen = {tuple(key.tolist()) for key in inputs["frozen_key.0"][row, 0]}
        every = {tuple(key.tolist()) for key in call["key.0"][row, 0]}
        assert len(frozen) == 7
        assert frozen < every


def test_latents_look_like_a_pictures():
    latents = picture_like((2, 4, 32, 40), torch.Generator().manual_seed(0))
    assert latents.shape == (2, 4, 32, 40)
    assert float(latents.std()) == pytest.approx(1, abs=0.05)
    neighbours = (latents[..., 1:] - latents[..., :-1]).std()
    assert neighbours < 0.7  # noise of the same size: 1.41


@pytest.mark.parametrize("matrix", range(4))
def test_one_weight_whose_sign_is_flipped_is_caught(mine, material, matrix):
    damage(mine, "large", one_weight(lambda value: -value, matrix=matrix))
    assert any("relative L2" in line for line in failures(verify(mine, material)))


def test_swapped_keys_and_values_are_caught_and_named(mine, material):
    damage(mine, "large", swap_keys_and_values)
    lines = failures(verify(mine, material))
    assert any(", key.0: relative L2" in line for line in lines)
    assert any(", value.0: relative L2" in line for line in lines)
    assert not any("velocity" in line for line in lines)


def test_nan_is_caught_and_its_share_told(mine, material):
    damage(mine, "large", one_weight(lambda _: float("nan")))
    lines = failures(verify(mine, material))
    assert any("it gave NaN or infinity" in line for line in lines)


def test_an_engine_that_cannot_run_lengths_of_its_own_profile_is_a_failure(built, material):
    engine = open_engine(built, "large", backend="onnxruntime", threads=1)

    def refuse(inputs):
        raise RuntimeError("Could not find any implementation\nfor node {ForeignNode}")

    cases = cases_for(engine.manifest, quick=True)
    reports = verify_engine(FunctionEngine(engine.manifest, refuse), computing(engine.manifest), cases, material)
    assert len(failures(reports)) == len(cases)
    assert failures(reports)[0].endswith("it cannot run: Could not find any implementation for node {ForeignNode}")


def test_no_room_for_engine_and_reference_is_one_line(built, material):
    from hybridstitch.method.errors import HybridStitchError

    engine = open_engine(built, "large", backend="onnxruntime", threads=1)

    def grow(inputs):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(HybridStitchError, match="not enough memory to verify large"):
        verify_engine(
            FunctionEngine(engine.manifest, grow), computing(engine.manifest), cases_for(engine.manifest), material
        )


def test_one_wrong_token_among_thousands_is_caught_though_the_whole_hardly_changes():
    reference = torch.randn(1, 4096, 64, generator=torch.Generator().manual_seed(0))
    output = reference.clone()
    output[0, -1] = 0
    found = compare("velocity", output, reference, CALL_BOUNDS["bfloat16"])
    assert found.relative_l2 is not None
    assert found.relative_l2 < CALL_BOUNDS["bfloat16"].relative_l2
    assert found.problem is not None
    assert found.problem.startswith("worst row")


def test_rounding_to_a_dtype_is_within_its_bounds_and_not_within_the_finer_ones():
    reference = torch.randn(4, 256, 64, generator=torch.Generator().manual_seed(0))
    for dtype, finer in (("float16", "float32"), ("bfloat16", "float32")):
        rounded = reference.to(getattr(torch, dtype)).float()
        for table in (CALL_BOUNDS, RUN_BOUNDS):
            assert compare("velocity", rounded, reference, table[dtype]).problem is None
            assert compare("velocity", rounded, reference, table[finer]).problem is not None


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (torch.zeros(2, 3), "it gave only zeros"),
        (torch.full((2, 3), torch.inf), "it gave NaN or infinity"),
        (torch.ones(3, 2), "shape [3, 2], not [2, 3]"),
        (-torch.ones(2, 3), "1 - cosine 2, at most"),
    ],
)
def test_what_is_wrong_with_an_output_is_said_in_words(output, words):
    assert words in str(compare("velocity", output, torch.ones(2, 3), BOUNDS).problem)


def test_a_reference_that_overflows_is_no_proof_of_anything():
    broken = torch.full((2, 3), torch.nan)
    assert "cannot be judged: the reference gave NaN or infinity" in str(
        compare("key.0", broken, broken, BOUNDS).problem
    )


def test_tensorrt_may_round_float32_to_tf32():
    assert precision("float32", "onnxruntime") == "float32"
    assert precision("float32", "tensorrt") == "float16"
    assert precision("bfloat16", "tensorrt_rtx") == "bfloat16"
