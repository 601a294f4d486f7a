"""Where each tensor of a model lies on disk: file, offset and length, read from safetensors headers alone.

Format: https://huggingface.co/docs/safetensors/index#format - eight bytes of header length, a JSON header,
then the tensors back to back.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.pairs.weight_names import STEMS, chosen_weights, is_index

from .dtypes import BY_SAFETENSORS

_LONGEST_HEADER = 100_000_000  # what the safetensors library itself accepts


@dataclass(frozen=True)
class StoredTensor:
    """One tensor in a .safetensors file: its bytes are file[offset : offset + length]."""

    name: str
    file: Path
    dtype: torch.dtype
    shape: tuple[int, ...]
    offset: int
    length: int

    def read(self) -> torch.Tensor:
        """The tensor, in memory of its own."""
        return self.read_values(0, math.prod(self.shape)).reshape(self.shape)

    def read_values(self, start: int, count: int) -> torch.Tensor:
        """`count` of its values in a row, in memory of their own."""
        if not count:
            return torch.empty(0, dtype=self.dtype)
        content = bytearray(count * self.dtype.itemsize)
        with self.file.open("rb") as stream:
            stream.seek(self.offset + start * self.dtype.itemsize)
            read = stream.readinto(content)
        if read != len(content):
            raise HybridStitchError(f"{self.file} is cut short at tensor {self.name}; fetch it again")
        return torch.frombuffer(content, dtype=self.dtype)


def stored_tensors(folder: Path) -> dict[str, StoredTensor]:
    """Every tensor of the model in `folder`, by name; sharded models too.

    Raises:
        HybridStitchError: no weights, or in another format, a missing shard, a damaged or truncated file.
    """
    tensors: dict[str, StoredTensor] = {}
    for file in weight_files(folder):
        tensors.update(read_header(file))
    return tensors


def weight_files(folder: Path) -> list[Path]:
    """The .safetensors files of the model in `folder`, in the order of their names.

    Full-precision names win over variants (`model.fp16.safetensors`), which are used where they are alone.

    Raises:
        HybridStitchError: no weights in this format, or a shard that its index names is missing.
    """
    name = chosen_weights(path.name for path in folder.glob("*") if path.is_file())
    if name is not None:
        return _shards(folder / name) if is_index(name) else [folder / name]
    others = sorted(path.name for path in folder.glob("*") if path.suffix in {".bin", ".pt", ".pth", ".ckpt"})
    if others:
        raise HybridStitchError(
            f"{folder} holds {others[0]} but no .safetensors; save it again with safe_serialization=True"
        )
    if shards := sorted(path.name for path in folder.glob("*.safetensors")):
        raise HybridStitchError(f"{folder} holds {shards[0]} but no index that names the shards; fetch it again")
    raise HybridStitchError(f"{folder} holds no weights: no {STEMS[0]}.safetensors and no {STEMS[1]}.safetensors")


def read_header(file: Path) -> dict[str, StoredTensor]:
    """The tensors of one file, without reading any.

    Raises:
        HybridStitchError: the file cannot be read, is no safetensors file, or is shorter than it says.
    """
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if size < 8 or not 2 <= length <= _LONGEST_HEADER:
                raise HybridStitchError(f"{file} is not a safetensors file")
            text = stream.read(length)
    except OSError as error:
        raise HybridStitchError(f"{file} cannot be read: {error.strerror}") from None
    if len(text) < length:
        raise HybridStitchError(f"{file} is cut short in its header ({size} bytes); fetch it again")
    try:
        entries: dict[str, Any] = json.loads(text)
        entries.pop("__metadata__", None)
        tensors = {name: _entry(file, 8 + length, name, entry) for name, entry in entries.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, HybridStitchError):
            raise
        raise HybridStitchError(f"{file} is not a safetensors file") from None
    needed = max((tensor.offset + tensor.length for tensor in tensors.values()), default=8 + length)
    if size < needed:
        raise HybridStitchError(f"{file} is cut short: {size} of {needed} bytes; fetch it again")
    return tensors


def check_stored(state: dict[str, Any], stored: dict[str, StoredTensor], folder: Path) -> None:
    """Refuse weights that lack a tensor or hold one of another shape.

    Raises:
        HybridStitchError: the message names the first such tensor and how many there are.
    """
    if missing := [name for name in state if name not in stored]:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise HybridStitchError(f"{folder} lacks tensor {missing[0]}{more}, which its config.json asks for")
    for name, tensor in state.items():
        if tuple(tensor.shape) != stored[name].shape:
            raise HybridStitchError(
                f"{folder}: tensor {name} has shape {list(stored[name].shape)}, "
                f"its config.json asks for {list(tensor.shape)}"
            )


def _entry(file: Path, start: int, name: str, entry: dict[str, Any]) -> StoredTensor:
    if entry["dtype"] not in BY_SAFETENSORS:
        raise HybridStitchError(
            f"{file}: tensor {name} is stored as {entry['dtype']}; float32, float16 and bfloat16 are supported: "
            "use the checkpoint from before it was quantized, or save it again in one of them"
        )
    dtype, shape = BY_SAFETENSORS[entry["dtype"]].torch, tuple(int(size) for size in entry["shape"])
    first, last = (int(value) for value in entry["data_offsets"])
    if first < 0 or last - first != math.prod(shape) * dtype.itemsize:
        raise HybridStitchError(f"{file}: tensor {name} has {last - first} bytes, not those of its shape {shape}")
    return StoredTensor(name, file, dtype, shape, start + first, last - first)


def _shards(index: Path) -> list[Path]:
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        raise HybridStitchError(f"{index} is not an index of shards; fetch it again") from None
    for name in names:
        if Path(name).name != name:
            raise HybridStitchError(f"{index} names a file outside its folder: {name}")
        if not (index.parent / name).is_file():
            raise HybridStitchError(f"{index.parent / name} is missing; {index.name} names it: fetch it again")
    return [index.parent / name for name in names]
