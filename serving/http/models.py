"""GET /v1/models: the pair, with everything that a form for its requests must know."""

from __future__ import annotations

from typing import Any

from hybridstitch.method.settings import METHODS, OFF, SETTINGS, settings_of_method
from hybridstitch.pairs.parameters import make_parameters
from hybridstitch.pairs.recipe import Recipe

from .names import http_name, over_http
from .schema import setting_schema


def describe(recipe: Recipe, created: int) -> dict[str, Any]:
    """A model in OpenAI's form, and beyond it: sizes, methods, and each method's settings with range and default.

    created: when the server was started, seconds since 1970.
    """
    return {
        "id": recipe.name,
        "object": "model",
        "created": created,
        "owned_by": "hybridstitch-trt",
        "sizes": [str(size) for size in recipe.profiles.sizes],
        "default_size": str(recipe.defaults.size),
        "default_method": recipe.defaults.method,
        "negative_prompt": recipe.defaults.negative_prompt,
        "settings": {http_name(name): setting_schema(setting) for name, setting in SETTINGS.items()},
        "methods": {method: _defaults(recipe, method) for method in METHODS},
    }


def _defaults(recipe: Recipe, method: str) -> dict[str, Any]:
    parameters = make_parameters(recipe, method).as_dict()
    own = {name: parameters[name] for name in settings_of_method(method)}
    return over_http({name: OFF if value is None and SETTINGS[name].off else value for name, value in own.items()})
