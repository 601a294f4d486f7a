"""A checkpoint from the hub: only what is read of it is fetched, and a cached copy that holds that is used as it is."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from hybridstitch.method.errors import HybridStitchError

from .weight_names import STEMS, chosen_weights, is_index

_INDEX = "model_index.json"
_MODELS = ("transformer", "vae", "text_encoder", "text_encoder_2", "text_encoder_3")
_TOKENIZERS = ("tokenizer", "tokenizer_2", "tokenizer_3")
_SCHEDULER = "scheduler/scheduler_config.json"
_VOCABULARIES = ({"tokenizer.json"}, {"vocab.json", "merges.txt"}, {"spiece.model"})  # any of them makes a tokenizer

ReadJson = Callable[[str], Any]


@dataclass(frozen=True)
class Needed:
    """Of a repository's files: those that are read, and the names of what must be there and is not."""

    files: tuple[str, ...]
    missing: tuple[str, ...]


def fetch_checkpoint(repository: str, revision: str | None, role: Literal["large", "small"]) -> Path:
    """The folder of a checkpoint in the hub's cache; what it lacks is fetched.

    The hub is not asked where the cache holds all that is read.

    Raises:
        HybridStitchError: the cache lacks something, and the hub does not give it.
    """
    lacks = ""
    if (folder := _cached(repository, revision)) is not None:
        needed = files_needed(_names(folder), lambda name: _read(folder / name), role)
        if not needed.missing:
            return folder
        lacks = f", its copy in the hub's cache lacks {_few(needed.missing)},"
    try:
        return _download(repository, revision, role)
    except HybridStitchError:
        raise
    except Exception as error:  # the hub raises a dozen unrelated types: offline, gated, unknown, no space
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise HybridStitchError(f"is no folder here{lacks} and the hub gave: {reason}") from None


def files_needed(names: Collection[str], read: ReadJson, role: Literal["large", "small"]) -> Needed:
    """What is read of a repository, as export reads it.

    Of the small model that is its transformer. The configs of its other components say whether it fits the large one:
    they are fetched where they are, and missed nowhere.

    Args:
        names: of the repository's files, with `/`.
        read: gives the content of a JSON file among them; None where it is damaged.
    """
    names = set(names)
    if role == "small":
        beside = {_INDEX, _SCHEDULER, *(f"{name}/config.json" for name in _MODELS)}
        transformer = _model("transformer", names, read)
        return Needed(tuple(sorted({*transformer.files, *(beside & names)})), transformer.missing)
    index = read(_INDEX) if _INDEX in names else None
    if not isinstance(index, dict):
        return Needed((), (_INDEX,))
    named = {name for name, entry in index.items() if isinstance(entry, list) and entry and entry[-1]}
    parts = [Needed((_INDEX,), ())]
    parts += [_model(name, names, read) for name in _MODELS if name in named]
    parts += [_tokenizer(name, names) for name in _TOKENIZERS if name in named]
    parts += [_split({_SCHEDULER}, names)] if "scheduler" in named else []
    return Needed(
        tuple(name for part in parts for name in part.files), tuple(name for part in parts for name in part.missing)
    )


def _model(folder: str, names: set[str], read: ReadJson) -> Needed:
    """Its config, and its weights: one file, or an index and the shards that it names."""
    files = {f"{folder}/config.json"}
    weights = chosen_weights(_inside(folder, names))
    if weights is None:
        files.add(f"{folder}/{STEMS[0] if folder in ('transformer', 'vae') else STEMS[1]}.safetensors")
    else:
        files.add(f"{folder}/{weights}")
        if is_index(weights):
            files |= {f"{folder}/{shard}" for shard in _shards(read(f"{folder}/{weights}"))}
    return _split(files, names)


def _shards(index: Any) -> set[str]:
    shards = index.get("weight_map") if isinstance(index, dict) else None
    return {str(name) for name in shards.values()} if isinstance(shards, dict) else set()


def _tokenizer(folder: str, names: set[str]) -> Needed:
    """All its files: they are small, and which of them a tokenizer reads depends on its class."""
    here = set(_inside(folder, names))
    missing = {"tokenizer_config.json"} - here
    if not any(vocabulary <= here for vocabulary in _VOCABULARIES):
        missing.add("tokenizer.json")
    return Needed(
        tuple(sorted(f"{folder}/{name}" for name in here)), tuple(sorted(f"{folder}/{name}" for name in missing))
    )


def _split(files: set[str], names: set[str]) -> Needed:
    return Needed(tuple(sorted(files & names)), tuple(sorted(files - names)))


def _inside(folder: str, names: set[str]) -> Iterator[str]:
    for name in names:
        parent, _, own = name.rpartition("/")
        if parent == folder:
            yield own


def _cached(repository: str, revision: str | None) -> Path | None:
    """The snapshot of a revision in the hub's cache, whole or not."""
    from huggingface_hub import constants  # a slow import, and only hub ids need it
    from huggingface_hub.file_download import repo_folder_name

    repo = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repository, repo_type="model")
    revision = revision or constants.DEFAULT_REVISION
    try:
        commit = (repo / "refs" / revision).read_text(encoding="utf-8").strip()
    except OSError:
        commit = revision  # a commit is its own name
    folder = repo / "snapshots" / commit
    return folder if folder.is_dir() else None


def _names(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _download(repository: str, revision: str | None, role: Literal["large", "small"]) -> Path:
    """Fetch what is read; the hub's library keeps what the cache has already."""
    from huggingface_hub import HfApi, hf_hub_download, snapshot_download

    names = HfApi().list_repo_files(repository, revision=revision)
    needed = files_needed(names, lambda name: _read(Path(hf_hub_download(repository, name, revision=revision))), role)
    if needed.missing:
        raise HybridStitchError(
            f"is no checkpoint in diffusers' layout that can be read: on the hub it lacks {_few(needed.missing)}"
        )
    return Path(snapshot_download(repository, revision=revision, allow_patterns=list(needed.files)))


def _few(names: Collection[str]) -> str:
    first = sorted(names)[0]
    return first if len(names) == 1 else f"{first} and {len(names) - 1} more"
