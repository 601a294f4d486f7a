"""What an application on Ray Serve is made of: options of the command line and of `serve run`, in one place."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hybridstitch.engines.backends import find_backend
from hybridstitch.engines.open import FoundPair, find_engines
from hybridstitch.method.errors import HybridStitchError
from hybridstitch.method.numbers import finite
from hybridstitch.pairs.recipe import Recipe
from hybridstitch.pairs.schedule_file import ScheduleFile, read_schedule
from hybridstitch.runtime.request import Requests
from hybridstitch.serving.options import ServiceOptions, count, option, switch, text

REPLICAS = range(1, 10_001)
MOST_CORES = 1024


def _cores(name: str, value: Any) -> float:
    number = finite(name, value)
    if not 0 < number <= MOST_CORES:
        raise HybridStitchError(f"{name} must be over 0 and at most {MOST_CORES}, not {number:g}")
    return number


@dataclass(frozen=True)
class ApplicationOptions(ServiceOptions):
    """The service's options, of each replica, and those of the application.

    max_queue: pictures that wait, in the whole application. device, threads: what Ray gives each replica decides.
    """

    cpus: float = option(1.0, float, _cores, "cores of each replica, and its engines' threads on a CPU", "N")
    min_replicas: int = count(1, REPLICAS, "replicas, at least")
    max_replicas: int = count(1, REPLICAS, "replicas, at most: the autoscaler moves between the two")
    retries: int = count(3, range(1001), "how often a picture is begun again on another replica when its own one died")
    api_key_file: str | None = text(None, "keys that /v1/... asks for, one a line", "FILE")
    log_prompts: bool = switch(False, "write prompts into the log")

    def settled(self) -> ApplicationOptions:
        """Checked as far as it can be before anything starts, with absolute paths: replicas run in other folders.

        Raises:
            HybridStitchError: a pair, backend, schedule or engines that there are not, fewer replicas at most than at
                least, or an option that Ray decides.
        """
        for name in ("device", "threads"):
            if getattr(self, name) is not None:
                raise HybridStitchError(f"{name}: each replica has the GPU or the cpus that Ray gives it")
        if self.max_replicas < self.min_replicas:
            raise HybridStitchError(f"max replicas ({self.max_replicas}) are fewer than min ({self.min_replicas})")
        recipe = Recipe.load(self.pair, self.schedule)
        pair = self.find_pair(recipe)
        paths: dict[str, str | None] = {"engines": str(pair.folder.resolve())}
        for name in ("schedule", "api_key_file"):
            path = getattr(self, name)
            paths[name] = None if path is None else str(Path(path).resolve())
        if Path(self.pair).suffix == ".toml":
            paths["pair"] = str(Path(self.pair).resolve())
        return replace(self, **paths)

    @property
    def on_gpu(self) -> bool:
        return find_backend(self.backend).needs_gpu

    @property
    def at_once(self) -> int:
        """Pictures that a replica is given at once: what it draws, and as many that wait beside it for no gap."""
        return 2 * (self.max_batch or (4 if self.on_gpu else 1))

    def find_pair(self, recipe: Recipe) -> FoundPair:
        return find_engines(recipe, self.backend, self.engines)

    def requests(self, recipe: Recipe) -> Requests:
        """What makes requests, as on a replica; no engine is opened.

        Raises:
            HybridStitchError: engines that are not built.
        """
        return Requests.of_built(recipe, self.find_pair(recipe))


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


def scheduled_recipe(options: ApplicationOptions, config: dict[str, Any]) -> Recipe:
    """The pair's recipe with the schedule of `schedule_config`.

    Raises:
        HybridStitchError: see `scheduled_settings`.
    """
    recipe, content = Recipe.load(options.pair), config["schedule"]
    if content is None:
        return recipe
    return recipe.with_schedule(ScheduleFile(**{**content, "path": Path(content["path"])}))
