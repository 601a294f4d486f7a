"""An engine whose memory is given back between two uses, for a device that does not hold all engines at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from hybridstitch.method.errors import HybridStitchError

from ..store.manifest import Manifest
from .engine import BoundCall, Engine, Session
from .scratch_arena import ScratchArena


class ReleasedEngine:
    """Opens an engine when a call needs it, and closes it when it is released (see `Engine`). For one thread at a time.

    Calls that were bound stay bound, to the same tensors: after a release they are bound anew as they run.
    """

    def __init__(self, manifest: Manifest, open_engine: Callable[[], Engine], *, device: torch.device) -> None:
        self.manifest, self.device = manifest, device
        self.dtype: torch.dtype = getattr(torch, manifest.dtype)
        self._open_engine = open_engine
        self._engine: Engine | None = None
        self._closed = False

    @property
    def is_open(self) -> bool:
        """Whether it holds memory."""
        return self._engine is not None

    def session(self, scratch: ScratchArena | None = None) -> ReleasedSession:
        self._check_open()
        return ReleasedSession(self, scratch)

    def opened(self) -> Engine:
        """The engine itself, opened if it is not.

        Raises:
            HybridStitchError: it is closed, or cannot be opened (any more).
            OutOfMemory: memory does not hold it.
        """
        self._check_open()
        if self._engine is None:
            self._engine = self._open_engine()
        return self._engine

    def release(self) -> None:
        """Give back its memory until a call needs it again."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def close(self) -> None:
        self.release()
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise HybridStitchError(f"the {self.manifest.component} engine is closed")


class ReleasedSession:
    """Binds calls that outlive what they are bound to (see `Session`)."""

    def __init__(self, engine: ReleasedEngine, scratch: ScratchArena | None) -> None:
        self.engine, self._scratch = engine, scratch
        self._of: Engine | None = None
        self._session: Session | None = None

    def bind(self, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor] | None = None) -> ReleasedCall:
        return ReleasedCall(self, inputs, outputs)

    def opened(self) -> tuple[Engine, Session]:
        """The engine, opened if it is not, and this session of it."""
        engine = self.engine.opened()
        if self._session is None or engine is not self._of:
            self._of, self._session = engine, engine.session(self._scratch)
        return engine, self._session


class ReleasedCall:
    """A call that is bound once more where its engine was released since (see `BoundCall`)."""

    def __init__(
        self, session: ReleasedSession, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor] | None
    ) -> None:
        self._owner, self._inputs, self._written = session, dict(inputs), outputs
        self._of, opened = session.opened()
        self._call: BoundCall = opened.bind(self._inputs, outputs)

    @property
    def outputs(self) -> Mapping[str, Tensor]:
        return self._call.outputs

    def run(self) -> None:
        engine, session = self._owner.opened()
        if engine is not self._of:
            self._of, self._call = engine, session.bind(self._inputs, self._written)
        self._call.run()
