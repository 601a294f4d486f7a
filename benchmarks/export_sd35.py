"""Export time, peak memory and bytes written at the size of Stable Diffusion 3.5 large.

    python -m benchmarks.export_sd35 [--layers 38] [--heads 38] [--dtype bfloat16] [--keep FOLDER] [--save]

A sparse file of the right length stands in for the weights, so that neither 16 GB of disk nor the licence is needed:
its header is real, its values are zeros that take no space.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from pathlib import Path
from typing import get_args

import torch
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel

from benchmarks.machine import save
from hybridstitch.export.write import write_component
from hybridstitch.models.digests import Digests
from hybridstitch.models.sd3.components import TextShape, transformer
from hybridstitch.pairs.recipe import Dtype

TEXT = TextShape(clip_tokens=77, t5_tokens=256, zero_tokens=0)


def write_checkpoint(folder: Path, layers: int, heads: int) -> Path:
    """A checkpoint folder with SD3.5 large's transformer, as far as an export reads it."""
    (folder / "transformer").mkdir(parents=True)
    (folder / "vae").mkdir()
    (folder / "vae" / "config.json").write_text(json.dumps({"block_out_channels": [128, 256, 512, 512]}))
    config = {
        "sample_size": 128,
        "patch_size": 2,
        "in_channels": 16,
        "out_channels": 16,
        "num_layers": layers,
        "attention_head_dim": 64,
        "num_attention_heads": heads,
        "joint_attention_dim": 4096,
        "caption_projection_dim": 64 * heads,
        "pooled_projection_dim": 2048,
        "pos_embed_max_size": 192,
        "dual_attention_layers": [],
        "qk_norm": "rms_norm",
    }
    with torch.device("meta"):
        weights = SD3Transformer2DModel(**config).state_dict()
    content = json.dumps({"_class_name": "SD3Transformer2DModel", **config})
    (folder / "transformer" / "config.json").write_text(content)
    header, end = {}, 0
    for name, tensor in weights.items():
        first, end = end, end + 2 * math.prod(tensor.shape)
        header[name] = {"dtype": "BF16", "shape": list(tensor.shape), "data_offsets": [first, end]}
    text = json.dumps(header).encode()
    with (folder / "transformer" / "diffusion_pytorch_model.safetensors").open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        stream.truncate(8 + len(text) + end)
    return folder


def peak_memory() -> int:
    """Bytes that this program held at most. What resource.getrusage tells starts with the memory of who called it."""
    status = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=38)
    parser.add_argument("--heads", type=int, default=38)
    parser.add_argument("--dtype", default="bfloat16", choices=get_args(Dtype))
    parser.add_argument("--keep", type=Path, help="write here and leave it")
    parser.add_argument("--save", action="store_true", help="keep the figures in benchmarks/results/")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        checkpoint = write_checkpoint(folder / "checkpoint", options.layers, options.heads)
        start = time.perf_counter()
        dtype = getattr(torch, options.dtype)
        component = transformer(checkpoint, "large", TEXT, dtype, keeps_keys=True)
        out = folder / "export" / "large"
        out.parent.mkdir()
        write_component(component, out, digests=Digests(folder), report=lambda now: print(now.what))
        seconds = time.perf_counter() - start
        linked = {path.name for path in (checkpoint / "transformer").glob("*.safetensors")}
        written = sum(path.stat().st_size for path in out.iterdir() if path.name not in linked)
        parameters = sum(parameter.numel() for parameter in component.module.parameters())
    figures = {
        "layers": options.layers,
        "parameters_g": round(parameters / 1e9, 3),
        "dtype": options.dtype,
        "seconds": round(seconds, 1),
        "cpu_seconds": round(time.process_time(), 1),
        "peak_memory_gb": round(peak_memory() / 1e9, 3),
        "written_mb": round(written / 1e6, 2),
    }
    print(json.dumps(figures))
    if options.save:
        print(save(f"export-sd35-{options.layers}-layers", "benchmarks.export_sd35", figures))


if __name__ == "__main__":
    main()
