"""Pair recipes: one TOML file says which two models form a pair and which shapes their engines must take."""

from __future__ import annotations

import re
import tomllib
from importlib import resources
from pathlib import Path
from reprlib import Repr
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StrictBool,
    StrictFloat,
    StrictInt,
    ValidationError,
    model_validator,
)

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.method.settings import SETTINGS, Method, settings_of_method
from hybridstitch.method.size import Size

from .hub import fetch_checkpoint
from .lookalikes import describe_file
from .parameters import STAGE_LENGTHS, make_parameters
from .schedule_file import ScheduleFile, read_schedule, scheduled_settings

Role = Literal["large", "small"]
Dtype = Literal["float32", "float16", "bfloat16"]


SizeField = Annotated[Size, BeforeValidator(Size.parse), PlainSerializer(str)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Checkpoint(_Strict):
    """Where a model is: a folder in diffusers' layout (relative to the recipe's file), or a hub id and revision."""

    path: str = Field(min_length=1)
    revision: str | None = None


class Profiles(_Strict):
    """The shapes that plans are built for.

    sizes: pictures, WxH in pixels. batch_sizes: pictures per call (guidance doubles them).
    mask_ratios: upper ends of the masked profiles, as shares of the image tokens.
    token_bucket: masked token counts are rounded up to a multiple of this.
    per_size: whether each size has profiles of its own, instead of one range over all of them.
    plans: whether a component has one plan, or one for each size (which then has profiles of its own).
    """

    sizes: tuple[SizeField, ...] = Field(min_length=1)
    batch_sizes: tuple[Annotated[StrictInt, Field(ge=1, le=64)], ...] = Field(default=(1,), min_length=1)
    mask_ratios: tuple[Annotated[StrictFloat, Field(gt=0, lt=1)], ...] = (0.15, 0.3, 0.5)
    token_bucket: StrictInt = Field(default=64, ge=1, le=1024)
    per_size: StrictBool = False
    plans: Literal["one", "per-size"] = "one"

    @property
    def split(self) -> bool:
        """Whether each size has plans of its own."""
        return self.plans == "per-size"


def _setting(name: str) -> BeforeValidator:
    return BeforeValidator(SETTINGS[name].checked)


class Defaults(_Strict):
    """What a run uses unless it is told otherwise."""

    size: SizeField
    steps: Annotated[int, _setting("steps")] = SETTINGS["steps"].default
    guidance: Annotated[float, _setting("guidance")] = SETTINGS["guidance"].default
    negative_prompt: str = ""
    method: Method = "hybrid"
    low_memory: StrictBool = False
    """Hold text encoders and decoder only while they run."""


class Recipe(_Strict):
    """A pair of Stable Diffusion 3 checkpoints and everything that decides how its engines are built and run."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=100)
    large: Checkpoint
    small: Checkpoint
    dtype: Dtype = "bfloat16"
    max_sequence_length: StrictInt = Field(default=256, ge=1, le=512)
    profiles: Profiles
    defaults: Defaults
    methods: dict[Literal["hybrid", "srdiffusion", "t-stitch"], dict[str, Any]] = Field(default_factory=dict)
    schedule: str | None = Field(default=None, min_length=1)
    """A schedule's file, relative to this one, that goes before `defaults` and `methods`."""
    folder: Path = Field(default=Path(), exclude=True)
    argument: str = Field(default="", exclude=True)
    """What names this recipe on the command line: its name, or its file as it was given."""
    scheduled: dict[str, Any] | None = Field(default=None, exclude=True)
    """All settings of `defaults.method`, where a schedule gave them: see `with_schedule`."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.defaults.size not in self.profiles.sizes:
            sizes = ", ".join(str(size) for size in self.profiles.sizes)
            raise ValueError(f"defaults.size {self.defaults.size} is none of profiles.sizes: {sizes}")
        for method, settings in self.methods.items():
            own = sorted(set(settings_of_method(method)) - {"guidance"})  # that is of all methods
            for name, value in settings.items():
                if name not in own:
                    raise ValueError(f"methods.{method} has no setting {name!r}; its settings: {', '.join(own)}")
                settings[name] = SETTINGS[name].checked(value)
            lengths: Any = {name: value for name, value in settings.items() if name in STAGE_LENGTHS}
            try:
                make_parameters(self, method, **lengths)
            except HybridStitchError as error:
                raise ValueError(f"methods.{method}: {error}") from None
        return self

    @property
    def default_method(self) -> str:
        return self.defaults.method

    def settings(self, method: str) -> dict[str, Any]:
        """What a run of a method uses unless it is told otherwise: steps, guidance, and what else is said of it."""
        if self.scheduled is not None and method == self.defaults.method:
            return self.scheduled
        own = self.methods.get(method, {})  # type: ignore[call-overload]
        return {"steps": self.defaults.steps, "guidance": self.defaults.guidance, **own}

    @classmethod
    def load(cls, name: str | Path, schedule: str | Path | None = None) -> Recipe:
        """Read a recipe by name (`demo`, one of `recipe_names()`) or from a TOML file.

        Args:
            schedule: a schedule's file, instead of the one that the recipe may name.

        Raises:
            HybridStitchError: no such recipe, or a file that is no valid recipe or schedule; the message names the key.
        """
        path = Path(str(name))
        if path.suffix != ".toml":
            if str(name) not in recipe_names():
                raise HybridStitchError(
                    f"unknown pair {str(name)!r}; known: {', '.join(recipe_names())}, or a path to a .toml recipe"
                )
            path = _pairs_folder() / f"{name}.toml"
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        except OSError as error:
            raise HybridStitchError(f"pair recipe {path} cannot be read: {error.strerror}") from None
        except (ValueError, RecursionError) as error:  # of TOML, UTF-8, a number or brackets beyond all bounds
            raise HybridStitchError(f"pair recipe {path} is not TOML: {error}") from None
        if ours := sorted(content.keys() & {"folder", "argument", "scheduled"}):
            raise HybridStitchError(f"pair recipe {path}: unknown key {ours[0]!r}")
        try:
            recipe = cls.model_validate({**content, "folder": path.resolve().parent, "argument": str(name)})
        except ValidationError as error:
            raise HybridStitchError(f"pair recipe {path}: {first_problem(error)}") from None
        if schedule is None and recipe.schedule is not None:
            schedule = recipe.folder / recipe.schedule
        return recipe if schedule is None else recipe.with_schedule(read_schedule(Path(str(schedule))))

    def with_schedule(self, schedule: ScheduleFile) -> Self:
        """This recipe with a schedule's method as its default, and the schedule's settings as that method's.

        Other methods keep the recipe's settings, steps and guidance included.

        Raises:
            HybridStitchError: see `scheduled_settings`.
        """
        settings = scheduled_settings(schedule, self, self.name, self.argument)
        defaults = self.defaults.model_copy(update={"method": schedule.method})
        return self.model_copy(update={"defaults": defaults, "scheduled": settings})

    def checkpoint(self, role: Role) -> Path:
        """The folder of the large or the small checkpoint, in diffusers' layout.

        A hub id is looked up in the hub's cache, and what is read of it is fetched if it is not there.

        Raises:
            HybridStitchError: neither a folder nor a checkpoint that the hub (or its cache) has.
        """
        whose = f"the {role} checkpoint of pair {self.name!r}"
        source: Checkpoint = getattr(self, role)
        for folder in (self.folder / source.path, Path(source.path).expanduser()):
            if folder.is_dir():
                return folder
            if folder.is_file():
                raise HybridStitchError(f"{whose}, {folder}, {describe_file(folder)}")
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", source.path):
            raise HybridStitchError(f"{whose}, {source.path}, is not a folder")
        try:
            return fetch_checkpoint(source.path, source.revision, role)
        except HybridStitchError as error:
            raise HybridStitchError(f"{whose}, {source.path}, {error}") from None


def recipe_names() -> list[str]:
    """The names of the recipes that come with the package."""
    return sorted(path.stem for path in _pairs_folder().glob("*.toml"))


def _pairs_folder() -> Path:
    return Path(str(resources.files("hybridstitch.pairs")))


_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = 80


def first_problem(error: ValidationError) -> str:
    """What is wrong with a recipe, or another thing that pydantic checked, in one line that names the key."""
    problems: list[Any] = error.errors()  # an unknown key first: it is often a missing one, misspelt
    problem = next((entry for entry in problems if entry["type"] == "extra_forbidden"), problems[0])
    where = ".".join(str(part) for part in problem["loc"] if part != "[key]")
    if problem["type"] == "extra_forbidden":
        return f"unknown key {where!r}"
    if problem["type"] == "missing":
        return f"key {where!r} is missing"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error":  # ours: it names what was given
        return f"{where}: {message}" if where else message
    return f"{where}: {message}, not {_SHORT.repr(problem['input'])}"
