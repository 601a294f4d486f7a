"""A pair of checkpoints -> one folder of ONNX graphs, with what a runtime needs beside them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from filelock import FileLock

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.method.progress import OnProgress, silent
from hybridstitch.models.checkpoint import read_json
from hybridstitch.models.component import Component
from hybridstitch.models.digests import Digests
from hybridstitch.models.dtypes import BY_NAME
from hybridstitch.models.family import family_of
from hybridstitch.models.load import find_weights, unread_tensors
from hybridstitch.pairs.recipe import Dtype, Recipe

from .files import make_folder, refuse_foreign, remove_leftovers, whole_folder
from .fingerprint import digest_text
from .write import write_component

_ASSETS_FOLDER = "assets"


@dataclass(frozen=True)
class PairExport:
    """What `export_pair` made: a folder with one subfolder per component, and `assets`.

    written and reused: names of the components that were exported anew, and that were as they should be.
    warnings: a line on each component of which the checkpoint holds more than is read.
    """

    folder: Path
    written: tuple[str, ...]
    reused: tuple[str, ...]
    warnings: tuple[str, ...] = ()


def export_pair(recipe: Recipe, out: Path, *, dtype: str | None = None, progress: OnProgress = silent) -> PairExport:
    """Export both transformers in token space, the text encoders and the VAE decoder.

    Text encoders, VAE and scheduler are the large checkpoint's; of the small one the transformer alone is read. The VAE
    decoder and T5 stay out of float16, which they overflow: they are bfloat16 where that is asked for, else float32.
    What has not changed is not exported again.

    Args:
        out: the folder to write to; each component appears in it whole or not at all.
        dtype: float32, float16 or bfloat16; by default the recipe's.
        progress: told what happens.

    Raises:
        HybridStitchError: a checkpoint of a family that is not known, quantized or damaged; two that do not fit each
            other; a dtype that is not known or cannot hold the weights; a place that cannot be written, is too small,
            or holds a component's folder that no export made.
    """
    chosen = dtype or recipe.dtype
    if chosen not in get_args(Dtype):
        raise HybridStitchError(f"dtype {chosen!r} is unknown; known: {', '.join(get_args(Dtype))}")
    large, small = recipe.checkpoint("large"), recipe.checkpoint("small")
    family = family_of(large)
    family.check(large, small)
    components = family.components(large, small, BY_NAME[chosen].torch, recipe.max_sequence_length)
    for component in components:
        find_weights(component)  # what is refused is refused before gigabytes are written
    warnings = tuple(line for component in components if (line := _unread(component)))

    out, names = Path(out), [component.name for component in components]
    make_folder(out)
    for name in names:
        refuse_foreign(out / name, ("graph.json", "model.onnx"))
    refuse_foreign(out / _ASSETS_FOLDER, ("pair.json",))
    written: list[str] = []
    reused: list[str] = []
    digests = Digests(out)
    with FileLock(out / ".export.lock"):
        remove_leftovers(out, [*names, _ASSETS_FOLDER])
        for component in components:
            changed = write_component(component, out / component.name, digests=digests, report=progress)
            (written if changed else reused).append(component.name)
        _remove_others(out, components)
        description = {"pair": recipe.name, "hashes": _hashes(out, components)}
        _write_assets(large, family.assets(large), out / _ASSETS_FOLDER, description)
    return PairExport(out, tuple(written), tuple(reused), warnings)


def _unread(component: Component) -> str | None:
    """A line on the tensors that nothing reads, if there are any."""
    names = unread_tensors(component)
    if not names:
        return None
    count = "1 tensor" if len(names) == 1 else f"{len(names)} tensors"
    return f"{component.name}: {count} in {component.folder} will not be read, such as {names[0]}"


def _remove_others(out: Path, components: Sequence[Component]) -> None:
    """Remove what an earlier export of the pair had, and this one has not: a T5 that was left away."""
    for graph in list(out.glob("*/graph.json")):
        if graph.parent.name not in {component.name for component in components}:
            shutil.rmtree(graph.parent)


def _hashes(out: Path, components: Sequence[Component]) -> dict[str, dict[str, str]]:
    """Of each component's graph and weights, so that engines of other weights never pass for engines of this export."""
    content = {c.name: read_json(out / c.name / "graph.json") for c in components}
    return {name: {key: graph[key] for key in ("graph_sha256", "weights_sha256")} for name, graph in content.items()}


def _write_assets(checkpoint: Path, names: Sequence[str], target: Path, description: dict[str, Any]) -> None:
    """Copy tokenizers and scheduler as they are, beside pair.json, unless they are there already."""
    files = [path for name in names for path in sorted((checkpoint / name).rglob("*")) if path.is_file()]
    described = json.dumps(description, indent=2)
    made_from = digest_text(described, *(path.name for path in files), *(path.read_bytes() for path in files))
    pair = target / "pair.json"
    if pair.is_file() and json.loads(pair.read_text(encoding="utf-8")).get("made_from") == made_from:
        return
    with whole_folder(target) as folder:
        for path in files:  # shutil.copytree would hide that a disk is full
            place = folder / path.relative_to(checkpoint)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)
        content = json.dumps({**description, "made_from": made_from}, indent=2)
        (folder / "pair.json").write_text(content + "\n", encoding="utf-8")
