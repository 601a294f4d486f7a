"""The application on Ray Serve: the HTTP front as its door, and replicas behind it.

serve run --name hybridstitch hybridstitch.serving.ray:app pair=demo max_replicas=4
"""

import asyncio
import logging
from importlib import metadata
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve import Application
from ray.serve.handle import DeploymentHandle

from hybridstitch.pairs.recipe import Recipe
from hybridstitch.runtime.serving.http.app import create_app
from hybridstitch.runtime.serving.http.front import Front
from hybridstitch.runtime.serving.http.gate import read_keys
from hybridstitch.runtime.serving.http.logs import log_as_json

from .handle import RayService
from .options import Options, schedule_config, scheduled_recipe
from .replica import Replica

NAME = "hybridstitch"
DRAIN_SECONDS = 600.0
"""How long a replica that is to stop may take for what it has taken."""
MOST_CONNECTIONS = 10_000


class Door:
    """The same HTTP application as `hybridstitch-trt serve` has, over a `RayService`; it holds no weights."""

    def __init__(self, options: Options, replicas: DeploymentHandle) -> None:
        log_as_json()
        logging.getLogger("ray").setLevel(logging.WARNING)
        recipe = Recipe.load(options.pair)
        self._options = options
        self._service = RayService(
            replicas, options.requests(recipe), max_queue=options.max_queue, retries=options.retries
        )
        self._keys = read_keys(Path(options.api_key_file)) if options.api_key_file else ()
        self._front = Front(
            recipe,
            options.backend,
            metadata.version("hybridstitch-trt"),
            max_queue=options.max_queue,
            timeout=options.timeout,
            log_prompts=options.log_prompts,
        )
        self._front.open(self._service)  # pyright: ignore[reportArgumentType]

    def reconfigure(self, config: dict[str, Any]) -> None:
        """Draw by another schedule from now on. Requests hold their plans: those under way keep the old one."""
        recipe = scheduled_recipe(self._options, config)
        self._service.requests = self._options.requests(recipe)
        self._front.recipe = recipe

    async def drain(self) -> None:
        """Take no more pictures, and return when those that were taken are answered."""
        await asyncio.to_thread(self._service.close)

    def __serve_build_asgi_app__(self) -> FastAPI:
        return create_app(self._front, self._keys)


def app(options: Options) -> Application:
    """Build the application; `serve run` gives the options as `name=value`.

    Raises:
        HybridStitchError: see `Options.settled`.
    """
    options = options.settled()
    config = schedule_config(options.schedule)
    bound = options.model_copy(update={"schedule": None})  # it is the door's user config, and replaces no replica
    replicas: Any = serve.deployment(
        Replica,
        name="Replica",
        ray_actor_options={"num_cpus": options.cpus, "num_gpus": 1 if options.on_gpu else 0},
        max_ongoing_requests=options.at_once,
        autoscaling_config={
            "min_replicas": options.min_replicas,
            "max_replicas": options.max_replicas,
            "target_ongoing_requests": options.at_once,
        },
        graceful_shutdown_timeout_s=DRAIN_SECONDS,
        graceful_shutdown_wait_loop_s=0.5,
    )
    door: Any = serve.deployment(
        serve.ingress()(Door),
        name="Door",
        num_replicas=1,
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=MOST_CONNECTIONS,
        user_config=config,
        graceful_shutdown_timeout_s=DRAIN_SECONDS,
        graceful_shutdown_wait_loop_s=0.5,
    )
    return door.bind(bound, replicas.bind(bound))


def connect(options: Options, name: str = NAME) -> RayService:
    """A handle to the replicas of the application that runs, for a Python program on the same Ray.

    name: of the application, as `serve run` was told.
    """
    options = options.settled()
    recipe = scheduled_recipe(options, schedule_config(options.schedule))
    handle = serve.get_deployment_handle("Replica", name)
    return RayService(handle, options.requests(recipe), max_queue=options.max_queue, retries=options.retries)
