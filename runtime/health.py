"""NaN, infinity and zeros never become a picture: every velocity is watched, without waiting for the device."""

from __future__ import annotations

import torch
from torch import Tensor

from hybridstitch.method.errors import HybridStitchError


class Health:
    """Collects one number per row of each engine call and reads them all once, at the end of a run."""

    def __init__(self) -> None:
        self._where: list[str] = []
        self._largest: list[Tensor] = []

    def watch(self, where: str, output: Tensor) -> None:
        """Note an output [B, ...]; `where` names the engine and the step. An empty output is always fine."""
        if output.numel():
            self._where.append(where)
            self._largest.append(output.abs().flatten(1).amax(1).float())

    def check(self) -> None:
        """Read what was noted (waits for the device).

        Raises:
            HybridStitchError: the first output with NaN, infinity, or nothing but zeros.
        """
        read = torch.cat(self._largest).split([len(rows) for rows in self._largest])
        for where, rows in zip(self._where, (rows.tolist() for rows in read), strict=True):
            if not all(0 < largest < float("inf") for largest in rows):
                what = "only zeros" if all(largest < float("inf") for largest in rows) else "NaN or infinity"
                raise HybridStitchError(
                    f"{where} gave {what}: the engine overflows or is damaged; build it in bfloat16 or float32, or "
                    "check it against its checkpoint"
                )
