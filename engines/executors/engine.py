"""The engine contract: an engine is opened as sessions, a session binds calls, a bound call runs many times."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.models.tensors import TensorSpec

from ..out_of_memory import running
from ..profiles import refusal, resolve
from ..store.manifest import Manifest
from .scratch_arena import ScratchArena


class Engine(Protocol):
    """One component of a pair: its weights, ready to be opened as sessions.

    Which tensors: `manifest.inputs` and `manifest.outputs`.
    """

    @property
    def manifest(self) -> Manifest:
        """What was built, with its profiles."""
        ...

    @property
    def device(self) -> torch.device:
        """Where inputs must be and outputs are."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Of the floating-point tensors, but for `timestep`, which is float32 always."""
        ...

    def session(self, scratch: ScratchArena | None = None) -> Session:
        """A new session. Sessions share the weights; each may run in a thread, and on a stream, of its own.

        Args:
            scratch: memory for intermediate results that sessions share which never run at once, also of other engines;
                by default a session has its own. Backends that bring their own take no notice of it.

        Raises:
            HybridStitchError: the engine is closed.
            OutOfMemory: not enough memory for what a session holds from the start.
        """
        ...

    def close(self) -> None:
        """Give back the memory that it holds; none of its sessions can run again."""
        ...


class Session(Protocol):
    """Execution contexts and scratch memory of one engine, for one thread at a time."""

    @property
    def engine(self) -> Engine: ...

    def bind(self, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor] | None = None) -> BoundCall:
        """Check a call once, so that it can run many times.

        Args:
            inputs: every input of the component, contiguous. The call reads this very memory each time that it runs.
            outputs: contiguous tensors to write into. Only these are computed, where the backend can leave the others
                out; without it, every output is, into memory of the call's own.

        Raises:
            HybridStitchError: a tensor that is missing, unknown or not contiguous, or of another dtype, device or
                shape, or lengths that no profile holds.
            OutOfMemory: not enough memory for the call; nothing of it is left.
        """
        ...


class BoundCall(Protocol):
    """A call whose tensors are fixed."""

    @property
    def outputs(self) -> Mapping[str, Tensor]:
        """What it writes, by name. A shape that only the graph can tell is known after the first run."""
        ...

    def run(self) -> None:
        """Enqueue the call on torch's current stream, and nothing else: no check, no host synchronisation.

        Raises:
            HybridStitchError: the engine is closed, or its backend failed.
            OutOfMemory: not enough memory for what the backend allocates as it runs.
        """
        ...


def run_once(
    session: Session, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """The outputs of a call that runs but once; its inputs need not be contiguous.

    Raises:
        HybridStitchError, OutOfMemory: as `Session.bind` and `BoundCall.run`.
    """
    with running(session.engine.manifest.component, session.engine.device):
        return _run_once(session, inputs, outputs)


def _run_once(
    session: Session, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor] | None
) -> dict[str, Tensor]:
    call = session.bind({name: tensor.contiguous() for name, tensor in inputs.items()}, outputs)
    call.run()
    return dict(call.outputs)


def check_call(
    manifest: Manifest,
    device: torch.device,
    inputs: Mapping[str, Tensor],
    outputs: Mapping[str, Tensor] | None,
) -> dict[str, int]:
    """What every executor checks when it binds a call.

    Returns:
        The length of each dynamic dimension.

    Raises:
        HybridStitchError: as `Session.bind`.
    """
    component = manifest.component
    _check_names(component, "input", inputs, manifest.inputs, complete=True)
    lengths: dict[str, int] = {}
    for name, spec in manifest.inputs.items():
        _check_tensor(component, name, inputs[name], spec, device)
        if not inputs[name].is_contiguous():
            raise HybridStitchError(f"{component} engine: {name} is not contiguous in memory")
        _read_lengths(component, name, inputs[name], spec, lengths)
    if not any(profile.admits(lengths) for profile in manifest.profiles):
        raise HybridStitchError(refusal(component, manifest.profiles, lengths))
    if outputs is not None:
        _check_names(component, "output", outputs, manifest.outputs, complete=False)
        for name, tensor in outputs.items():
            _check_output(component, name, tensor, manifest.outputs[name], lengths, device)
    return lengths


def output_shape(spec: TensorSpec, lengths: Mapping[str, int]) -> tuple[int, ...] | None:
    """The shape of an output, or None where only the graph can tell it (a picture's height and width)."""
    try:
        return resolve(spec.dims, lengths)
    except KeyError:
        return None


def _check_names(
    component: str, kind: str, given: Mapping[str, Tensor], specs: Mapping[str, TensorSpec], *, complete: bool
) -> None:
    if unknown := [name for name in given if name not in specs]:
        raise HybridStitchError(f"{component} engine: no {kind} {unknown[0]!r}; it has {', '.join(specs)}")
    if complete and (missing := [name for name in specs if name not in given]):
        raise HybridStitchError(f"{component} engine: {kind} {missing[0]!r} is missing")


def _check_tensor(component: str, name: str, tensor: Tensor, spec: TensorSpec, device: torch.device) -> None:
    given = str(tensor.dtype).removeprefix("torch.")
    if given != spec.dtype:
        raise HybridStitchError(f"{component} engine: {name} is {given}, not {spec.dtype}")
    if tensor.device != device:
        raise HybridStitchError(f"{component} engine: {name} is on {tensor.device}, the engine on {device}")


def _read_lengths(component: str, name: str, tensor: Tensor, spec: TensorSpec, lengths: dict[str, int]) -> None:
    shape = tuple(tensor.shape)
    fits = len(shape) == len(spec.dims)
    for length, dim in zip(shape, spec.dims, strict=False):
        expected = lengths.setdefault(dim, length) if isinstance(dim, str) else dim
        fits = fits and length == expected
    if not fits:
        expected_shape = ", ".join(str(lengths.get(dim, dim) if isinstance(dim, str) else dim) for dim in spec.dims)
        raise HybridStitchError(f"{component} engine: {name} has shape {list(shape)}, not [{expected_shape}]")


def _check_output(
    component: str,
    name: str,
    tensor: Tensor,
    spec: TensorSpec,
    lengths: Mapping[str, int],
    device: torch.device,
) -> None:
    _check_tensor(component, name, tensor, spec, device)
    shape = output_shape(spec, lengths)
    if shape is not None and tuple(tensor.shape) != shape:
        raise HybridStitchError(f"{component} engine: output {name} has shape {list(tensor.shape)}, not {list(shape)}")
    if not tensor.is_contiguous():
        raise HybridStitchError(f"{component} engine: output {name} is not contiguous in memory")
