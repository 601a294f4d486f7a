"""Engines that are wrong in one way, with manifests that know nothing of it: only their numbers can tell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from hybridstitch.engines.store.folder import Store
from hybridstitch.engines.store.manifest import StoredFile
from hybridstitch.models.digests import file_sha256


def damage(folder: Path, component: str, edit: Callable[[onnx.ModelProto], None]) -> None:
    """Edit the plan of an ONNX Runtime engine and renew sizes and checksums in its manifest."""
    store = Store(folder)
    manifest = store.manifest(component)
    plan, weights = store.file(manifest, "plan"), store.file(manifest, "weights")
    assert plan is not None
    model = onnx.load(str(plan))
    edit(model)
    if weights is None:
        onnx.save(model, str(plan))
    else:
        weights.unlink()  # saving appends to it
        onnx.save(model, str(plan), save_as_external_data=True, location=weights.name, size_threshold=1024)
    files = {
        role: StoredFile(path.name, path.stat().st_size, file_sha256(path))
        for role in manifest.files
        if (path := store.file(manifest, role)) is not None
    }
    store.update(replace(manifest, files=files))


def one_weight(
    change: Callable[[float], float], *, matrix: int = 0, dims: int = 2
) -> Callable[[onnx.ModelProto], None]:
    """Change the largest value of one weight of so many dimensions, counted from the one with the most values."""

    def edit(model: onnx.ModelProto) -> None:
        matrices = [tensor for tensor in model.graph.initializer if len(tensor.dims) == dims]
        tensor = sorted(matrices, key=lambda found: -int(np.prod(found.dims)))[matrix]
        values = numpy_helper.to_array(tensor).copy()
        place = np.unravel_index(np.abs(values).argmax(), values.shape)
        values[place] = change(float(values[place]))
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))

    return edit


def swap_keys_and_values(model: onnx.ModelProto) -> None:
    """What the graph computes stays; each key comes out under the name of its value, and the other way round."""
    names = {output.name: output.name for output in model.graph.output}
    for name in names:
        kind, _, index = name.partition(".")
        names[name] = {"key": f"value.{index}", "value": f"key.{index}"}.get(kind, name)
    for node in model.graph.node:
        for group in (node.input, node.output):
            group[:] = [names.get(name, name) for name in group]
