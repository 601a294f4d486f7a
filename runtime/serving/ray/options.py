"""What an application on Ray Serve is made of: options of the command line and of `serve run`, in one place."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from hybridstitch.engines.backends import find_backend
from hybridstitch.engines.open import FoundPair, find_pair
from hybridstitch.method.errors import HybridStitchError
from hybridstitch.pairs.recipe import Recipe
from hybridstitch.pairs.schedule_file import ScheduleFile, read_schedule
from hybridstitch.runtime.request import Requests


class Options(BaseModel):
    """Those that are not of Ray are `Service.load`'s and `serve`'s.

    cpus: of each replica, and its engines' threads on a CPU. min_replicas, max_replicas: what the autoscaler moves
    between. max_queue: pictures that wait, in the whole application. retries: how often a picture is begun again on
    another replica when its own one died.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    pair: str = "demo"
    backend: str = "onnxruntime"
    engines: str | None = None
    schedule: str | None = None
    cpus: Annotated[float, Field(gt=0)] = 1.0
    min_replicas: Annotated[int, Field(ge=1)] = 1
    max_replicas: Annotated[int, Field(ge=1)] = 1
    max_queue: Annotated[int, Field(ge=1)] = 16
    max_batch: Annotated[int, Field(ge=1, le=64)] | None = None
    max_delay: Annotated[float, Field(ge=0)] = 0.02
    timeout: Annotated[float, Field(gt=0)] | None = None
    retries: Annotated[int, Field(ge=0)] = 3
    api_key_file: str | None = None
    log_prompts: bool = False

    def settled(self) -> Options:
        """Checked as far as it can be before anything starts, with absolute paths: replicas run in other folders.

        Raises:
            HybridStitchError: a pair, backend, schedule or engines that there are not, or fewer replicas at most than
                at least.
        """
        if self.max_replicas < self.min_replicas:
            raise HybridStitchError(f"max replicas ({self.max_replicas}) are fewer than min ({self.min_replicas})")
        recipe = Recipe.load(self.pair, self.schedule)
        found = self.found(recipe)
        paths: dict[str, str | None] = {"engines": str(found.folder.resolve())}
        for name in ("schedule", "api_key_file"):
            path = getattr(self, name)
            paths[name] = None if path is None else str(Path(path).resolve())
        if Path(self.pair).suffix == ".toml":
            paths["pair"] = str(Path(self.pair).resolve())
        return self.model_copy(update=paths)

    @property
    def on_gpu(self) -> bool:
        return find_backend(self.backend).needs_gpu

    @property
    def at_once(self) -> int:
        """Pictures that a replica is given at once: what it draws, and as many that wait beside it for no gap."""
        return 2 * (self.max_batch or (4 if self.on_gpu else 1))

    def found(self, recipe: Recipe) -> FoundPair:
        return find_pair(
            self.engines,
            pair=recipe.name,
            backend=self.backend,
            argument=recipe.argument,
            split=recipe.profiles.split,
        )

    def requests(self, recipe: Recipe) -> Requests:
        """What makes requests, as on a replica; no engine is opened.

        Raises:
            HybridStitchError: engines that are not built.
        """
        return Requests.of_built(recipe, self.found(recipe))


def schedule_config(path: str | None) -> dict[str, Any]:
    """A schedule's content as a deployment's user config: when it changes, and nothing else, no replica is replaced.

    Raises:
        HybridStitchError: see `read_schedule`.
    """
    if path is None:
        return {"schedule": None}
    read = read_schedule(Path(path))
    content = {"path": path, "method": read.method, "settings": dict(read.settings), "tuned": dict(read.tuned)}
    return {"schedule": content}


def scheduled_recipe(options: Options, config: dict[str, Any]) -> Recipe:
    """The pair's recipe with the schedule of `schedule_config`.

    Raises:
        HybridStitchError: see `scheduled_settings`.
    """
    recipe, content = Recipe.load(options.pair), config["schedule"]
    if content is None:
        return recipe
    return recipe.with_schedule(ScheduleFile(**{**content, "path": Path(content["path"])}))
