"""The types of a tensor's elements, written down once: what torch, safetensors and ONNX call them."""

from __future__ import annotations

from typing import NamedTuple

import torch


class ElementType(NamedTuple):
    """torch: the dtype. safetensors: its name in a file's header. onnx: its number in onnx.TensorProto.DataType."""

    torch: torch.dtype
    safetensors: str
    onnx: int

    @property
    def name(self) -> str:
        """What graph.json, manifests and recipes call it: torch's name, such as bfloat16."""
        return str(self.torch).removeprefix("torch.")


TYPES = (
    ElementType(torch.float64, "F64", 11),
    ElementType(torch.float32, "F32", 1),
    ElementType(torch.float16, "F16", 10),
    ElementType(torch.bfloat16, "BF16", 16),
    ElementType(torch.int64, "I64", 7),
    ElementType(torch.int32, "I32", 6),
    ElementType(torch.int16, "I16", 5),
    ElementType(torch.int8, "I8", 3),
    ElementType(torch.uint8, "U8", 2),
    ElementType(torch.bool, "BOOL", 9),
)
BY_NAME = {element.name: element for element in TYPES}
BY_TORCH = {element.torch: element for element in TYPES}
BY_SAFETENSORS = {element.safetensors: element for element in TYPES}
BY_ONNX = {element.onnx: element for element in TYPES}
