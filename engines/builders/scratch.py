"""How much memory a graph's activations take at given lengths: told from the graph, nothing is run.

The peak of what is live at once, when nodes run in the graph's order and a tensor's memory is free after its last use:
what an executor needs that reuses memory perfectly and fuses nothing. A few of the text's tensors, whose shape ONNX
cannot infer, are left out. A fused attention never holds its matrix of logits, so that is left out where a backend
fuses it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
from onnx import ModelProto, TensorProto, ValueInfoProto, helper, shape_inference

from hybridstitch.method.geometry import Geometry
from hybridstitch.pairs.recipe import Recipe

from ..full_lengths import full_lengths
from ..profiles import Profile
from ..store.manifest import Scratch
from .exported_graph import Graph

FUSES_ATTENTION = ("tensorrt", "tensorrt_rtx", "torch")
_IN_PLACE = frozenset(
    {"Reshape", "Unsqueeze", "Squeeze", "Flatten", "Identity"}
)  # their output is their input's memory


def scratch_at(
    graph: Graph, recipe: Recipe, geometry: Geometry, profiles: Sequence[Profile], backend: str
) -> tuple[Scratch, ...]:
    """The activations of a plan in full runs, at those sizes and batches of the recipe that its profiles admit."""
    fused = backend in FUSES_ATTENTION
    shapes = [
        full_lengths(graph.inputs, geometry, size, batch)
        for size in recipe.profiles.sizes
        for batch in recipe.profiles.batch_sizes
    ]
    admitted = [lengths for lengths in shapes if any(profile.admits(lengths) for profile in profiles)]
    distinct = {tuple(lengths.items()): lengths for lengths in admitted}.values()
    return tuple(
        Scratch(
            lengths,
            peak_activations(graph.onnx_file, lengths, fused_attention=fused, keeps_outputs=backend == "torch"),
        )
        for lengths in distinct
    )


def peak_activations(
    graph: Path, lengths: Mapping[str, int], *, fused_attention: bool, keeps_outputs: bool = False
) -> int:
    """Bytes of the activations of an ONNX file, inputs of the graph included.

    Args:
        graph: the file; its weights are not read.
        lengths: of every dynamic dimension of its inputs.
        fused_attention: whether the backend never holds a softmax's input and output.
        keeps_outputs: whether all outputs are there at once at the end, as in torch; elsewhere they are written to
            memory that the caller brings and counts, keys and values above all.

    Raises:
        KeyError: a dynamic dimension that `lengths` does not have.
    """
    model = onnx.load(graph, load_external_data=False)
    sizes = _sizes(_with_lengths(model, lengths))
    weights = {initializer.name for initializer in model.graph.initializer}
    if fused_attention:
        sizes |= dict.fromkeys(_logits(model), 0)
    owner = {
        node.output[0]: node.input[0]
        for node in model.graph.node
        if node.op_type in _IN_PLACE and node.input[0] not in weights
    }

    def home(name: str) -> str:
        while name in owner:
            name = owner[name]
        return name

    last_use = {home(name): step for step, node in enumerate(model.graph.node) for name in node.input}
    outputs = {home(value.name) for value in model.graph.output}
    if keeps_outputs:
        last_use |= dict.fromkeys(outputs, len(model.graph.node))
    else:
        sizes |= dict.fromkeys(outputs, 0)
    live = sum(sizes.get(value.name, 0) for value in model.graph.input if value.name not in weights)
    peak = live
    for step, node in enumerate(model.graph.node):
        live += sum(sizes.get(name, 0) for name in node.output if name not in owner)
        peak = max(peak, live)
        dead = {home(name) for name in node.input if name and last_use[home(name)] == step} - weights
        live -= sum(sizes.get(name, 0) for name in dead)
    return peak


def _with_lengths(model: ModelProto, lengths: Mapping[str, int]) -> ModelProto:
    """The model with its dynamic input dimensions fixed and every shape that follows from them."""
    fixed = ModelProto()
    fixed.CopyFrom(model)
    for value in fixed.graph.input:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                length = lengths[dim.dim_param]
                dim.Clear()
                dim.dim_value = length
    for value in fixed.graph.output:
        for dim in value.type.tensor_type.shape.dim:
            dim.Clear()
    del fixed.graph.value_info[:]
    return shape_inference.infer_shapes(fixed, data_prop=True)


def _is_known(value: ValueInfoProto) -> bool:
    tensor = value.type.tensor_type
    return tensor.elem_type != TensorProto.UNDEFINED and all(dim.HasField("dim_value") for dim in tensor.shape.dim)


def _sizes(model: ModelProto) -> dict[str, int]:
    """Bytes of every tensor whose shape is known."""
    sizes = {}
    for value in (*model.graph.input, *model.graph.value_info, *model.graph.output):
        tensor = value.type.tensor_type
        if _is_known(value):
            dims = [dim.dim_value for dim in tensor.shape.dim]
            sizes[value.name] = math.prod(dims) * helper.tensor_dtype_to_np_dtype(tensor.elem_type).itemsize
    return sizes


def _logits(model: ModelProto) -> set[str]:
    """The tensors between the two products of every attention."""
    maker = {name: node for node in model.graph.node for name in node.output}
    logits: set[str] = set()
    for node in model.graph.node:
        if node.op_type != "Softmax":
            continue
        logits.add(node.output[0])
        waiting = list(node.input)
        while waiting:
            name = waiting.pop()
            producer = maker.get(name)
            if producer is None or producer.op_type not in ("MatMul", "Add", "Mul", "Cast"):
                continue
            logits.add(name)
            if producer.op_type != "MatMul":
                waiting += producer.input
    return logits
