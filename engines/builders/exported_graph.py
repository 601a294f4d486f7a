"""What the export wrote for one component, as far as an engine needs it: tensors, hashes, geometry."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.method.geometry import Geometry
from hybridstitch.models.component import COMPONENTS
from hybridstitch.models.dtypes import BY_ONNX
from hybridstitch.models.tensors import TensorSpec


@dataclass(frozen=True)
class PositionTable:
    """Where a transformer's position table lies: a tensor of a .safetensors file, to be read as `shape` [S, S, D]."""

    file: Path
    tensor: str
    shape: tuple[int, ...]

    def read(self) -> Tensor:
        """The table, [S, S, D] in float32.

        Raises:
            HybridStitchError: the file is missing or damaged.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self.file, framework="pt") as content:
                return content.get_tensor(self.tensor).float().reshape(self.shape)
        except (OSError, SafetensorError, RuntimeError) as error:
            raise HybridStitchError(
                f"the position table in {self.file} cannot be read: {error}; export again"
            ) from None


@dataclass(frozen=True)
class Graph:
    """One exported component; the fields are those of the graph.json beside the ONNX file.

    weights_sha256 covers the files that the weights are in, and so the position table.
    """

    folder: Path
    component: str
    dtype: str
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    geometry: Geometry | None
    zero_text_tokens: int
    graph_sha256: str
    weights_sha256: str
    weights_from: Mapping[str, int]
    position: PositionTable | None

    @property
    def onnx_file(self) -> Path:
        return self.folder / "model.onnx"

    @property
    def weight_bytes(self) -> int:
        """The size of the weights that the graph refers to, in bytes."""
        return sum(path.stat().st_size for path in self.external_files())

    def external_files(self) -> list[Path]:
        """The files beside the graph that hold its weights."""
        return sorted(path for path in self.folder.glob("*.safetensors") if path.name != "position.safetensors")


def exported_components(onnx_dir: Path) -> list[str]:
    """The components that were exported to `onnx_dir`, in the order in which they are built.

    Raises:
        HybridStitchError: the folder holds no export.
    """
    names = [name for name in COMPONENTS if (onnx_dir / name / "graph.json").is_file()]
    if not names:
        raise HybridStitchError(f"{onnx_dir} holds no exported pair: run hybridstitch-trt export first")
    return names


def read_graph(folder: Path) -> Graph:
    """Read one component's folder: graph.json, the graph's header, and that its external data is there.

    Raises:
        HybridStitchError: not exported, not readable, or the ONNX file or its weights are missing or cut short.
    """
    content = _read_json(folder / "graph.json")
    try:
        geometry, position = content.get("geometry"), content.get("position")
        graph = Graph(
            folder=folder,
            component=content["component"],
            dtype=content["dtype"],
            geometry=Geometry(**geometry) if geometry else None,
            zero_text_tokens=content.get("zero_text_tokens") or 0,
            graph_sha256=content["graph_sha256"],
            weights_sha256=content["weights_sha256"],
            weights_from=content.get("weights_from", {}),
            position=PositionTable(folder / position["file"], position["tensor"], tuple(position["shape"]))
            if position
            else None,
            **_read_tensors(folder / "model.onnx"),
        )
    except (KeyError, TypeError) as error:
        raise HybridStitchError(f"{folder / 'graph.json'} is not what export writes ({error}); export again") from None
    if graph.component != folder.name:
        raise HybridStitchError(f"{folder} holds the export of {graph.component}, not of {folder.name}")
    return graph


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise HybridStitchError(f"{path.parent} is not exported: run hybridstitch-trt export first") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise HybridStitchError(f"{path} cannot be read ({error}); export again") from None
    if not isinstance(content, dict):
        raise HybridStitchError(f"{path} is not what export writes; export again")
    return content


def _read_tensors(path: Path) -> dict[str, dict[str, TensorSpec]]:
    """Inputs and outputs from the ONNX header (the weights stay where they are), and a check of those weights."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(str(path), load_external_data=False)
    except FileNotFoundError:
        raise HybridStitchError(f"{path} is missing; export again") from None
    except DecodeError:
        raise HybridStitchError(f"{path} is no ONNX file, or it is cut short; export again") from None
    except OSError as error:
        raise HybridStitchError(f"{path} cannot be read: {error.strerror}") from None
    _check_external_data(path, model)
    fixed = {tensor.name for tensor in model.graph.initializer}
    return {
        "inputs": {value.name: _spec(value) for value in model.graph.input if value.name not in fixed},
        "outputs": {value.name: _spec(value) for value in model.graph.output},
    }


def _spec(value: Any) -> TensorSpec:
    tensor = value.type.tensor_type
    return TensorSpec(
        dtype=BY_ONNX[tensor.elem_type].name,
        dims=tuple(dim.dim_param or dim.dim_value for dim in tensor.shape.dim),
    )


def _check_external_data(path: Path, model: Any) -> None:
    """Every file that an initializer points into exists and is long enough."""
    ends: dict[str, int] = {}
    for tensor in model.graph.initializer:
        entry = {item.key: item.value for item in tensor.external_data}
        if "location" in entry:
            end = int(entry.get("offset", 0)) + int(entry.get("length", 0))
            ends[entry["location"]] = max(end, ends.get(entry["location"], 0))
    for location, end in ends.items():
        file = path.parent / location
        if not file.is_file():
            raise HybridStitchError(f"{file}, the weights of {path.parent.name}, is missing; export again")
        if file.stat().st_size < end:
            raise HybridStitchError(
                f"{file}, the weights of {path.parent.name}, is cut short: "
                f"{file.stat().st_size} of at least {end} bytes; export again"
            )
