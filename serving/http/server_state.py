"""What the routes stand on: the recipe at once, the service as soon as it is loaded."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from hybridstitch.pairs.recipe import Recipe
from hybridstitch.serving.interface import PictureService
from hybridstitch.serving.options import ServiceOptions

from .errors import ApiError
from .metrics import Metrics
from .models import describe


@dataclass
class ServerState:
    """One server's state.

    version: of this package. log_prompts: whether log lines have them. service: None while it is loading. failure:
    what ended its loading. stopping: whether it takes no more pictures, and finishes what it has taken.
    """

    recipe: Recipe
    version: str
    options: ServiceOptions = field(default_factory=ServiceOptions)
    log_prompts: bool = False
    created: int = field(default_factory=lambda: int(time.time()))
    metrics: Metrics = field(default_factory=Metrics)
    service: PictureService | None = None
    failure: BaseException | None = None
    stopping: bool = False

    @property
    def model(self) -> dict[str, Any]:
        return describe(self.recipe, self.created)

    def open(self, service: PictureService) -> None:
        """Serve with it from now on."""
        self.metrics.watch(service)
        self.service = service

    def check_alive(self) -> None:
        """
        Raises:
            ApiError: the service can never draw again, so that this process has to be replaced.
        """
        if self.service is not None and self.service.lost is not None:
            raise ApiError("not_ready", f"this process draws no more: {self.service.lost}")

    def check_model(self, name: str) -> None:
        """
        Raises:
            ApiError: it is another one than the pair's.
        """
        if name != self.recipe.name:
            raise ApiError("model_not_found", f"there is no model {name!r:.80}; this is {self.recipe.name}", "model")

    def ready_service(self) -> PictureService:
        """
        Raises:
            ApiError: there is none yet, its engines fail, or the server is stopping.
        """
        if self.stopping:
            raise ApiError("not_ready", "the server is stopping; try again later")
        if self.service is None:
            raise ApiError("not_ready", "the engines are loading; try again later")
        if not self.service.ready:
            raise ApiError("not_ready", f"not ready: {self.service.problem or 'no inference succeeded lately'}")
        return self.service
