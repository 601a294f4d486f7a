"""What ONNX Runtime's builder makes of a graph, and what it says when it cannot build."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import onnx
import pytest
from onnx import TensorProto, helper

from hybridstitch.engines.builders.build_pair import build_pair
from hybridstitch.engines.builders.exported_graph import read_graph
from hybridstitch.engines.builders.onnxruntime_plan import _explain
from hybridstitch.engines.store.folder import Store
from hybridstitch.method.errors import HybridStitchError

from .handmade import make_recipe, write_export


@pytest.fixture
def export(tmp_path):
    return write_export(tmp_path / "onnx")


def add_nodes(export, nodes):
    """Put nodes behind the velocity of the small model."""
    path = export / "small" / "model.onnx"
    model = onnx.load(path, load_external_data=False)
    model.graph.node[-1].output[0] = "before"
    model.graph.node.extend(nodes)
    model.opset_import.append(helper.make_opsetid("odd", 1))
    onnx.save(model, path)


def test_a_dtype_without_kernels_is_told_with_the_one_that_has_them(export, tmp_path):
    nodes = [
        helper.make_node("Cast", ["before"], ["half"], to=TensorProto.BFLOAT16),
        helper.make_node("Add", ["half", "half"], ["double"]),
        helper.make_node("Cast", ["double"], ["velocity"], to=TensorProto.FLOAT),
    ]
    add_nodes(export, nodes)
    with pytest.raises(HybridStitchError, match=r"ONNX Runtime has no CPU kernel for the small graph: .*Add"):
        build_pair(make_recipe(), export, tmp_path / "build", components=["small"])
    graph = replace(read_graph(export / "small"), dtype="bfloat16")
    message = _explain(graph, type("NotImplemented", (Exception,), {})("Add(14)"))
    assert (
        message
        == "ONNX Runtime has no CPU kernel for the small graph of dtype bfloat16; export in float32 for it: Add(14)"
    )


def test_a_graph_that_onnx_runtime_does_not_take_is_told_and_nothing_is_left(export, tmp_path):
    add_nodes(export, [helper.make_node("Unheard", ["before"], ["velocity"], domain="odd")])
    with pytest.raises(HybridStitchError, match=r"ONNX Runtime refuses the small graph: .*Unheard"):
        build_pair(make_recipe(), export, tmp_path / "build", components=["small"])
    with pytest.raises(HybridStitchError, match=r"the small engine of pair '\S+' is not built"):
        Store(tmp_path / "build").manifest("small")
    assert not list((tmp_path / "build" / "small").iterdir())


def test_too_little_memory_is_told_with_the_size_of_the_weights(export):
    message = _explain(read_graph(export / "large"), MemoryError("std::bad_alloc"))
    assert message == "not enough memory to build large: its weights alone take 0.0 GiB (std::bad_alloc)"


@pytest.mark.parametrize("size", ["large", "small"])
def test_norms_of_the_demo_pair_are_one_kernel_each(demo_engines, demo_onnx, size):
    """ONNX Runtime fuses an RMSNorm only as it is written in the graph; in pieces it is seven kernels."""
    (plan,) = (demo_engines / size).glob("plan-*.onnx")
    kernels = Counter(node.op_type for node in onnx.load(plan, load_external_data=False).graph.node)
    model = onnx.load(demo_onnx / size / "model.onnx", load_external_data=False)
    norms = [weight.name for weight in model.graph.initializer if ".norm_" in weight.name and "attn" in weight.name]
    assert len(norms) > 0
    assert kernels["SimplifiedLayerNormalization"] == len(norms)
    assert not {"Pow", "ReduceMean", "Sqrt", "Reciprocal"} & set(kernels)
