"""TensorRT for RTX builds its plans without a GPU, so the real builder is tested here; what a builder may do wrong is
played in test_tensorrt_child.py."""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from types import SimpleNamespace

import onnx
import pytest
import torch
from onnx import helper

from hybridstitch.engines.builders import tensorrt_plan as tensorrt_build
from hybridstitch.engines.builders.build_pair import build_pair
from hybridstitch.engines.builders.exported_graph import read_graph
from hybridstitch.engines.builders.options import RTX_TARGETS, BuildOptions
from hybridstitch.engines.store.folder import Store
from hybridstitch.export.write import write_component as export_component
from hybridstitch.method.errors import HybridStitchError
from hybridstitch.method.progress import silent
from hybridstitch.models.digests import Digests
from hybridstitch.models.sd3.components import text_shape, transformer
from hybridstitch.pairs.recipe import Recipe

from ..models.architectures import ARCHITECTURES
from ..models.checkpoints import recipe_of, save_checkpoint
from .handmade import make_recipe, name_hashes, open_engine, write_export

pytestmark = pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="needs the rtx extra")
REPOSITORY = Path(__file__).parents[2]
PROFILES = ["full", "masked-15", "masked-30", "masked-50", "masked-over"]
ONE = BuildOptions(compute_capabilities=("SM89",))


def build(export: Path, folder: Path, component: str = "large", **options):
    return build_pair(make_recipe(), export, folder, "tensorrt_rtx", components=[component], **options)


@pytest.fixture
def export(tmp_path):
    return write_export(tmp_path / "onnx")


def test_one_plan_holds_the_full_run_and_every_masked_one(export, tmp_path):
    said = []
    report = build(export, tmp_path / "plans", progress=said.append)
    manifest = Store(tmp_path / "plans").manifest("large")
    assert [profile.name for profile in manifest.profiles][:2] == ["full", "masked-15"]
    assert [path.name.split("-")[0] for path in sorted((tmp_path / "plans" / "large").glob("*.plan"))] == ["plan"]
    assert report.components[0].bytes > 10_000
    phases = {progress.what for progress in said}
    assert {"large: parsing", "large: Building engine", "large: built"} <= phases
    assert all(0 <= progress.done <= progress.total for progress in said if progress.total)
    assert build(export, tmp_path / "plans").components[0].state == "unchanged"


def test_a_transformer_with_dual_attention_builds_with_full_and_masked_profiles(tmp_path):
    checkpoint = save_checkpoint(tmp_path / "checkpoint", **ARCHITECTURES["dual attention"])
    recipe = recipe_of(checkpoint, checkpoint, profiles={"sizes": ["16x16"], "token_bucket": 2})
    component = transformer(checkpoint, "large", text_shape(checkpoint, 16), torch.float32, keeps_keys=True)
    export_component(component, tmp_path / "onnx" / "large", digests=Digests(tmp_path), report=silent)
    name_hashes(tmp_path / "onnx", recipe.name)
    build_pair(recipe, tmp_path / "onnx", tmp_path / "plans", "tensorrt_rtx", options=ONE)
    manifest = Store(tmp_path / "plans").manifest("large")
    assert "frozen_value.2" in manifest.inputs
    assert [profile.name for profile in manifest.profiles] == PROFILES


MEDIUM = {  # the width of Stable Diffusion 3 medium, in two of its layers
    "num_attention_heads": 24,
    "attention_head_dim": 64,
    "caption_projection_dim": 1536,
    "joint_attention_dim": 4096,
    "pooled_projection_dim": 2048,
    "pos_embed_max_size": 32,
    "num_layers": 2,
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "attention",
    [{}, {"qk_norm": "rms_norm", "dual_attention_layers": (0,)}],
    ids=["sd3", "sd35"],
)
def test_a_model_of_sd3_medium_s_width_builds_in_bfloat16_with_full_and_masked_profiles(tmp_path, attention):
    checkpoint = save_checkpoint(tmp_path / "checkpoint", dtype=torch.bfloat16, **MEDIUM, **attention)
    profiles = {"sizes": ["128x128"], "mask_ratios": [0.3]}
    recipe = recipe_of(checkpoint, checkpoint, dtype="bfloat16", profiles=profiles, defaults={"size": "128x128"})
    component = transformer(checkpoint, "large", text_shape(checkpoint, 16), torch.bfloat16, keeps_keys=True)
    export_component(component, tmp_path / "onnx" / "large", digests=Digests(tmp_path), report=silent)
    name_hashes(tmp_path / "onnx", recipe.name)
    build_pair(recipe, tmp_path / "onnx", tmp_path / "plans", "tensorrt_rtx", options=ONE)
    manifest = Store(tmp_path / "plans").manifest("large")
    assert {spec.dtype for name, spec in manifest.inputs.items() if name != "timestep"} == {"bfloat16"}
    assert [profile.name for profile in manifest.profiles] == ["full", "masked-30", "masked-over"]
    assert manifest.profiles[0].ranges["M"][2] == 1024


