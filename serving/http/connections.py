"""A client's connection: how long it may take to say what it wants, and how many of them there can be."""

from __future__ import annotations

import asyncio
import resource

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

ARRIVAL = 30.0
"""Seconds from a connection, or from a request's first byte on one that is kept, to the request's last byte."""

MAX_HEAD = 32 * 1024
"""Bytes of a request's first line and headers together, however many they are."""

OPEN_FILES = 65_536
"""Connections and files that the process may have open at once, where the system lets it."""


class Connection(H11Protocol):
    """uvicorn's, which ends clients that say nothing or say it too slowly: it waits for them forever."""

    _overdue: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        super().connection_lost(exc)

    def _watch(self) -> None:
        """Time a request from its first byte; also the rest of a body that was refused, which is thrown away."""
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self._forget()
        elif self._overdue is None:
            self._overdue = self.loop.call_later(ARRIVAL, self.transport.close)

    def _forget(self) -> None:
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None


def allow_connections() -> None:
    """Raise this process's limit of open files: systems often set 1,024, which idle connections use up."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = OPEN_FILES if most == resource.RLIM_INFINITY else min(OPEN_FILES, most)
    if now != resource.RLIM_INFINITY and now < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, most))
