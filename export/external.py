"""A graph's weights as external data: pointers into the checkpoint's own files, or into one converted copy."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir
import torch

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.method.progress import OnProgress
from hybridstitch.models.component import Component
from hybridstitch.models.digests import Steps
from hybridstitch.models.dtypes import BY_TORCH
from hybridstitch.models.weights import StoredTensor, read_header

from .files import check_space, place

CONVERTED = "weights.safetensors"


def place_weights(
    component: Component, weights: dict[str, StoredTensor], folder: Path, report: OnProgress
) -> dict[str, StoredTensor]:
    """Put the files of the weights into `folder`; returns where each weight lies now.

    Checkpoint files are linked (see files.py) where every weight has the export's dtype already; otherwise the
    weights are converted, tensor by tensor, into one new file.
    """
    dtypes = {name: t.dtype if name in component.kept else component.dtype for name, t in weights.items()}
    if all(tensor.dtype == dtypes[name] for name, tensor in weights.items()):
        for file in sorted({tensor.file for tensor in weights.values()}):
            place(file, folder / file.name, report)
        return {name: replace(tensor, file=folder / tensor.file.name) for name, tensor in weights.items()}
    return _convert(weights, dtypes, folder / CONVERTED, report)


def point(model: ir.Model, placed: dict[str, StoredTensor]) -> None:
    """Make every weight of the graph external data: a file in the graph's folder, an offset and a length."""
    for name, value in model.graph.initializers.items():
        if value.const_value is not None:
            continue
        tensor = placed[name]
        value.const_value = ir.ExternalTensor(
            tensor.file.name,
            tensor.offset,
            tensor.length,
            ir.DataType(BY_TORCH[tensor.dtype].onnx),
            shape=ir.Shape(tensor.shape),
            name=name,
        )


def _convert(
    weights: dict[str, StoredTensor], dtypes: dict[str, torch.dtype], target: Path, report: OnProgress
) -> dict[str, StoredTensor]:
    """Write the weights in other dtypes, holding one tensor at a time.

    Raises:
        HybridStitchError: no space, or a weight that the dtype cannot hold.
    """
    header, end = {}, 0
    for name, tensor in weights.items():
        first, end = end, end + tensor.length // tensor.dtype.itemsize * dtypes[name].itemsize
        header[name] = {
            "dtype": BY_TORCH[dtypes[name]].safetensors,
            "shape": tensor.shape,
            "data_offsets": [first, end],
        }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 64)  # readers that map the file like it aligned
    check_space(target.parent, end + len(text), "the converted weights")
    steps = Steps("converting weights", end, report)
    with target.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for name, tensor in weights.items():
            converted = tensor.read().to(dtypes[name])
            if dtypes[name] == torch.float16 and not torch.isfinite(converted).all():
                raise HybridStitchError(
                    f"{tensor.file}: tensor {tensor.name} does not fit float16; export with bfloat16 or float32"
                )
            stream.write(converted.reshape(-1).view(torch.uint8).numpy().data)
            steps.add(converted.nbytes)
    return read_header(target)
