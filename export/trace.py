"""A component -> an ONNX graph, traced on shapes alone: no weight is read, whatever the model's size."""

from __future__ import annotations

import ast
import contextlib
import logging
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import onnx_ir as ir
import torch
from onnx_ir.passes import common
from onnxscript import optimizer
from torch.utils import _pytree as pytree

from hybridstitch.models.component import Component, group_numbered
from hybridstitch.models.tensors import TensorSpec

OPSET = 20
# Weights stay where they are, so only what is computed from shapes and small constants may be folded (bytes).
_LARGEST_FOLDED = 64 * 1024
_LENGTHS = (3, 5, 7, 11, 13, 17)  # of the dynamic dimensions while tracing: told apart, and never 0 or 1


def trace(component: Component) -> ir.Model:
    """The component's graph. Its weights are named as in the checkpoint and have no values yet.

    Dynamic dimensions carry the names of the component's dimensions and may take any length, 0 included where the
    computation has a meaning there (frozen tokens).
    """
    symbols = _symbols(component.inputs)
    with torch.device("meta"):
        values = {
            name: torch.zeros([symbols.get(dim, (dim,))[0] for dim in spec.dims], dtype=getattr(torch, spec.dtype))  # type: ignore[call-overload,arg-type]
            for name, spec in component.inputs.items()
        }
    dynamic = {
        name: {axis: symbols[dim][1] for axis, dim in enumerate(spec.dims) if isinstance(dim, str)}
        for name, spec in component.inputs.items()
    }
    arguments = group_numbered(values)
    with _quiet():
        program = torch.export.export(
            component.module, (), arguments, dynamic_shapes=group_numbered(dynamic), strict=False
        )
        exported = torch.onnx.export(
            program, (), kwargs=arguments, dynamo=True, optimize=False, opset_version=OPSET, verbose=False
        )
        assert exported is not None  # torch returns None only when it writes a file itself
        model = exported.model
        for value in model.graph.initializers.values():
            value.const_value = None  # a shape without numbers; see external.py
        _simplify(model)
    _name_ends(model, component)
    _clean(model)
    return model


def _simplify(model: ir.Model) -> None:
    """Fold what is computed from small constants and drop what then has no use.

    The optimizer's rewrite rules are left out: they find little to do here, in time quadratic in the graph.
    """
    optimizer.fold_constants(
        model, onnx_shape_inference=True, input_size_limit=_LARGEST_FOLDED, output_size_limit=_LARGEST_FOLDED
    )
    passes = (
        common.IdentityEliminationPass(),
        common.RemoveUnusedNodesPass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.DeduplicateInitializersPass(),
        common.CommonSubexpressionEliminationPass(),
        common.RemoveUnusedNodesPass(),
        common.OutputFixPass(),
        common.NameFixPass(),
    )
    ir.passes.Sequential(*passes)(model)


def _symbols(inputs: Mapping[str, TensorSpec]) -> dict[int | str, tuple[int, Any]]:
    """Each dynamic dimension's length while tracing, and what torch.export calls it."""
    names = list(dict.fromkeys(dim for spec in inputs.values() for dim in spec.dims if isinstance(dim, str)))
    return {name: (length, torch.export.Dim(name)) for name, length in zip(names, _LENGTHS[: len(names)], strict=True)}


def _name_ends(model: ir.Model, component: Component) -> None:
    """Give inputs and outputs the component's names, order and dimensions."""
    order = pytree.tree_leaves(group_numbered({name: name for name in component.inputs}))
    traced = dict(zip(order, model.graph.inputs, strict=True))
    outputs = list(model.graph.outputs)
    for value, (name, spec) in zip(outputs, component.outputs.items(), strict=True):
        _name(value, name, spec)
    for name, spec in component.inputs.items():
        _name(traced[name], name, spec)
    model.graph.inputs.clear()
    model.graph.inputs.extend(traced[name] for name in component.inputs)


def _name(value: ir.Value, name: str, spec: TensorSpec) -> None:
    shape = value.shape
    if shape is None or len(shape) != len(spec.dims):
        raise RuntimeError(f"traced {value.name} as {shape}, expected {spec.dims}")
    for traced, expected in zip(shape, spec.dims, strict=True):
        if isinstance(expected, int) != isinstance(traced, int) or (isinstance(expected, int) and traced != expected):
            raise RuntimeError(f"traced {name} as {shape}, expected {spec.dims}")
    value.name = name
    value.shape = ir.Shape(spec.dims)


def _clean(model: ir.Model) -> None:
    """Name each node after the module it came from, and drop what tells of the machine that traced it."""
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    model.producer_name, model.producer_version = "hybridstitch-trt", None
    kept = {id(value) for value in (*model.graph.inputs, *model.graph.outputs)}
    scope = ""
    for index, node in enumerate(model.graph):
        own = _scope(node)
        scope = own or scope
        # what is computed between two submodules goes by the one before it
        node.name = f"{'' if own else 'after.'}{scope or 'inputs'}/{node.op_type}_{index}"
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
            if id(value) not in kept:
                value.shape, value.type = None, None
    for value in model.graph.initializers.values():
        value.metadata_props.clear()


def _scope(node: ir.Node) -> str:
    scopes = ast.literal_eval(node.metadata_props.get("pkg.torch.onnx.name_scopes", "[]"))
    return scopes[-2] if len(scopes) > 1 and not scopes[-2].startswith("_") else ""


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Tracing warns about torchvision, deprecated tree specs and initializers without values: all expected."""
    noisy = [logging.getLogger(name) for name in ("onnx_ir", "onnxscript", "torch.onnx")]
    before = [logger.level for logger in noisy]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for logger in noisy:
                logger.setLevel(logging.ERROR)
            yield
        finally:
            for logger, level in zip(noisy, before, strict=True):
                logger.setLevel(level)
