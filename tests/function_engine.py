"""Engines for tests: the contract around a function, and a real session whose results are tampered with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

Compute = Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]


class FunctionEngine:
    """An engine, and its own only session, that computes with a function. calls: what was bound, in order."""

    def __init__(self, manifest: Any, compute: Compute) -> None:
        self.manifest, self.compute = manifest, compute
        self.device, self.dtype = torch.device("cpu"), torch.float32
        self.bound: list[FunctionCall] = []
        self.calls: list[tuple[int, int]] = []  # computed and frozen tokens of each run, where the function notes them
        self.module: Any = None

    @property
    def engine(self) -> FunctionEngine:
        return self

    def session(self, scratch: Any = None) -> FunctionEngine:
        return self

    def bind(self, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor] | None = None) -> FunctionCall:
        self.bound.append(FunctionCall(self, inputs, outputs))
        return self.bound[-1]

    def close(self) -> None: ...


class FunctionCall:
    def __init__(
        self, engine: FunctionEngine, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor] | None
    ) -> None:
        self.engine, self.inputs, self.outputs = engine, dict(inputs), dict(outputs or {})
        self.runs, self._own = 0, outputs is None

    @torch.inference_mode()
    def run(self) -> None:
        self.runs += 1
        results = self.engine.compute(self.inputs)
        if self._own:
            self.outputs = dict(results)
            return
        for name, tensor in self.outputs.items():
            tensor.copy_(results[name])


class Tampered:
    """A session whose calls run for real; `after` is then given their inputs and outputs, to change."""

    def __init__(self, session: Any, after: Callable[[Mapping[str, Tensor], Mapping[str, Tensor]], None]) -> None:
        self.engine, self._session, self._after = session.engine, session, after

    def bind(self, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor] | None = None) -> Any:
        call = self._session.bind(inputs, outputs)

        def run() -> None:
            call.run()
            self._after(inputs, call.outputs)

        return SimpleNamespace(run=run, outputs=call.outputs)
