"""The server: the port first, then the engines; and an end that answers what it has taken."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
import threading
from collections.abc import Callable, Sequence
from types import FrameType

import uvicorn

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.serving.device_loss import sticky_words
from hybridstitch.serving.interface import PictureService
from hybridstitch.serving.process_exit import OnLost, end_process

from .app import create_app
from .connections import MAX_HEAD, Connection, allow_connections
from .logs import log
from .server_state import ServerState

KEEP_ALIVE = 75
"""Seconds that an idle connection is kept: longer than proxies keep theirs, so that they do not meet a closed one."""
LAST_WORDS = 5.0
"""Seconds that a server which can never draw again has to send its answers."""


class Server(uvicorn.Server):
    """uvicorn, whose signals end it and nothing else: the first lets it finish what it has, a second does not wait."""

    def __init__(self, config: uvicorn.Config, state: ServerState) -> None:
        super().__init__(config)
        self._state = state

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer what was taken before; whoever asks meanwhile is told so with 503. Then close the port."""
        self._state.stopping = True
        taken = list(self.server_state.tasks)
        while not self.force_exit and not all(task.done() for task in taken):
            await asyncio.sleep(0.05)
            await self.on_tick(0)  # the answers' date
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True


def make_server(state: ServerState, keys: Sequence[bytes] = (), origins: Sequence[str] = ()) -> Server:
    """uvicorn over the application (see `create_app`); `run(sockets=[...])` answers until `should_exit` is set."""
    config = uvicorn.Config(
        create_app(state, keys, origins),
        http=Connection,
        ws="none",
        h11_max_incomplete_event_size=MAX_HEAD,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        timeout_keep_alive=KEEP_ALIVE,
    )
    return Server(config, state)


def serve(
    state: ServerState,
    load: Callable[[OnLost], PictureService],
    listening: socket.socket,
    keys: Sequence[bytes] = (),
    origins: Sequence[str] = (),
) -> None:
    """Answer until a signal comes or loading fails; `load` runs meanwhile, and /health answers from the start.

    A signal that comes while it runs ends the process here, with exit code 0. So does a device that is lost, with
    LOST_EXIT_CODE, after what was taken is answered.

    Args:
        load: makes the service; it is given what to call when that can never draw again.

    Raises:
        HybridStitchError, or what else `load` raised.
    """
    allow_connections()
    server = make_server(state, keys, origins)
    host, port = listening.getsockname()[:2]
    lost: list[str] = []
    loader = threading.Thread(target=_load, args=(state, load, server, lost), name="load", daemon=True)
    with server.capture_signals():  # uvicorn does so too, but later than the first of them may come
        log("listening", url=f"http://{f'[{host}]' if ':' in host else host}:{port}", pair=state.recipe.name)
        loader.start()
        server.run(sockets=[listening])
    if lost:
        end_process(lost[0])
    if state.failure is not None:
        raise state.failure
    if state.service is not None:
        state.service.close(drain=not server.force_exit)
    log("stopped")
    if loader.is_alive():  # nothing stops it, and libraries abort when the interpreter ends beneath them
        logging.shutdown()
        os._exit(0)


def _load(state: ServerState, load: Callable[[OnLost], PictureService], server: Server, lost: list[str]) -> None:
    def on_lost(problem: str) -> None:
        """Send the answers that there are, and end: also where a client does not read them."""
        lost.append(problem)
        server.should_exit = True
        last = threading.Timer(LAST_WORDS, end_process, (problem,))
        last.daemon = True
        last.start()

    try:
        service = load(on_lost)
        _collect_what_requests_leave()
        state.open(service)
    except BaseException as error:  # whatever it is, the main thread tells it
        state.failure = error
        if (words := sticky_words(error)) is not None and not isinstance(error, HybridStitchError):
            on_lost(words)
        server.should_exit = True
        log("loading failed", level=logging.ERROR, error=str(error))
    else:
        log("ready")


def _collect_what_requests_leave() -> None:
    """Take what loading made, some 300,000 objects, out of the garbage collector's sight.

    It looks at objects that have lived a while only when their number has grown by a quarter since it last did: the
    circles that closed connections leave would stay for tens of thousands of requests, and then all wait while it
    looks at everything.
    """
    gc.collect()
    gc.freeze()
    gc.collect()  # from this one on it counts anew
