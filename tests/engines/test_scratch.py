"""The memory of activations, as it is told from a graph."""

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, ValueInfoProto, helper

from hybridstitch.engines.builders.scratch import peak_activations


def value(name: str) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", 8])


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    """x -> a -> b -> c, of which a and c are outputs; each is [B, 8] in float32."""
    nodes = [helper.make_node("Exp", [first], [second]) for first, second in ("xa", "ab", "bc")]
    graph = helper.make_graph(nodes, "chain", [value("x")], [value("a"), value("c")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)]), tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


@pytest.mark.parametrize(("keeps_outputs", "held"), [(True, "abc"), (False, "x")])
def test_outputs_count_only_where_the_caller_does_not_bring_their_memory(chain, keeps_outputs, held):
    peak = peak_activations(chain, {"B": 2}, fused_attention=True, keeps_outputs=keeps_outputs)
    assert peak == len(held) * 2 * 8 * 4


def test_a_length_that_nobody_said_is_an_error(chain):
    with pytest.raises(KeyError, match="B"):
        peak_activations(chain, {"M": 2}, fused_attention=True)
