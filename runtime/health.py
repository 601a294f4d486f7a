"""NaN, infinity and zeros never become a picture: one rule for every output, and a watch that waits for no device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hybridstitch.method.errors import HybridStitchError


def peaks(output: Tensor) -> Tensor:
    """[B]: the largest magnitude in each row of an output [B, ...], NaN where the row has one; none of an empty one."""
    return output.abs().flatten(1).amax(1).float() if output.numel() else output.new_empty(0).float()


def fault(rows: Sequence[float]) -> str | None:
    """What keeps an output with these peaks from becoming a picture, in words; None: nothing."""
    if all(0 < peak < float("inf") for peak in rows):
        return None
    return "only zeros" if all(peak < float("inf") for peak in rows) else "NaN or infinity"


class Health:
    """Collects one number per row of each engine call and reads them all once, at the end of a run."""

    def __init__(self) -> None:
        self._where: list[str] = []
        self._peaks: list[Tensor] = []

    def watch(self, where: str, output: Tensor) -> None:
        """Note an output [B, ...]; `where` names the engine and the step. An empty output is always fine."""
        self._where.append(where)
        self._peaks.append(peaks(output))

    def check(self) -> None:
        """Read what was noted (waits for the device).

        Raises:
            HybridStitchError: the first output with NaN, infinity, or nothing but zeros.
        """
        read = torch.cat(self._peaks).cpu().split([len(rows) for rows in self._peaks])
        for where, rows in zip(self._where, read, strict=True):
            if what := fault(rows.tolist()):
                raise HybridStitchError(
                    f"{where} gave {what}: the engine overflows or is damaged; build it in bfloat16 or float32, or "
                    "check it against its checkpoint"
                )
