"""The executor of a component that has a plan for each picture size: it opens the plan that a call needs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from weakref import WeakSet

import torch
from torch import Tensor

from hybridstitch.method.errors import HybridStitchError, OutOfMemory

from ..plans import joined, plan_for
from ..store.manifest import Manifest
from .engine import BoundCall, Engine, Session, check_call
from .scratch_arena import ScratchArena


class SplitEngine:
    """Several plans as one engine (see `Engine`), of which those are open that bound calls are held of, and the latest.

    Its manifest is that of all plans together. K/V that one plan wrote may be read by another: they are tensors.
    """

    def __init__(
        self, plans: Sequence[Manifest], open_plan: Callable[[Manifest], Engine], *, device: torch.device
    ) -> None:
        """Open none yet.

        Args:
            open_plan: opens one; what it raises, `bind` raises.
        """
        self.manifest = joined(plans)
        self.device = device
        self.dtype: torch.dtype = getattr(torch, self.manifest.dtype)
        self._plans, self._open_plan = plans, open_plan
        self._engines: dict[str, Engine] = {}
        self._calls: dict[str, WeakSet[BoundCall]] = {plan.name: WeakSet() for plan in plans}
        self._lock = threading.Lock()
        self._closed = False

    def session(self, scratch: ScratchArena | None = None) -> SplitSession:
        self._check_open()
        return SplitSession(self, scratch)

    def bind(
        self,
        sessions: dict[str, Session],
        inputs: Mapping[str, Tensor],
        outputs: Mapping[str, Tensor] | None,
        scratch: ScratchArena | None = None,
    ) -> BoundCall:
        """Bind a call in the plan of its lengths.

        Args:
            sessions: those that a session has of each plan so far, by name; a new one is added. scratch: theirs.
        """
        with self._lock:  # until the call is known, nothing else keeps its plan open
            self._check_open()
            plan = plan_for(self._plans, check_call(self.manifest, self.device, inputs, outputs))
            was_open = plan.name in self._engines
            engine = self._opened(plan)
            try:
                if plan.name not in sessions or sessions[plan.name].engine is not engine:
                    sessions[plan.name] = engine.session(scratch)
                call = sessions[plan.name].bind(inputs, outputs)
            except OutOfMemory:
                if not was_open:  # it was opened for this call alone, and whoever tries again needs its memory
                    sessions.pop(plan.name, None)
                    self._engines.pop(plan.name).close()
                raise
            self._calls[plan.name].add(call)
            return call

    def close(self) -> None:
        """Close every plan that is open."""
        with self._lock:
            self._closed = True
            while self._engines:
                self._engines.popitem()[1].close()

    def _opened(self, plan: Manifest) -> Engine:
        """A plan's engine; before a plan is opened, those that no call is held of go, so that their memory is free."""
        if plan.name not in self._engines:
            for name in [name for name in self._engines if not self._calls[name]]:
                self._engines.pop(name).close()
            self._engines[plan.name] = self._open_plan(plan)
        return self._engines[plan.name]

    def _check_open(self) -> None:
        if self._closed:
            raise HybridStitchError(f"the {self.manifest.component} engine is closed")


class SplitSession:
    """Binds calls of whichever plan takes them, with a session of each (see `Session`)."""

    def __init__(self, engine: SplitEngine, scratch: ScratchArena | None) -> None:
        self.engine, self._scratch = engine, scratch
        self._sessions: dict[str, Session] = {}

    def bind(self, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor] | None = None) -> BoundCall:
        return self.engine.bind(self._sessions, inputs, outputs, self._scratch)
