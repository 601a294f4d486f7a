"""How far an engine's output is from the reference's, and how far it may be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from hybridstitch.engines.backends import find_backend
from hybridstitch.runtime.health import fault, peaks


@dataclass(frozen=True)
class Bounds:
    """What an engine must keep to.

    relative_l2: of the whole output, |engine - reference| / |reference|, at most. cosine: of the two, at least.
    worst_row: the same difference for the worst single row of the last axis (a token, a head's key, a line of the
        picture), against the root mean square of all rows, at most: one token that is wrong among thousands hardly
        moves the first two. The row with the largest rounding error lies well above the mean, and so does its bound.
    """

    relative_l2: float
    cosine: float
    worst_row: float


CALL_BOUNDS = {
    "float32": Bounds(relative_l2=4e-5, cosine=1 - 1e-9, worst_row=6e-5),
    "float16": Bounds(relative_l2=1e-2, cosine=1 - 1e-4, worst_row=2e-2),
    "bfloat16": Bounds(relative_l2=5e-2, cosine=1 - 1.5e-3, worst_row=1e-1),
}
"""For each output of one call, by the engine's dtype.

Healthy engines of the demo pair (6 layers) reach at most, over all components, cases and outputs, in relative L2 and
worst row: float32 4.2e-6 and 5.6e-6, float16 1.3e-3 and 2.3e-3 (both ONNX Runtime), bfloat16 1.0e-2 and 1.8e-2 (float32
arithmetic on bfloat16 weights, the most that rounding can differ). The bounds are 8 to 10 times that, for bfloat16 5
times: rounding grows with the root of the layers, 2.5 times as much in 38 of them. The cosine is what two vectors have
that differ by the relative L2 at a right angle, 1 - L2^2 / 2, rounded.

What they catch: in float32 the flipped sign of one weight of the demo's transformers, for 85 of 100 weights at random
(98 of 100 where it is its matrix's largest); the others move no output beyond rounding. In 16 bits one weight is mostly
lost in the rounding, as it is in a picture; a wrong token, row, key or matrix is not. Weights that no input reads, such
as the embeddings of words that are in no prompt, cannot be seen in any dtype.
"""

RUN_BOUNDS = {
    "float32": Bounds(relative_l2=6e-5, cosine=1 - 2e-9, worst_row=7e-4),
    "float16": Bounds(relative_l2=3e-2, cosine=1 - 5e-4, worst_row=2e-1),
    "bfloat16": Bounds(relative_l2=1.2e-1, cosine=1 - 8e-3, worst_row=5e-1),
}
"""For the final tokens of a short run. A trained model is sharp: it amplifies rounding from step to step, most of all
in single tokens at the edge of an object. The demo pair reaches in float32 6.4e-6 and 7.0e-5 (seeds 0 and 1), in
float16 3.1e-3 and 1.5e-2 (seed 0), all ONNX Runtime; bfloat16 has not been measured on it and is float16 times the
ratio of their calls' bounds. What is wrong in an engine shows in its calls, whose bounds are tight; a run shows what
is wrong between them: stages, masks, frozen keys and values."""

LEAST_SAME_MASK = {"float32": 0.98, "float16": 0.95, "bfloat16": 0.9}
"""Of a mask's tokens, the share that engines and reference must agree on. The scores of tokens at its edge are nearly
equal, so rounding decides there: measured 100 %, 100 % and 98.75 % (one token of 80)."""


def precision(dtype: str, backend: str) -> str:
    """The row of the bounds' tables that an engine belongs to.

    TensorRT may multiply float32 matrices in TF32, whose mantissa is float16's.
    """
    return "float16" if dtype == "float32" and find_backend(backend).is_tensorrt else dtype


@dataclass(frozen=True)
class Comparison:
    """One output of one call. problem: what is wrong with it, or None; numbers are None where there is none to give."""

    output: str
    problem: str | None = None
    relative_l2: float | None = None
    cosine: float | None = None
    worst_row: float | None = None

    @property
    def error_of_cosine(self) -> float | None:
        """1 - cosine."""
        return None if self.cosine is None else 1 - self.cosine

    def numbers(self) -> str:
        """What was measured, or what kept it from being measured."""
        if self.relative_l2 is None or self.cosine is None or self.worst_row is None:
            return self.problem or "not measured"
        return f"relative L2 {self.relative_l2:.1e}, 1 - cosine {1 - self.cosine:.1e}, worst row {self.worst_row:.1e}"

    def severity(self, bounds: Bounds) -> float:
        """How much of its bounds it uses up: over 1 is too far, infinite is no number at all."""
        if self.relative_l2 is None or self.cosine is None or self.worst_row is None:
            return float("inf")
        return max(
            self.relative_l2 / bounds.relative_l2,
            (1 - self.cosine) / (1 - bounds.cosine),
            self.worst_row / bounds.worst_row,
        )


def compare_outputs(
    outputs: Mapping[str, Tensor], references: Mapping[str, Tensor], bounds: Bounds
) -> list[Comparison]:
    """Every output of a call against the reference's of the same name."""
    return [
        compare(name, outputs[name], reference, bounds)
        if name in outputs
        else Comparison(name, "the engine gave no such output")
        for name, reference in references.items()
    ]


def compare(name: str, output: Tensor, reference: Tensor, bounds: Bounds) -> Comparison:
    """One output, of any shape, against the reference's."""
    if output.shape != reference.shape:
        return Comparison(name, f"shape {list(output.shape)}, not {list(reference.shape)}")
    for whose, tensor in (("cannot be judged: the reference gave ", reference), ("it gave ", output)):
        if what := fault(peaks(tensor).tolist()):
            return Comparison(name, f"{whose}{what}")
    comparison = _measure(name, output, reference)
    if comparison.severity(bounds) <= 1:
        return comparison
    return Comparison(**{**vars(comparison), "problem": _explain(comparison, bounds)})


def _measure(name: str, output: Tensor, reference: Tensor) -> Comparison:
    """In float64: the difference of two nearly equal float32 sums is all rounding."""
    ours, theirs = output.double(), reference.double()
    rows = (ours - theirs).flatten(0, -2).norm(dim=1)
    scale = theirs.flatten(0, -2).norm(dim=1)
    cosine = torch.dot(ours.flatten(), theirs.flatten()) / (ours.norm() * theirs.norm())
    return Comparison(
        name,
        relative_l2=float(rows.norm() / scale.norm()),
        cosine=float(cosine),
        worst_row=float(rows.max() / scale.square().mean().sqrt()),
    )


def _explain(comparison: Comparison, bounds: Bounds) -> str:
    """The numbers that are out of bounds, each with its bound."""
    assert comparison.relative_l2 is not None
    assert comparison.cosine is not None
    assert comparison.worst_row is not None
    broken = []
    if comparison.relative_l2 > bounds.relative_l2:
        broken.append(f"relative L2 {comparison.relative_l2:.2g}, at most {bounds.relative_l2:.2g}")
    if comparison.cosine < bounds.cosine:
        broken.append(f"1 - cosine {1 - comparison.cosine:.2g}, at most {1 - bounds.cosine:.2g}")
    if comparison.worst_row > bounds.worst_row:
        broken.append(f"worst row {comparison.worst_row:.2g}, at most {bounds.worst_row:.2g}")
    return "; ".join(broken)
