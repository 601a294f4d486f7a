"""`hybridstitch-trt serve`: pictures over HTTP."""

from __future__ import annotations

import argparse
import logging
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.pairs.recipe import Recipe
from hybridstitch.serving.options import ServiceOptions

from .arguments import (
    DEFAULT_PAIR,
    Parser,
    add_backend,
    add_engines,
    add_low_memory,
    add_pair,
    add_queue,
    add_schedule,
    add_service_option,
    add_threads,
    number_over,
    place,
    whole_number,
)
from .build import version
from .run import quiet

if TYPE_CHECKING:
    from hybridstitch.serving.process_exit import OnLost
    from hybridstitch.serving.service import Service

NEEDED = ("fastapi", "uvicorn", "prometheus_client")


def add_to(commands: Any) -> None:
    parser: Parser = commands.add_parser(
        "serve",
        help="draw pictures over HTTP",
        description="Answer POST /v1/images/generations, in the shape of OpenAI's images API, and show a page to draw "
        "on.",
    )
    parser.set_defaults(call=serve)
    add_pair(parser)
    add_backend(parser)
    add_engines(parser)
    add_service_option(parser, "device")
    add_threads(parser)
    add_low_memory(parser)
    add_schedule(parser)
    _add_network(parser)
    add_queue(parser)
    _add_replicas(parser)
    parser.add_argument(
        "--restart",
        action="store_true",
        help="start it again whenever its process dies: connections that come meanwhile wait, those that it had are "
        "closed, and a client that asks again with the same seed gets the same picture",
    )
    parser.add_argument(
        "--log-prompts", action="store_true", help="write prompts into the log, which has none otherwise"
    )


def _add_network(parser: Parser) -> None:
    net = parser.add_argument_group("who may ask, and where")
    net.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine alone)"
    )
    net.add_argument(
        "--port", type=whole_number("port", 0, 65535), default=8000, metavar="N", help="default: 8000; 0: a free one"
    )
    net.add_argument(
        "--fd", type=whole_number("fd", 0, 65535), metavar="N", help="answer on this listening socket, already open"
    )
    net.add_argument("--api-key-file", type=place, metavar="FILE", help="keys that /v1/... asks for, one a line")
    net.add_argument(
        "--cors-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="let scripts of this website ask, such as https://studio.example; may be given again; *: of any "
        "(default: of none)",
    )
    net.add_argument("--parent-fd", type=whole_number("parent-fd", 0, 65535), help=argparse.SUPPRESS)  # of --restart


def _add_replicas(parser: Parser) -> None:
    many = parser.add_argument_group("several replicas, on Ray Serve")
    many.add_argument("--ray", action="store_true", help="draw in replicas of their own, one for each GPU or CPU share")
    many.add_argument(
        "--replicas",
        type=_span,
        metavar="N|MIN-MAX",
        help="so many, or as many in between as the queue asks for (default: 1)",
    )
    many.add_argument(
        "--cpus",
        type=number_over("cpus", 0, 1024),
        metavar="N",
        help="cores of each, and its engines' threads on a CPU (default: 1)",
    )


def serve(arguments: argparse.Namespace) -> int | None:
    """Check everything, listen, load, answer until a signal comes."""
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise HybridStitchError(f"serving needs {', '.join(missing)}: pip install 'hybridstitch-trt[serve]'")
    if arguments.ray:
        _serve_on_ray(arguments)
        return None
    if arguments.replicas is not None or arguments.cpus is not None:
        raise HybridStitchError("--replicas and --cpus are for --ray: without it there is one service, in this process")
    recipe = Recipe.load(arguments.pair or DEFAULT_PAIR, arguments.schedule)
    if arguments.restart:
        return keep_serving(arguments)
    quiet()
    from hybridstitch.serving.http.gate import read_keys
    from hybridstitch.serving.http.listening import inherited, listen
    from hybridstitch.serving.http.logs import log_as_json
    from hybridstitch.serving.http.origins import origin
    from hybridstitch.serving.http.orphan import end_with_parent
    from hybridstitch.serving.http.server import serve as answer
    from hybridstitch.serving.http.server_state import ServerState

    if arguments.parent_fd is not None:
        end_with_parent(arguments.parent_fd)
    origins = [origin(text) for text in arguments.cors_origin]
    keys = read_keys(Path(arguments.api_key_file)) if arguments.api_key_file else ()
    listening = listen(arguments.host, arguments.port) if arguments.fd is None else inherited(arguments.fd)
    log_as_json()
    options = ServiceOptions.among(vars(arguments))
    state = ServerState(recipe, version(), options, log_prompts=arguments.log_prompts)
    answer(state, partial(_load, options), listening, keys, origins)
    return None


