"""Calls that were off, kept in Polygraphy's format, each with the `polygraphy run` command that repeats it.

Source: https://docs.nvidia.com/deeplearning/tensorrt/latest/_static/polygraphy/ (`polygraphy.json`, `RunResults`)
"""

from __future__ import annotations

import math
import os
import re
import shlex
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hybridstitch.engines.profiles import best_profile
from hybridstitch.engines.store.folder import Store
from hybridstitch.engines.store.manifest import Manifest
from hybridstitch.method.errors import HybridStitchError

from .call_cases import CallCase
from .compare import Bounds

INPUTS, ENGINE, REFERENCE, COMMAND = "inputs.json", "engine_outputs.json", "reference_outputs.json", "command.sh"


@dataclass(frozen=True)
class FailedCall:
    """One call that is off.

    failures: a line for each output that is. bounds: what each output had to keep to. outputs: the engine's; none where
    it could not run. expected: the reference's. seconds: of the engine's call.
    """

    manifest: Manifest
    case: CallCase
    failures: Sequence[str]
    bounds: Bounds
    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]
    expected: Mapping[str, Tensor]
    seconds: float

    @property
    def name(self) -> str:
        """Of its folder: no two calls of a verification have the same."""
        lengths = (f"{symbol}{length}" for symbol, length in self.case.lengths.items())
        words = "-".join((self.manifest.component, self.case.profile, self.case.place, *lengths))
        return re.sub(r"[^\w.-]+", "-", words)


Save = Callable[[FailedCall], Path | None]
"""Keeps a call and returns where; None: it is not kept."""


def forget(_: FailedCall) -> None:
    """Of calls that nobody asked to keep."""


class FailureFolder:
    """Where failed calls go, a folder for each. Nothing is made before the first one.

    problem: what kept a call from being saved; from then on no other is tried. None: all were saved.
    """

    def __init__(self, folder: Path, store: Store) -> None:
        self.folder = folder.absolute()
        self.problem: str | None = None
        self._store = store

    def save(self, call: FailedCall) -> Path | None:
        """Save one call, in the place of an earlier one of the same name, or note why it cannot be.

        Returns:
            Its folder: whole, or not there at all.
        """
        if self.problem is not None:
            return None
        target = self.folder / call.name
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self.folder, prefix=".saving-") as space:
                new = Path(space) / call.name
                new.mkdir()
                _write_tensors(new, call)
                (new / COMMAND).write_text(self._command(target, call), encoding="utf-8")
                shutil.rmtree(target, ignore_errors=True)
                new.rename(target)
        except (OSError, MemoryError, RuntimeError) as error:  # RuntimeError: what a broken engine left of the GPU
            reason = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())
            self.problem = f"{target} cannot be saved: {reason or type(error).__name__}"
            return None
        return target

    def _command(self, folder: Path, call: FailedCall) -> str:
        """What was off, as comments, and below it the command, in lines that a shell joins."""
        plan = self._store.file(call.manifest, "plan")
        assert plan is not None  # it has been opened
        environment = "POLYGRAPHY_USE_TENSORRT_RTX=1 " if call.manifest.backend == "tensorrt_rtx" else ""
        parts = [
            f"{environment}polygraphy run {shlex.quote(str(plan.absolute()))} {' '.join(_runner(call))}",
            f"--load-inputs {shlex.quote(str(folder / INPUTS))}",
            f"--load-outputs {shlex.quote(str(folder / REFERENCE))}",
            "--validate --compare l2 simple --check-error-stat max --rtol 0",
            *_limits(call),
        ]
        comments = [f"# {line}\n" for line in call.failures]
        return "".join(comments) + " \\\n    ".join(parts) + "\n"


def require_place(folder: Path) -> None:
    """Refuse, without making anything, a folder that could not be made or written in.

    Raises:
        HybridStitchError: the message says why.
    """
    try:
        above = next(path for path in (folder.absolute(), *folder.absolute().parents) if _is_there(path))
        with tempfile.TemporaryFile(dir=above):
            pass
    except OSError as error:
        raise HybridStitchError(f"--save-failures: cannot write in {folder}: {error.strerror}") from None


def _is_there(path: Path) -> bool:
    """Raises OSError where no file system can tell, such as below a file or for a name that is too long."""
    try:
        os.stat(path)
    except FileNotFoundError:
        return False
    return True


def _write_tensors(folder: Path, call: FailedCall) -> None:
    from polygraphy.comparator import RunResults  # a slow import
    from polygraphy.json import to_json

    whole = [*call.inputs.values(), *call.expected.values()]
    keep = _as_torch if any(tensor.dtype == torch.bfloat16 for tensor in whole) else _as_numpy
    (folder / INPUTS).write_text(to_json([{name: keep(tensor) for name, tensor in call.inputs.items()}]))
    for file, runner, tensors in ((ENGINE, "engine", call.outputs), (REFERENCE, "pytorch", call.expected)):
        if tensors:
            results = RunResults()
            results.add([{name: keep(tensor) for name, tensor in tensors.items()}], call.seconds, runner)
            (folder / file).write_text(to_json(results))


def _as_numpy(tensor: Tensor) -> Any:
    return tensor.cpu().numpy()


def _as_torch(tensor: Tensor) -> Tensor:
    """numpy knows no bfloat16, and Polygraphy takes numpy or torch, not both. A copy: a view is saved with all memory
    that it is a view of."""
    return tensor.to("cpu", copy=True, memory_format=torch.contiguous_format)


def _runner(call: FailedCall) -> list[str]:
    """The options that run the plan as its executor does."""
    manifest = call.manifest
    if manifest.backend == "onnxruntime":
        return ["--onnxrt"]
    profile = best_profile(manifest.profiles, call.case.lengths)
    streamed = ["--weight-streaming-budget -1"] if manifest.options.get("weight_streaming") else []
    return ["--trt", "--model-type engine", f"--optimization-profile {profile}", *streamed]


def _limits(call: FailedCall) -> list[str]:
    """The bounds in Polygraphy's terms, for this reference.

    Its L2 norm is absolute, and it knows no rows: instead each single value must keep to the worst row's bound, so that
    a row beyond it is always seen.
    """
    l2, single = [], []
    for name, tensor in call.expected.items():
        norm = float(tensor.double().norm())
        norm = norm if math.isfinite(norm) else 0.0
        l2.append(f"{name}:{call.bounds.relative_l2 * norm:.6g}")
        single.append(f"{name}:{call.bounds.worst_row * norm / math.sqrt(tensor.numel()):.6g}")
    return [f"--l2-threshold {' '.join(l2)}", f"--atol {' '.join(single)}"]
