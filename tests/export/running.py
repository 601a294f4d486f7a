"""Run an exported graph in ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import torch
from torch import Tensor


def run_onnx(folder: Path, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """All outputs of folder/model.onnx, by name; inputs that it does not have are left out."""
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    feeds = {port.name: inputs[port.name].numpy() for port in session.get_inputs()}
    results = session.run(None, feeds)
    return {
        port.name: torch.from_numpy(np.asarray(result))
        for port, result in zip(session.get_outputs(), results, strict=True)
    }
