"""Graphs that are traced once in a run of the tests, whichever of its processes asks first.

Tracing takes half a minute of a small transformer, and depends on nothing but the component's description. What the
export does with a graph, it does each time.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path

import onnx_ir as ir
from filelock import FileLock

from hybridstitch.export.fingerprint import digest_text
from hybridstitch.models.component import Component

_WEIGHT = "a weight without values"
"""What a kept file says in place of the file that holds a weight."""


def traced_once(trace: Callable[[Component], ir.Model], folder: Path) -> Callable[[Component], ir.Model]:
    """`trace`, with its graphs kept in `folder`; `__wrapped__` traces each time."""
    folder.mkdir(exist_ok=True)

    @functools.wraps(trace)
    def find_or_trace(component: Component) -> ir.Model:
        path = folder / f"{_digest(component)}.onnx"
        with FileLock(path.with_suffix(".lock")):
            if not path.exists():
                _keep(trace(component), path)
        return _read(path)

    return find_or_trace


def _digest(component: Component) -> str:
    """Of all that decides a graph while the sources stay as they are."""
    config = json.loads((component.folder / "config.json").read_text())
    tensors = {name: (tensor.shape, tensor.dtype) for name, tensor in component.module.state_dict().items()}
    ends = (dict(component.inputs), dict(component.outputs), component.zero_text_tokens, component.geometry)
    return digest_text(
        component.name,
        json.dumps(config, sort_keys=True),
        *map(str, (component.dtype, type(component.module), component.module, tensors, ends)),
    )


def _keep(model: ir.Model, path: Path) -> None:
    for value in model.graph.initializers.values():
        if value.const_value is None:
            assert value.dtype is not None
            assert value.shape is not None
            value.const_value = ir.ExternalTensor(_WEIGHT, 0, 0, value.dtype, shape=value.shape, name=str(value.name))
    partial = path.with_suffix(".partial")
    ir.save(model, partial, format="protobuf")
    partial.replace(path)


def _read(path: Path) -> ir.Model:
    model = ir.load(path, format="protobuf")
    for value in model.graph.initializers.values():
        if isinstance(value.const_value, ir.ExternalTensor):
            value.const_value = None
    return model
