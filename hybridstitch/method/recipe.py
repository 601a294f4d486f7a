"""Pair recipes: one TOML file says which two models form a pair and which shapes their engines must take."""

from __future__ import annotations

import re
import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError

from .errors import HybridStitchError

Role = Literal["large", "small"]
Dtype = Literal["float32", "float16", "bfloat16"]


class Size(NamedTuple):
    """Width and height of a picture in pixels, written 1024x768."""

    width: int
    height: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"

    @classmethod
    def parse(cls, text: str | Size) -> Size:
        """Read `WxH`.

        Raises:
            HybridStitchError: the text is not two positive whole numbers joined by an x.
        """
        if isinstance(text, Size):
            return text
        match = re.fullmatch(r"([1-9]\d{0,5})x([1-9]\d{0,5})", str(text))
        if not match:
            raise HybridStitchError(f"size {text!r} is not WIDTHxHEIGHT in pixels, for example 1024x768")
        return cls(int(match[1]), int(match[2]))


SizeField = Annotated[Size, BeforeValidator(Size.parse), PlainSerializer(str)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Checkpoint(_Strict):
    """Where a model is: a folder in diffusers' layout (relative to the recipe's file), or a hub id and revision."""

    path: str
    revision: str | None = None


class Profiles(_Strict):
    """The shapes that plans are built for.

    sizes: pictures, WxH in pixels. batch_sizes: pictures per call (guidance doubles them).
    mask_ratios: upper ends of the masked profiles, as shares of the image tokens.
    token_bucket: masked token counts are rounded up to a multiple of this.
    """

    sizes: tuple[SizeField, ...] = Field(min_length=1)
    batch_sizes: tuple[Annotated[int, Field(ge=1, le=64)], ...] = Field(default=(1,), min_length=1)
    mask_ratios: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (0.15, 0.3, 0.5)
    token_bucket: int = Field(default=64, ge=1, le=1024)


class Defaults(_Strict):
    """What a run uses unless it is told otherwise."""

    size: SizeField
    steps: int = Field(default=28, ge=1, le=1000)
    guidance: float = Field(default=7.0, ge=0)
    negative_prompt: str = ""
    method: str = "hybrid"


class MethodDefaults(_Strict):
    """A method's settings; see `hybridstitch.method.plan.Plan` for what each means."""

    large_steps: int | None = Field(default=None, ge=0)
    hybrid_steps: int | None = Field(default=None, ge=0)
    mask_ratio: float | None = Field(default=None, ge=0, le=1)
    score: Literal["gap", "change"] | None = None
    residual: float | None = Field(default=None, ge=0, le=16)
    refresh_every: int | None = Field(default=None, ge=0)
    adaptive: float | None = Field(default=None, gt=0)


class Recipe(_Strict):
    """A pair of Stable Diffusion 3 checkpoints and everything that decides how its engines are built and run."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    large: Checkpoint
    small: Checkpoint
    dtype: Dtype = "bfloat16"
    max_sequence_length: int = Field(default=256, ge=1, le=512)
    profiles: Profiles
    defaults: Defaults
    methods: dict[Literal["hybrid", "srdiffusion", "t-stitch"], MethodDefaults] = Field(default_factory=dict)
    folder: Path = Field(default=Path(), exclude=True)

    @classmethod
    def load(cls, name: str | Path) -> Recipe:
        """Read a recipe by name (`demo`, one of `recipe_names()`) or from a TOML file.

        Raises:
            HybridStitchError: no such recipe, or a file that is no valid recipe; the message names the key.
        """
        path = Path(name)
        if path.suffix != ".toml":
            if str(name) not in recipe_names():
                raise HybridStitchError(
                    f"unknown pair {str(name)!r}; known: {', '.join(recipe_names())}, or a path to a .toml recipe"
                )
            path = _pairs_folder() / f"{name}.toml"
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise HybridStitchError(f"pair recipe {path} cannot be read: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise HybridStitchError(f"pair recipe {path} is not TOML: {error}") from None
        if "folder" in content:
            raise HybridStitchError(f"pair recipe {path}: unknown key 'folder'")
        try:
            return cls.model_validate({**content, "folder": path.resolve().parent})
        except ValidationError as error:
            raise HybridStitchError(f"pair recipe {path}: {_first_problem(error)}") from None

    def checkpoint(self, role: Role) -> Path:
        """The folder of the large or the small checkpoint, in diffusers' layout.

        A hub id is looked up in the hub's cache and fetched if it is not there.

        Raises:
            HybridStitchError: neither a folder nor a checkpoint that the hub (or its cache) has.
        """
        source: Checkpoint = getattr(self, role)
        for folder in (self.folder / source.path, Path(source.path).expanduser()):
            if folder.is_dir():
                return folder
        if not re.fullmatch(r"[\w.-]+/[\w.-]+", source.path):
            raise HybridStitchError(f"the {role} checkpoint of pair {self.name!r}, {source.path}, is not a folder")
        return _from_hub(source, role, self.name)


def recipe_names() -> list[str]:
    """The names of the recipes that come with the package."""
    return sorted(path.stem for path in _pairs_folder().glob("*.toml"))


def _pairs_folder() -> Path:
    return Path(str(resources.files("hybridstitch.export"))) / "pairs"


def _from_hub(source: Checkpoint, role: Role, pair: str) -> Path:
    from huggingface_hub import snapshot_download  # a slow import, and only hub ids need it

    wanted = ["*.json", "*/*.json", "*/*.safetensors", "*/*.txt", "*/*.model"]
    try:
        return Path(snapshot_download(source.path, revision=source.revision, allow_patterns=wanted))
    except Exception as error:  # the hub raises a dozen unrelated types: offline, gated, unknown, no space
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise HybridStitchError(
            f"the {role} checkpoint of pair {pair!r}, {source.path}, is no folder here and the hub gave: {reason}"
        ) from None


def _first_problem(error: ValidationError) -> str:
    problems: list[Any] = error.errors()  # an unknown key first: it is often a missing one, misspelt
    problem = next((found for found in problems if found["type"] == "extra_forbidden"), problems[0])
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"unknown key {where!r}"
    if problem["type"] == "missing":
        return f"key {where!r} is missing"
    return f"{where}: {problem['msg'].removeprefix('Value error, ')}, not {problem['input']!r}"
