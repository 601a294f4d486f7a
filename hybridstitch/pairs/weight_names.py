"""Which file holds a model's weights, told from the names in its folder: on a disk and on the hub by the same rule."""

from __future__ import annotations

import re
from collections.abc import Iterable

STEMS = ("diffusion_pytorch_model", "model")
_SHARD = re.compile(r"-\d+-of-\d+\.safetensors$")


def chosen_weights(names: Iterable[str]) -> str | None:
    """The file of a model's weights, or the index of its shards, among the names in its folder; None: it has none.

    Full-precision names win over variants (`model.fp16.safetensors`), which are used where they are alone.
    """
    here = sorted(names)
    for stem in STEMS:
        for name in (f"{stem}.safetensors.index.json", f"{stem}.safetensors"):
            if name in here:
                return name
    for stem in STEMS:
        for pattern in (rf"{stem}\.safetensors\.index\..+\.json", rf"{stem}\..+\.safetensors"):
            for name in here:
                if re.fullmatch(pattern, name) and not _SHARD.search(name):
                    return name
    return None


def is_index(name: str) -> bool:
    """Whether a file of weights is an index that names shards."""
    return name.endswith(".json")