def _load(options: ServiceOptions, on_lost: OnLost) -> Service:
    """Load a service. Say first if the engines' threads, as many as there are cores, will wait for others."""
    from hybridstitch.engines.cores import current_load, physical_cores
    from hybridstitch.serving.http.logs import log
    from hybridstitch.serving.service import Service

    load = current_load() if options.threads is None and options.backend == "onnxruntime" else None
    if load is not None and (advice := load.advice(physical_cores())):
        log("busy", level=logging.WARNING, load=load.average, advice=advice)
    return Service.open(options, on_lost=on_lost)


def keep_serving(arguments: argparse.Namespace) -> int:
    """Hold the socket, and start `serve` on it again whenever it dies."""
    from hybridstitch.serving.http.listening import listen
    from hybridstitch.serving.http.logs import log_as_json
    from hybridstitch.serving.http.origins import origin
    from hybridstitch.serving.http.restart import Restarting

    for text in arguments.cors_origin:
        origin(text)
    if arguments.fd is not None:
        raise HybridStitchError("--restart opens the socket itself: leave --fd out")
    words = [word for word in sys.argv[1:] if word != "--restart"]
    with listen(arguments.host, arguments.port) as listening:
        log_as_json()
        return Restarting([sys.executable, "-m", "hybridstitch.cli", *words], listening).run()


def _span(text: str) -> tuple[int, int]:
    """Replicas: N, or MIN-MAX."""
    least, _, most = text.partition("-")
    if not (least.isdecimal() and (most or least).isdecimal() and 1 <= int(least) <= int(most or least) <= 10_000):
        raise argparse.ArgumentTypeError(f"replicas are a number or MIN-MAX, such as 1-4, from 1 on, not {text!r:.40}")
    return int(least), int(most or least)


def _serve_on_ray(arguments: argparse.Namespace) -> None:
    for name in ("device", "threads"):
        if getattr(arguments, name) is not None:
            raise HybridStitchError(f"--{name}: with --ray each replica has the GPU or the --cpus that Ray gives it")
    if arguments.restart or arguments.fd is not None:
        raise HybridStitchError("--restart and --fd are not for --ray, which starts again what dies and opens the port")
    if find_spec("ray") is None:
        raise HybridStitchError("--ray needs Ray Serve: pip install 'hybridstitch-trt[ray]'")
    quiet()
    from hybridstitch.serving.http.gate import read_keys
    from hybridstitch.serving.http.listening import listen
    from hybridstitch.serving.http.origins import origin
    from hybridstitch.serving.ray.environment import prepare_own_ray
    from hybridstitch.serving.ray.options import ApplicationOptions

    least, most = arguments.replicas or (None, None)
    given = {**vars(arguments), "min_replicas": least, "max_replicas": most, "api_key_file": None}
    options = ApplicationOptions.among(given).settled()
    origins = [origin(text) for text in arguments.cors_origin]
    keys = read_keys(Path(arguments.api_key_file)) if arguments.api_key_file else ()
    listening = listen(arguments.host, arguments.port)
    prepare_own_ray()
    from hybridstitch.serving.ray.run import serve_on_ray

    serve_on_ray(options, listening, keys, origins)
