"""NaN, infinity and zeros never become a picture: one rule for every output, and a watch that waits for no device."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import torch
from torch import Tensor

from hybridstitch.method.errors import HybridStitchError


def peaks(output: Tensor) -> Tensor:
    """[B]: the largest magnitude in each row of an output [B, ...], NaN where the row has one; none of an empty one."""
    largest = output.abs().amax(tuple(range(1, output.dim()))) if output.numel() else output.new_empty(0)
    return largest if largest.dtype == torch.float32 else largest.float()


def fault(rows: Sequence[float]) -> str | None:
    """What keeps an output with these peaks from becoming a picture, in words; None: nothing."""
    if all(0 < peak < float("inf") for peak in rows):
        return None
    return "only zeros" if all(peak < float("inf") for peak in rows) else "NaN or infinity"


class Health:
    """What every engine call of a run came to: one number for each row, read all at once at the end."""

    def __init__(self) -> None:
        self._where: list[str] = []
        self._rows: list[int] = []
        self._peaks: list[Tensor] = []

    def watch(self, where: str, output: Tensor) -> None:
        """Note an output [B, ...]; `where` names the engine and the step."""
        self.note([where], peaks(output)[None])

    def note(self, where: Sequence[str], peaks: Tensor) -> None:
        """Note the peaks [K, B] of K outputs."""
        self._where += where
        self._rows += [peaks.shape[1]] * len(where)
        self._peaks.append(peaks.flatten())

    def problems(self, images: int) -> list[str | None]:
        """Of each image what is wrong with its rows, the first thing first; None: nothing. Waits for the device.

        Row r of an output belongs to image r % images: negative prompts come before the others.
        """
        problems: list[str | None] = [None] * images
        values = torch.cat(self._peaks).tolist()
        if fault(values) is None:
            return problems
        read = iter(values)
        for where, count in zip(self._where, self._rows, strict=True):
            rows = list(islice(read, count))
            for image in range(images):
                if problems[image] is None and (what := fault(rows[image::images])):
                    problems[image] = (
                        f"{where} gave {what}: the engine overflows or is damaged; build it in bfloat16 or float32, or "
                        "check it against its checkpoint"
                    )
        return problems

    def check(self, images: int) -> None:
        """Refuse a run of which any image is wrong.

        Raises:
            HybridStitchError: see `problems`.
        """
        for problem in self.problems(images):
            if problem is not None:
                raise HybridStitchError(problem)
