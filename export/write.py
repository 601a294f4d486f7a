"""One component -> its folder: model.onnx, the weights it points to, and graph.json."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from importlib import metadata, resources
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir
import torch
from safetensors.torch import save

from hybridstitch.method.progress import OnProgress, Progress, within
from hybridstitch.models.checkpoint import read_json
from hybridstitch.models.component import Component
from hybridstitch.models.digests import Digests
from hybridstitch.models.dtypes import BY_TORCH
from hybridstitch.models.load import find_weights
from hybridstitch.models.weights import StoredTensor

from .external import place_weights, point
from .files import whole_folder
from .fingerprint import digest_text, fingerprint
from .trace import trace

VERSIONS = {
    name: metadata.version(name)
    for name in ("hybridstitch-trt", "torch", "onnx", "onnxscript", "diffusers", "transformers")
}
_POSITION_COPY = 16 * 1024**2  # a larger position table (bytes) is pointed to instead of copied


def write_component(component: Component, target: Path, *, digests: Digests, report: OnProgress) -> bool:
    """Export one component to the folder `target`, unless what is there was made from the same.

    Args:
        digests: of the checkpoint's files.
        report: told what happens.

    Returns:
        Whether it was exported anew.

    Raises:
        HybridStitchError: weights that are missing or damaged, or a place that cannot be written or is too small.
    """
    report = within(report, component.name)
    weights = find_weights(component)
    made_from = _made_from(component)
    files = sorted({tensor.file for tensor in weights.values()})
    current, weights_from = _current(target), {str(file.resolve()): file.stat().st_size for file in files}
    with ThreadPoolExecutor(1) as reader:  # reading gigabytes takes as long as tracing, and another core
        digest = reader.submit(fingerprint, files, digests, report)
        if current.get("made_from") == made_from and current.get("weights_sha256") == digest.result():
            if current.get("weights_from") != weights_from:  # the same checkpoint, elsewhere
                _write_graph_json(target, current | {"weights_from": weights_from})
            report(Progress("nothing changed"))
            return False
        report(Progress("tracing"))
        model = trace(component)
        weights_sha256 = digest.result()
    with whole_folder(target) as folder:
        placed = place_weights(component, weights, folder, report)
        point(model, placed)
        path = folder / "model.onnx"
        ir.save(model, path)
        _check(path, sorted({tensor.file for tensor in placed.values()}))
        content = _graph_json(component, path, weights_sha256)
        content |= {"weights_from": weights_from, "made_from": made_from}
        if component.position_table is not None:
            content["position"] = _write_position(component, placed[component.position_table], folder)
        content["files"] = {file.name: file.stat().st_size for file in sorted(folder.iterdir())}
        _write_graph_json(folder, content)
    report(Progress("written"))
    return True


def _check(path: Path, files: list[Path]) -> None:
    """Pass the graph through the ONNX checker.

    It refuses external data with more than one hard link, so empty files of the same sizes stand in for the weights.
    """
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        shutil.copy(path, folder)
        for file in files:
            with (Path(folder) / file.name).open("wb") as stream:
                stream.truncate(file.stat().st_size)
        onnx.checker.check_model(str(Path(folder) / path.name))


def _made_from(component: Component) -> dict[str, Any]:
    """What decides the graph, next to the weights."""
    return {
        "config": digest_text(json.dumps(read_json(component.folder / "config.json"), sort_keys=True)),
        "exporter": _exporter(),
        "tensors": digest_text(
            str(dict(component.inputs)), str(dict(component.outputs)), str(component.zero_text_tokens)
        ),
    }


def _exporter() -> str:
    """Changes with the sources of the modules and of the export, and with the versions of those who trace."""
    rooms = [Path(str(resources.files(f"hybridstitch.{room}"))) for room in ("models", "export")]
    sources = [path for room in rooms for path in sorted(room.rglob("*.py"))]
    return digest_text(json.dumps(VERSIONS), *(path.read_bytes() for path in sources))


def _current(target: Path) -> dict[str, Any]:
    """The graph.json of a finished export whose files are all there, or nothing."""
    try:
        content = json.loads((target / "graph.json").read_text(encoding="utf-8"))
        whole = all((target / name).stat().st_size == size for name, size in content["files"].items())
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return {}
    return content if whole else {}


def _write_graph_json(folder: Path, content: dict[str, Any]) -> None:
    partial = folder / "graph.json.partial"
    partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    partial.replace(folder / "graph.json")


def _graph_json(component: Component, path: Path, weights_sha256: str) -> dict[str, Any]:
    return {
        "component": component.name,
        "dtype": BY_TORCH[component.dtype].name,
        "geometry": asdict(component.geometry) if component.geometry else None,
        "zero_text_tokens": component.zero_text_tokens,
        "graph_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "weights_sha256": weights_sha256,
    }


def _write_position(component: Component, stored: StoredTensor, folder: Path) -> dict[str, Any]:
    """Where the position table is: a small one in position.safetensors, a large one among the weights.

    Readers reshape it to the shape given and take it as float32.
    """
    assert component.geometry is not None
    side, width = component.geometry.position_size, component.geometry.width
    place = {"file": stored.file.name, "tensor": stored.name, "shape": [side, side, width]}
    if math.prod(stored.shape) * torch.float32.itemsize <= _POSITION_COPY:
        place |= {"file": "position.safetensors", "tensor": "position"}
        (folder / "position.safetensors").write_bytes(
            save({"position": stored.read().float().reshape(side, side, width)})
        )
    return place
