"""What POST /v1/images/generations takes: OpenAI's parameters, and every setting of the method from its one place."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema, create_model, model_validator

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.method.numbers import whole, whole_seed
from hybridstitch.method.settings import METHODS, OFF, SETTINGS, Setting
from hybridstitch.method.size import Size

from .names import http_name

IGNORED = {
    "quality": "the settings of the method decide it",
    "style": "the prompt decides it",
    "moderation": "there is none",
    "user": "nobody is told apart",
    "safety_identifier": "nobody is told apart",
}
"""Parameters of OpenAI's that mean nothing here, each with the reason: accepted, whatever they hold."""

MAX_DEPTH = 16
"""Lists and objects in each other, at most: only parameters that are ignored may hold any at all."""

FORMATS = ("png", "jpeg", "webp")
BACKGROUNDS = ("auto", "opaque")


def parameter(check: Callable[[Any], Any], help: str, **schema: Any) -> Any:
    """Annotations of a parameter: `check` decides what it may be and says why not, the schema tells it beforehand.

    null is what a parameter that is left out is.
    """
    return (
        PlainValidator(lambda value: None if value is None else check(value)),
        WithJsonSchema({**schema, "description": help}),
    )


def _count(name: str, least: int, most: int, help: str) -> Any:
    check = partial(whole, name, span=range(least, most + 1))
    return parameter(check, help, type="integer", minimum=least, maximum=most)


def _word(name: str, choices: tuple[str, ...], help: str) -> Any:
    def check(value: Any) -> str:
        if value not in choices:
            raise HybridStitchError(f"unknown {name} {value!r:.40}; known: {', '.join(choices)}")
        return value

    return parameter(check, help, type="string", enum=list(choices))


def _flag(name: str, help: str) -> Any:
    def check(value: Any) -> bool:
        if not isinstance(value, bool):
            raise HybridStitchError(f"{name} must be true or false, not {value!r:.40}")
        return value

    return parameter(check, help, type="boolean")


def _text(name: str, help: str) -> Any:
    def check(value: Any) -> str:
        if not isinstance(value, str):
            raise HybridStitchError(f"{name} must be text, not {value!r:.40}")
        return value

    return parameter(check, help, type="string")


def _size(value: Any) -> Size | None:
    return None if value == "auto" else Size.parse(value)


def _response_format(value: Any) -> str:
    if value != "b64_json":
        raise HybridStitchError(
            f"response_format {value!r:.40} is not offered: pictures come in the answer itself, as b64_json"
        )
    return value


def _background(value: Any) -> str:
    if value not in BACKGROUNDS:
        raise HybridStitchError(
            f"background {value!r:.40} is not offered: pictures are opaque; leave it out, or say opaque or auto"
        )
    return value


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


