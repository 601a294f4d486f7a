"""`hybridstitch-trt serve --ray`: a Ray of its own on this machine, until a signal comes."""

from __future__ import annotations

import logging
import os
import queue
import signal
from typing import Any

import ray
from ray import serve

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.runtime.serving.http.logs import log, log_as_json
from hybridstitch.runtime.serving.http.server import listen

from .application import NAME, app
from .options import Options


def serve_on_ray(options: Options, host: str, port: int) -> None:
    """Start Ray, answer until SIGTERM or Ctrl-C, finish what was taken, and stop it again; a second signal does not
    wait. SIGHUP reads the schedule's file again.

    Raises:
        HybridStitchError: see `Options.settled`; the port is taken, or the machine is too small for the replicas.
    """
    options = options.settled()
    built = app(options)
    with listen(host, port) as free:
        port = free.getsockname()[1]
    log_as_json()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray tells its makers of its use otherwise
    ray.init(address="local", include_dashboard=False, logging_level=logging.WARNING, log_to_driver=True)
    try:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # Ray has set one of its own
        _check_resources(options)
        serve.start(proxy_location="HeadOnly", http_options={"host": host, "port": port})
        serve.run(built, name=NAME)
        log("ready", url=f"http://{host}:{port}", pair=options.pair)
        _until_stopped(options)
    finally:
        serve.shutdown()
        ray.shutdown()
        log("stopped")


def _check_resources(options: Options) -> None:
    """Ray would wait for ever for what the machine does not have."""
    here: dict[str, Any] = ray.cluster_resources()
    wanted = {"CPU": options.cpus * options.min_replicas, "GPU": options.min_replicas if options.on_gpu else 0}
    for name, count in wanted.items():
        if here.get(name, 0) < count:
            raise HybridStitchError(
                f"{options.min_replicas} replicas take {count:g} {name}s and there are {here.get(name, 0):g} here; ask "
                "for fewer with --replicas, or share cores with --cpus"
            )


def _until_stopped(options: Options) -> None:
    received: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: received.put(number))
    while received.get() == signal.SIGHUP:
        try:
            serve.run(app(options), name=NAME)
        except HybridStitchError as error:
            log("the schedule stays as it was", level=logging.ERROR, error=str(error))
        else:
            log("schedule read again", file=options.schedule)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    serve.get_app_handle(NAME).drain.remote().result()