@pytest.mark.parametrize("component", ["small", "text_encoder", "text_encoder_2", "vae_decoder"])
def test_the_demo_pair_builds(demo_onnx, tmp_path, component):
    recipe = Recipe.load("demo")
    report = build_pair(recipe, demo_onnx, tmp_path, "tensorrt_rtx", components=[component], options=ONE)
    assert report.components[0].state == "built"


def test_the_demo_pair_s_large_model_builds_into_one_plan(demo_onnx, tmp_path):
    demo = Recipe.load("demo")
    quick = demo.model_copy(update={"profiles": demo.profiles.model_copy(update={"mask_ratios": (0.3,)})})
    build_pair(quick, demo_onnx, tmp_path, "tensorrt_rtx", components=["large"], options=ONE)
    names = [profile.name for profile in Store(tmp_path).manifest("large").profiles]
    assert names == ["full", "masked-30", "masked-over"]


@pytest.mark.slow
def test_the_demo_pair_s_large_model_builds_for_every_bucket_and_gpu(demo_onnx, tmp_path):
    build_pair(Recipe.load("demo"), demo_onnx, tmp_path, "tensorrt_rtx", components=["large"])
    assert [profile.name for profile in Store(tmp_path).manifest("large").profiles] == PROFILES


def test_without_a_gpu_plans_are_for_every_desktop_gpu_that_knows_the_dtype(export, tmp_path):
    build(export, tmp_path, "small")
    manifest = Store(tmp_path).manifest("small")
    assert manifest.targets == ("SM80", "SM86", "SM89", "SM120")
    assert {"SM75", *manifest.targets} == set(RTX_TARGETS)


def test_what_the_builder_says_comes_back(export, tmp_path):
    with pytest.raises(
        HybridStitchError, match=r"tensorrt_rtx could not build small: .*Turing \(SM75\): FP32 GEMM is not"
    ):
        build(export, tmp_path, "small", options=BuildOptions(compute_capabilities=("SM75",)))
    assert not list(tmp_path.rglob("plan-*"))


def test_a_node_that_tensorrt_does_not_know_is_named_with_its_module(export, tmp_path):
    path = export / "small" / "model.onnx"
    model = onnx.load(path, load_external_data=False)
    model.graph.node[0].CopyFrom(
        helper.make_node(
            "Unheard", ["tokens", "position"], ["state"], name="transformer_blocks.3.attn/Unheard_7", domain="odd"
        )
    )
    model.opset_import.append(helper.make_opsetid("odd", 1))
    onnx.save(model, path)
    expected = (
        r"tensorrt_rtx \S+ cannot take the small graph: node transformer_blocks.3.attn/Unheard_7 \(Unheard of module "
        r"transformer_blocks.3.attn\): "
    )
    with pytest.raises(HybridStitchError, match=expected):
        build(export, tmp_path / "plans", "small")


@pytest.mark.parametrize(
    "said",
    [
        "Could not find any implementation for node {ForeignNode[a...b]}",
        "[virtualMemoryBuffer.cpp::resizePhysical::154] Error Code 2: OutOfMemory (Requested size was 2097152 bytes.)",
        "std::bad_alloc",
    ],
)
def test_too_little_memory_is_told_with_what_is_free_and_what_to_lower(export, said):
    graph = read_graph(export / "large")
    manifest = SimpleNamespace(name="large", backend="tensorrt", backend_version="11.0")
    errors = ["first of all", said]
    message = tensorrt_build._builder_trouble(graph, manifest, BuildOptions(workspace_gib=2), errors)  # type: ignore[arg-type]
    assert message.startswith("not enough memory to build large with tensorrt: ")
    assert "GiB of host memory free" in message
    assert "a workspace of 2 GiB; lower the recipe's batch_sizes or sizes" in message
    assert said in message


def test_ctrl_c_stops_a_build_and_leaves_nothing_half_built(demo_onnx, tmp_path):
    program = textwrap.dedent(f"""
        from hybridstitch.engines.builders.build_pair import build_pair
        from hybridstitch.pairs.recipe import Recipe
        build_pair(Recipe.load("demo"), {str(demo_onnx)!r}, {str(tmp_path)!r}, "tensorrt_rtx", components=["large"],
                   progress=lambda now: print(now.what, now.done, flush=True))
    """)
    process = subprocess.Popen([sys.executable, "-c", program], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("large: Building engine"):
            break
    process.send_signal(signal.SIGINT)
    start = time.monotonic()
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert time.monotonic() - start < 30
    assert not list((tmp_path / "large").iterdir())


def test_running_a_plan_without_a_gpu_is_refused_in_a_line(tmp_path):
    with pytest.raises(
        HybridStitchError, match=r"no GPU for backend tensorrt_rtx: torch .*; on a CPU use --backend onnx"
    ):
        open_engine(tmp_path, "large", backend="tensorrt_rtx")