class ImageFields(BaseModel):
    """The parameters that are no settings of the method."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt: Annotated[str, *_text("prompt", "What to draw. One that an encoder would cut off is refused.")]
    model: Annotated[str | None, *_text("model", "The pair's name, as GET /v1/models says, or nothing.")] = None
    n: Annotated[int | None, *_count("n", 1, 10, "How many pictures; picture k has seed + k.")] = None
    size: Annotated[
        Size | None,
        *parameter(_size, "WIDTHxHEIGHT in pixels, or auto: the recipe's.", type="string", examples=["auto"]),
    ] = None
    response_format: Annotated[
        str | None,
        *parameter(_response_format, "How a picture comes; url is refused.", type="string", enum=["b64_json"]),
    ] = None
    output_format: Annotated[str | None, *_word("output_format", FORMATS, "What the picture's file is.")] = None
    output_compression: Annotated[
        int | None,
        *_count("output_compression", 0, 100, "Quality of a JPEG or WebP, 100 the best; a PNG has no other."),
    ] = None
    background: Annotated[
        str | None,
        *parameter(_background, "Pictures are opaque; transparent is refused.", type="string", enum=list(BACKGROUNDS)),
    ] = None
    stream: Annotated[bool | None, *_flag("stream", "Answer with server-sent events.")] = None
    partial_images: Annotated[
        int | None, *_count("partial_images", 0, 3, "With stream: previews of each picture on its way.")
    ] = None
    progress: Annotated[
        bool | None, *_flag("progress", "With stream: also an event image_generation.progress after each step.")
    ] = None
    include_mask: Annotated[
        bool | None,
        *_flag("include_mask", "Also give mask_b64_json: the picture with the refined region shown over it, as PNG."),
    ] = None
    negative_prompt: Annotated[str | None, *_text("negative_prompt", "What to steer away from.")] = None
    seed: Annotated[
        int | None,
        *parameter(
            whole_seed,
            "Of the noise; the same seed gives the same picture. Left out: a random one, which the answer tells.",
            type="integer",
            minimum=0,
            maximum=2**63 - 1,
        ),
    ] = None
    method: Annotated[
        str | None, *_word("method", METHODS, "hybrid is HybridStitch; the others are there to compare.")
    ] = None

    @model_validator(mode="before")
    @classmethod
    def _is_shallow(cls, body: Any) -> Any:
        for name, value in body.items() if isinstance(body, dict) else ():
            level = [value]
            for _ in range(MAX_DEPTH - 1):
                level = [inner for outer in level for inner in _parts(outer)]
            if level:
                words = f"{name:.40} has more than {MAX_DEPTH - 1} lists and objects in each other"
                raise HybridStitchError(words, parameter=f"{name:.80}")
        return body

    @model_validator(mode="before")
    @classmethod
    def _null_is_left_out(cls, body: Any) -> Any:
        if not isinstance(body, dict):
            return body
        return {name: value for name, value in body.items() if value is not None or name not in cls.model_fields}

    @model_validator(mode="after")
    def _fits_together(self) -> ImageFields:
        if self.output_format in (None, "png") and self.output_compression not in (None, 100):
            words = "output_compression is for jpeg and webp: a PNG loses nothing, leave it out or 100"
            raise HybridStitchError(words, parameter="output_compression")
        return self

    def settings(self) -> dict[str, Any]:
        """The settings of the method by their own names; None: not given."""
        return {name: getattr(self, http_name(name)) for name in SETTINGS}


def setting_schema(setting: Setting) -> dict[str, Any]:
    """A setting's type, range and help as JSON Schema."""
    if setting.choices:
        return {"type": "string", "enum": [str(choice) for choice in setting.choices], "description": setting.help}
    whole_number = setting.kind is int
    low, high = ("exclusiveMinimum", "exclusiveMaximum") if setting.between else ("minimum", "maximum")
    limits = {low: setting.least, high: setting.most}
    bounds = {word: int(limit) if whole_number else limit for word, limit in limits.items() if limit != float("inf")}
    number = {"type": "integer" if whole_number else "number", **bounds}
    schema: dict[str, Any] = {"anyOf": [number, {"const": OFF}]} if setting.off else number
    return {**schema, "description": setting.help}


def _settings() -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, setting in SETTINGS.items():
        schema = setting_schema(setting)
        methods = "" if setting.methods == METHODS else f" (methods: {', '.join(setting.methods)})"
        help = f"{schema.pop('description')}{methods}. Left out: the recipe's."
        fields[http_name(name)] = (
            Annotated[Any, *parameter(setting.checked, help[0].upper() + help[1:], **schema)],
            None,
        )
    return fields


def _ignored() -> dict[str, Any]:
    return {
        name: (Annotated[Any, Field(description=f"Accepted and ignored: {why}.")], None)
        for name, why in IGNORED.items()
    }


_Complete: Any = create_model("_Complete", __base__=ImageFields, **_settings(), **_ignored())


class ImageRequest(_Complete):
    """`ImageFields` with every setting of the method, and what is ignored."""
