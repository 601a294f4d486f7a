"""A built engine, from its folder: checked first, opened second."""

from __future__ import annotations

from pathlib import Path

import torch

from hybridstitch.method.errors import HybridStitchError

from .backends import Backend, find_backend, hardware, require_gpu
from .executors.engine import Engine
from .store.folder import Store
from .store.manifest import Manifest, check_usable


def load_manifest(
    folder: Path | str, component: str, *, pair: str | None = None, backend: str | None = None
) -> Manifest:
    """What is built of a component in `folder`; nothing of the plan is read.

    Args:
        pair, backend: what the folder should hold, to name in messages; read from its path by default.

    Raises:
        HybridStitchError: not built, or not a manifest of this version; the message has the command that builds it.
    """
    return Store(Path(folder), pair=pair, backend=backend).manifest(component)


def position_file(folder: Path | str, component: str) -> Path:
    """The position table of a built transformer: tensor `position`, [S, S, D] in float32, in a .safetensors file.

    Raises:
        HybridStitchError: not built, or no transformer.
    """
    store = Store(Path(folder))
    manifest = store.manifest(component)
    path = store.file(manifest, "position")
    if path is None:
        raise HybridStitchError(f"the {component} engine has no position table: it is no transformer")
    return path


def assets_folder(folder: Path | str) -> Path:
    """Tokenizers, scheduler and pair.json of the built pair in `folder`.

    Raises:
        HybridStitchError: nothing is built there, or the engines are of different exports.
    """
    return Store(Path(folder)).assets()


def load_engine(
    folder: Path | str,
    component: str,
    *,
    backend: str,
    device: torch.device | str | None = None,
    threads: int | None = None,
    pair: str | None = None,
) -> Engine:
    """Open one engine of a built pair.

    Plans can run code: load only what you built, or have from someone you trust.

    Args:
        folder: what `build_pair` filled. component: "large", "small", "text_encoder", ..., "vae_decoder".
        device: the CPU, or the current GPU for backends that need one, by default.
        threads: of onnxruntime alone; by default one for each physical core.
        pair: refuse engines of any other pair.

    Raises:
        HybridStitchError: an unknown or missing backend, no GPU, an engine that is not built, was built for another
            pair, version or GPU, or whose files are damaged. Checked in this order, before the plan is read.
    """
    known = find_backend(backend)
    _ = known.version
    place = _device(known, device)
    store = Store(Path(folder), pair=pair, backend=backend)
    manifest = store.manifest(component)
    if pair is not None:
        check_pair(manifest, store, pair)
    store.pair = manifest.pair
    check_usable(manifest, backend=backend, hardware=hardware(place), rebuild=store.rebuild)
    manifest = _check_files(store, manifest)
    return _open(store, manifest, known, place, threads)


def check_pair(manifest: Manifest, store: Store, pair: str) -> None:
    """Refuse an engine of another pair.

    Raises:
        HybridStitchError: it is of another.
    """
    if manifest.pair != pair:
        raise HybridStitchError(
            f"{store.folder} holds engines of pair {manifest.pair!r}, not of {pair!r}. Build them: {store.rebuild}"
        )


def _check_files(store: Store, manifest: Manifest) -> Manifest:
    """A build may have replaced the engine since its manifest was read: then the new one is taken."""
    try:
        store.check_files(manifest)
    except HybridStitchError:
        now = store.manifest(manifest.component)
        if now.key == manifest.key:
            raise
        store.check_files(now)
        return now
    return manifest


def _device(backend: Backend, device: torch.device | str | None) -> torch.device:
    place = torch.device(device if device is not None else "cuda" if backend.needs_gpu else "cpu")
    if backend.needs_gpu or place.type == "cuda":
        require_gpu(backend)
    if backend.needs_gpu and place.type != "cuda":
        raise HybridStitchError(f"backend {backend.name} runs on a GPU, not on {place}")
    if backend.name == "onnxruntime" and place.type != "cpu":
        raise HybridStitchError(
            f"backend onnxruntime runs on the CPU, not on {place}; "
            "for a GPU use --backend tensorrt_rtx, tensorrt or torch"
        )
    if place.type == "cuda" and place.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return place


def _open(store: Store, manifest: Manifest, backend: Backend, device: torch.device, threads: int | None) -> Engine:
    if backend.name == "torch":
        from .executors.torch_engine import TorchEngine

        return TorchEngine(manifest, device=device)
    plan = store.file(manifest, "plan")
    if plan is None:
        raise HybridStitchError(f"{store.folder / manifest.component} has no plan. Build it again: {store.rebuild}")
    if backend.is_tensorrt:
        from .executors.tensorrt_engine import TensorRTEngine

        return TensorRTEngine(manifest, plan, device=device)
    from .executors.onnxruntime_engine import OnnxRuntimeEngine

    return OnnxRuntimeEngine(manifest, plan, threads=threads)
