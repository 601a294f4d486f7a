"""`hybridstitch-trt serve --ray`: the HTTP front in this process, and replicas on a Ray of its own."""

from __future__ import annotations

import logging
import queue
import signal
import socket
import threading
from collections.abc import Sequence
from functools import partial
from typing import Any

import ray
from ray import serve

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.serving.http.logs import log, log_as_json
from hybridstitch.serving.http.server import serve as answer
from hybridstitch.serving.http.server_state import ServerState
from hybridstitch.serving.process_exit import OnLost

from .application import LOGGING, NAME, replicas, state_of, use_schedule
from .handle import RayService
from .options import ApplicationOptions, schedule_config

OBJECTS = 256 * 2**20
"""Bytes of shared memory for what replicas send: pictures on their way, which are read at once."""


def serve_on_ray(
    options: ApplicationOptions, listening: socket.socket, keys: Sequence[bytes] = (), origins: Sequence[str] = ()
) -> None:
    """Start Ray, answer until SIGTERM or Ctrl-C, finish what was taken, and stop it again; a second signal does not
    wait. SIGHUP reads the schedule's file again. `prepare_own_ray` comes before this module is imported.

    Raises:
        HybridStitchError: see `ApplicationOptions.settled`, or the machine is too small for the replicas.
    """
    state = state_of(options)
    log_as_json()
    hangups: queue.SimpleQueue[int] = queue.SimpleQueue()
    signal.signal(signal.SIGHUP, lambda number, _frame: hangups.put(number))
    threading.Thread(target=_read_schedule_again, args=(hangups, state, options), name="schedule", daemon=True).start()
    try:
        _start_ray()  # here: what the loader's thread starts, the system ends with that thread
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # Ray has set one of its own
        _check_resources(options)
        answer(state, partial(_load, options), listening, keys, origins)
    finally:
        serve.shutdown()
        ray.shutdown()


def _start_ray() -> None:
    """
    Raises:
        HybridStitchError: it did not start.
    """
    for name in ("ray", "ray.serve"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        ray.init(address="local", include_dashboard=False, object_store_memory=OBJECTS, logging_level=logging.ERROR)
    except Exception as error:  # Ray raises plain ones too
        raise HybridStitchError(f"Ray did not start: {' '.join(str(error).split())}") from None


def _load(options: ApplicationOptions, _on_lost: OnLost) -> RayService:
    """The replicas' handle, once as many as there are to be at least are ready. Ray replaces a replica that is lost."""
    serve.start(proxy_location="Disabled", logging_config=LOGGING)
    handle = serve.run(replicas(options), name=NAME, route_prefix=None, logging_config=LOGGING)
    return RayService.of(handle, options)


def _check_resources(options: ApplicationOptions) -> None:
    """Ray would wait for ever for what the machine does not have."""
    here: dict[str, Any] = ray.cluster_resources()
    required = {"CPU": options.cpus * options.min_replicas, "GPU": options.min_replicas if options.on_gpu else 0}
    for name, count in required.items():
        if here.get(name, 0) < count:
            raise HybridStitchError(
                f"{options.min_replicas} replicas take {count:g} {name}s and there are {here.get(name, 0):g} here; ask "
                "for fewer with --replicas, or share cores with --cpus"
            )


def _read_schedule_again(hangups: queue.SimpleQueue[int], state: ServerState, options: ApplicationOptions) -> None:
    while hangups.get():
        try:
            use_schedule(state, options, schedule_config(options.schedule))
        except HybridStitchError as error:
            log("the schedule stays as it was", level=logging.ERROR, error=str(error))
        else:
            log("schedule read again", file=options.schedule)
