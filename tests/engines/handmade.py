"""Exports small enough to build in milliseconds: one attention as the large model, its plain half as the small one."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import TensorProto, helper
from safetensors.torch import save_file
from torch import Tensor

from hybridstitch.engines.executors.engine import Engine
from hybridstitch.engines.open import open_pair
from hybridstitch.engines.store.folder import Store
from hybridstitch.export.fingerprint import fingerprint
from hybridstitch.method.geometry import Geometry
from hybridstitch.models.digests import Digests
from hybridstitch.pairs.recipe import Recipe

GEOMETRY = Geometry(
    patch_size=2,
    latent_channels=1,
    vae_factor=4,
    heads=1,
    head_dim=4,
    attentions=1,
    position_size=8,
    text_width=4,
    pooled_width=4,
    text_tokens=3,
)
DIMS = {
    "tokens": ["B", "M", 4],
    "position": ["B", "M", 4],
    "text": ["B", "T", 4],
    "pooled": ["B", 4],
    "timestep": ["B"],
    "frozen_key.0": ["B", 1, "F", 4],
    "frozen_value.0": ["B", 1, "F", 4],
    "velocity": ["B", "M", 4],
    "key.0": ["B", 1, "M", 4],
    "value.0": ["B", 1, "M", 4],
}
LARGE = (list(DIMS)[:7], list(DIMS)[7:])
SMALL = (list(DIMS)[:5], ["velocity"])


def make_recipe(default_size: str = "32x32", **profiles: object) -> Recipe:
    """A pair of 16 and 12 tokens a picture."""
    content = {"sizes": ["32x32", "32x24"], "batch_sizes": [1, 2], "token_bucket": 2, **profiles}
    checkpoint = {"path": "nowhere"}
    defaults = {"size": default_size}
    return Recipe.model_validate(
        {
            "name": "mini",
            "dtype": "float32",
            "large": checkpoint,
            "small": checkpoint,
            "profiles": content,
            "defaults": defaults,
        }
    )


def weights(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(4, 4, generator=generator) for name in ("query", "key", "value", "text", "out")}


def compute(inputs: dict[str, Tensor], weight: dict[str, Tensor]) -> dict[str, Tensor]:
    """What both graphs compute, in torch; the small one has no frozen keys and one output."""
    state = inputs["tokens"] + inputs["position"]
    text = inputs["text"] @ weight["text"]
    condition = (inputs["pooled"] + inputs["timestep"][:, None])[:, None]
    key, value = (state @ weight["key"])[:, None], (state @ weight["value"])[:, None]
    keys = torch.cat([key, text[:, None], *([inputs["frozen_key.0"]] if "frozen_key.0" in inputs else [])], dim=2)
    values = torch.cat([value, text[:, None], *([inputs["frozen_value.0"]] if "frozen_key.0" in inputs else [])], dim=2)
    attended = torch.softmax((state @ weight["query"])[:, None] @ keys.transpose(2, 3), dim=-1) @ values
    return {"velocity": attended[:, 0] @ weight["out"] + condition, "key.0": key, "value.0": value}


def random_inputs(batch: int = 2, tokens: int = 16, frozen: int | None = 0) -> dict[str, Tensor]:
    """Inputs of the large model, or with frozen None of the small one."""
    generator = torch.Generator().manual_seed(tokens)
    lengths = {"B": batch, "M": tokens, "T": GEOMETRY.text_tokens, "F": frozen or 0}
    return {
        name: torch.randn([lengths.get(dim, dim) for dim in DIMS[name]], generator=generator)  # type: ignore[arg-type]
        for name in (SMALL if frozen is None else LARGE)[0]
    }


def write_export(folder: Path, *, seed: int = 0) -> Path:
    """Both components and their assets, as export writes them."""
    (folder / "assets" / "scheduler").mkdir(parents=True, exist_ok=True)
    for component in ("large", "small"):
        write_component(folder / component, seed=seed)
    (folder / "assets" / "scheduler" / "scheduler_config.json").write_text('{"shift": 3.0}')
    return folder


def write_component(folder: Path, *, seed: int = 0) -> Path:
    """One component, and its hashes in pair.json where it is part of a pair."""
    folder.mkdir(parents=True, exist_ok=True)
    large = folder.name == "large"
    file = folder / "weights.safetensors"
    save_file(weights(seed), file)
    model = make_model(LARGE if large else SMALL, file)
    onnx.save(model, folder / "model.onnx")
    save_file({"position": torch.arange(8 * 8 * 4.0).reshape(8, 8, 4)}, folder / "position.safetensors")
    content = {
        "component": folder.name,
        "dtype": "float32",
        "geometry": asdict(GEOMETRY),
        "zero_text_tokens": 0,
        "position": {"file": "position.safetensors", "tensor": "position", "shape": [8, 8, 4]},
        "graph_sha256": hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest(),
        "weights_sha256": fingerprint([file], Digests(folder)),
        "weights_from": {str(file): file.stat().st_size},
    }
    (folder / "graph.json").write_text(json.dumps(content))
    if (folder.parent / "assets").is_dir():
        name_hashes(folder.parent)
    return folder


def name_hashes(export: Path, pair: str = "mini") -> None:
    """In pair.json, as export does last."""
    (export / "assets").mkdir(exist_ok=True)
    graphs = {path.parent.name: json.loads(path.read_text()) for path in export.glob("*/graph.json")}
    hashes = {name: {key: graph[key] for key in ("graph_sha256", "weights_sha256")} for name, graph in graphs.items()}
    (export / "assets" / "pair.json").write_text(json.dumps({"pair": pair, "hashes": hashes}))


def make_model(names: tuple[list[str], list[str]], weight_file: Path) -> onnx.ModelProto:
    inputs, outputs = ([_value(name) for name in group] for group in names)
    frozen = {kind: [f"frozen_{kind}.0"] if f"frozen_{kind}.0" in names[0] else [] for kind in ("key", "value")}
    nodes = [
        helper.make_node("Add", ["tokens", "position"], ["state"]),
        helper.make_node("MatMul", ["text", "weight.text"], ["text_key_3d"]),
        helper.make_node("Unsqueeze", ["text_key_3d", "one"], ["text_key"]),
        *(
            node
            for kind in ("query", "key", "value")
            for node in (
                helper.make_node("MatMul", ["state", f"weight.{kind}"], [f"{kind}_3d"]),
                helper.make_node("Unsqueeze", [f"{kind}_3d", "one"], [f"{kind}.0"]),
            )
        ),
        helper.make_node("Concat", ["key.0", "text_key", *frozen["key"]], ["keys"], axis=2),
        helper.make_node("Concat", ["value.0", "text_key", *frozen["value"]], ["values"], axis=2),
        helper.make_node("Transpose", ["keys"], ["keys_t"], perm=[0, 1, 3, 2]),
        helper.make_node("MatMul", ["query.0", "keys_t"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["share"], axis=-1),
        helper.make_node("MatMul", ["share", "values"], ["attended_4d"]),
        helper.make_node("Squeeze", ["attended_4d", "one"], ["attended"]),
        helper.make_node("MatMul", ["attended", "weight.out"], ["projected"]),
        helper.make_node("Unsqueeze", ["timestep", "one"], ["time"]),
        helper.make_node("Add", ["pooled", "time"], ["condition_2d"]),
        helper.make_node("Unsqueeze", ["condition_2d", "one"], ["condition"]),
        helper.make_node("Add", ["projected", "condition"], ["velocity"]),
    ]
    constants = [helper.make_tensor("one", TensorProto.INT64, [1], [1]), *_external(weight_file)]
    graph = helper.make_graph(nodes, "attention", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def _value(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, DIMS[name])


def _external(file: Path) -> list[TensorProto]:
    """Initializers that point into a .safetensors file."""
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    tensors = []
    for name, entry in json.loads(content[8 : 8 + length]).items():
        begin, end = entry["data_offsets"]
        tensor = TensorProto(name=f"weight.{name}", data_type=TensorProto.FLOAT, dims=entry["shape"])
        tensor.data_location = TensorProto.EXTERNAL
        place = {"location": file.name, "offset": 8 + length + begin, "length": end - begin}
        for key, value in place.items():
            tensor.external_data.add(key=key, value=str(value))
        tensors.append(tensor)
    return tensors


def open_engine(folder: Path, component: str, *, backend: str, pair: str | None = None, **options: Any) -> Engine:
    """One engine of what is built in a folder; pair: by default the one whose engines it holds."""
    store = Store(folder)
    known = store.plans(component)[0].pair if store.names(component) else store.pair
    return open_pair(folder, pair=pair or known, backend=backend, needed=[component], **options).engine(component)
