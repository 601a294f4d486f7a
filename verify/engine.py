"""One engine against the torch reference: every case, every output."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from hybridstitch.engines.executors.engine import Engine, Session, run_once
from hybridstitch.engines.executors.torch_engine import TorchEngine
from hybridstitch.engines.out_of_memory import Allocation, is_out_of_memory
from hybridstitch.engines.profiles import Profile
from hybridstitch.engines.store.manifest import Manifest

from .call_cases import CallCase
from .compare import CALL_BOUNDS, Bounds, Comparison, compare_outputs, precision
from .failures import FailedCall, Save, forget
from .inputs import Material, inputs_for

UNLIMITED = 2**31 - 1


@dataclass(frozen=True)
class CaseReport:
    """What became of one call.

    seconds: of the engine's call alone. problem: why there is nothing to compare. saved: where a call that is off was
    saved.
    """

    component: str
    case: CallCase
    comparisons: tuple[Comparison, ...]
    seconds: float
    problem: str | None = None
    saved: Path | None = None

    @property
    def failures(self) -> list[str]:
        """One line for each output that is off."""
        where = f"{self.component}, {self.case}"
        if self.problem:
            return [f"{where}: {self.problem}"]
        return [
            f"{where}, {comparison.output}: {comparison.problem}"
            for comparison in self.comparisons
            if comparison.problem
        ]

    def worst(self, bounds: Bounds) -> Comparison | None:
        """The output that comes nearest to its bounds, or goes farthest beyond."""
        return max(self.comparisons, key=lambda comparison: comparison.severity(bounds), default=None)


def open_reference(manifest: Manifest, checkpoint: Path, device: torch.device, threads: int | None = None) -> Engine:
    """The module that an engine was exported from, with the checkpoint's weights, in the engine's dtype.

    It takes lengths beyond the engine's profiles, so that it can leave keys and values of any number of tokens.

    Raises:
        HybridStitchError: the checkpoint does not hold the component.
        OutOfMemory: the device has no room for it.
    """
    symbols = {dim for spec in manifest.inputs.values() for dim in spec.dims if isinstance(dim, str)}
    unlimited = Profile("any", dict.fromkeys(symbols, (0, 1, UNLIMITED)))
    with enough_memory(manifest.component, device):
        unbounded = replace(manifest, checkpoint=str(checkpoint), profiles=(unlimited,))
        return TorchEngine(unbounded, device=device, threads=threads)


def engine_bounds(manifest: Manifest) -> Bounds:
    """The bounds that each call of an engine must keep to."""
    return CALL_BOUNDS[precision(manifest.dtype, manifest.backend)]


def verify_engine(
    engine: Engine,
    reference: Engine,
    cases: Sequence[CallCase],
    material: Material,
    on_case: Callable[[CallCase], None] = lambda _: None,
    save: Save = forget,
) -> list[CaseReport]:
    """Run every case on both.

    Args:
        reference: as `open_reference` gives it, on the engine's device.
        on_case: called before each case; what it raises ends the verification.
        save: given each call that is off.

    Raises:
        OutOfMemory: not enough memory for both.
    """
    session, expected = engine.session(), reference.session()
    reports = []
    for case in cases:
        on_case(case)
        with enough_memory(engine.manifest.component, engine.device), torch.inference_mode():
            reports.append(_verify_case(session, expected, case, material, save))
    return reports


def _verify_case(session: Session, reference: Session, case: CallCase, material: Material, save: Save) -> CaseReport:
    engine = session.engine
    manifest, bounds = engine.manifest, engine_bounds(engine.manifest)
    outputs: Mapping[str, Tensor] = {}
    problem = None
    inputs = inputs_for(engine, case.lengths, material, reference)
    expected = run_once(reference, inputs)
    _wait(engine.device)
    start = time.perf_counter()
    try:
        outputs = run_once(session, inputs)
        _wait(engine.device)
    except Exception as error:  # a backend's errors share no base class, and each is what this is here to find
        if is_out_of_memory(error):
            raise
        problem = f"it cannot run: {one_line(error)}"
    seconds = time.perf_counter() - start
    comparisons = () if problem else tuple(compare_outputs(outputs, expected, bounds))
    report = CaseReport(manifest.component, case, comparisons, seconds, problem)
    if not report.failures:
        return report
    call = FailedCall(manifest, case, report.failures, bounds, inputs, outputs, expected, seconds)
    return replace(report, saved=save(call))


def one_line(error: BaseException) -> str:
    """What an error says, as one line; its kind where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def enough_memory(component: str, device: torch.device) -> Allocation:
    """For all that a verification loads and runs: it says what a verification needs where there is no room for it."""
    return Allocation(
        f"verify {component}",
        device,
        "its engine and its reference are there at the same time, so it takes about twice the weights; verify on a "
        "larger machine, or the smaller components alone (--component)",
    )


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
