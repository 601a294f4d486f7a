"""Where the time of one served picture went."""

from __future__ import annotations

import time
from typing import Any

from .ticket import Update


class PictureTimes:
    """Where the time of one picture went, told from when its updates came.

    waiting: seconds until its batch had begun and its text was encoded. stages: steps and seconds of each.
    decode: seconds from the last step to the picture. total: all of it.
    """

    def __init__(self) -> None:
        self._start = self._last = time.monotonic()
        self._waiting = 0.0
        self._stages: dict[str, dict[str, float]] = {}

    def step(self, update: Update, now: float) -> None:
        spent, self._last = now - self._last, now
        if update.step == 0:
            self._waiting = spent
            return
        stage = self._stages.setdefault(update.stage, {"steps": 0, "seconds": 0.0})
        stage["steps"] += 1
        stage["seconds"] += spent

    def finish(self, now: float) -> dict[str, Any]:
        stages = {name: {**spent, "seconds": round(spent["seconds"], 4)} for name, spent in self._stages.items()}
        decode, total = round(now - self._last, 4), round(now - self._start, 4)
        return {"waiting": round(self._waiting, 4), "stages": stages, "decode": decode, "total": total}
