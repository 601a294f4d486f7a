"""The application on Ray Serve: the HTTP front as its door, and replicas behind it.

serve run --name hybridstitch hybridstitch.serving.ray:app pair=demo max_replicas=4
"""

import asyncio
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from ray import serve
from ray.serve import Application
from ray.serve.handle import DeploymentHandle

from hybridstitch.pairs.recipe import Recipe
from hybridstitch.serving.http.app import create_app
from hybridstitch.serving.http.gate import read_keys
from hybridstitch.serving.http.logs import log_as_json
from hybridstitch.serving.http.server_state import ServerState

from .handle import RayService
from .options import ApplicationOptions, schedule_config, scheduled_recipe
from .replica import Replica

NAME = "hybridstitch"
DRAIN_SECONDS = 600.0
"""How long a replica that is to stop may take for what it has taken."""
MOST_CONNECTIONS = 10_000
LOGGING = {"log_level": "WARNING", "enable_access_log": False}
"""Of Ray Serve's own actors: the front has a log, a line for each request."""


class Door:
    """The same HTTP application as `hybridstitch-trt serve` has, over a `RayService`; it holds no weights."""

    def __init__(self, options: ApplicationOptions, handle: DeploymentHandle) -> None:
        log_as_json()
        self._options = options
        self._service = RayService.of(handle, options)
        self._keys = read_keys(Path(options.api_key_file)) if options.api_key_file else ()
        self._state = state_of(options)
        self._state.open(self._service)

    def reconfigure(self, config: dict[str, Any]) -> None:
        """Draw by another schedule from now on."""
        use_schedule(self._state, self._options, config)

    async def __del__(self) -> None:
        """Called by Ray once what it had taken is answered."""
        await asyncio.to_thread(self._service.close)

    def __serve_build_asgi_app__(self) -> FastAPI:
        return create_app(self._state, self._keys)


def state_of(options: ApplicationOptions) -> ServerState:
    """The HTTP front of these options, with no service yet.

    Raises:
        HybridStitchError: see `Recipe.load`.
    """
    return ServerState(
        Recipe.load(options.pair, options.schedule),
        metadata.version("hybridstitch-trt"),
        options,
        log_prompts=options.log_prompts,
    )


def use_schedule(state: ServerState, options: ApplicationOptions, config: dict[str, Any]) -> None:
    """Draw by another schedule from now on. Requests hold their plans: those under way keep the old one.

    config: see `schedule_config`.

    Raises:
        HybridStitchError: one that does not suit the pair; then nothing has changed.
    """
    recipe = scheduled_recipe(options, config)
    if isinstance(state.service, RayService):
        state.service.requests = options.requests(recipe)
    state.recipe = recipe


def replicas(options: ApplicationOptions) -> Application:
    """The deployment that draws.

    options: settled.
    """
    deployment: Any = serve.deployment(
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
    return deployment.bind(replace(options, schedule=None))  # requests bring their plans


def app(values: dict[str, Any]) -> Application:
    """Build the application.

    Args:
        values: options of `ApplicationOptions` by name; `serve run` gives texts, its configuration file typed values.

    Raises:
        HybridStitchError: see `ApplicationOptions.parsed` and `ApplicationOptions.settled`.
    """
    options = ApplicationOptions.parsed(values).settled()
    config = schedule_config(options.schedule)
    bound = replace(options, schedule=None)  # it is the door's user config, and replaces no replica
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
    return door.bind(bound, replicas(bound))


def connect(options: ApplicationOptions, name: str = NAME) -> RayService:
    """A handle to the replicas of the application that runs, for a Python program on the same Ray.

    name: of the application, as `serve run` was told.
    """
    return RayService.of(serve.get_deployment_handle("Replica", name), options.settled())
