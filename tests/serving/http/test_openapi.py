"""What GET /openapi.json and GET /v1/models say of the settings is what the settings are."""

from typing import Any

import pytest

from hybridstitch.method.settings import METHODS, OFF, SETTINGS, settings_of_method
from hybridstitch.pairs.parameters import make_parameters
from hybridstitch.pairs.recipe import Recipe
from hybridstitch.serving.http.errors import ERRORS
from hybridstitch.serving.http.names import HTTP_NAMES
from hybridstitch.serving.http.schema import IGNORED, ImageRequest


@pytest.fixture
def parameters(client):
    return client.get("/openapi.json").json()["components"]["schemas"]["ImageRequest"]["properties"]


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_is_there_with_its_range_and_help(parameters, name):
    setting, told = SETTINGS[name], parameters[HTTP_NAMES.get(name, name)]
    assert setting.help.lower() in told["description"].lower()
    if setting.choices:
        assert told["enum"] == list(setting.choices)
        return
    number = told["anyOf"][0] if setting.off else told
    assert (told["anyOf"][1] == {"const": OFF}) if setting.off else "anyOf" not in told
    low, high = ("exclusiveMinimum", "exclusiveMaximum") if setting.between else ("minimum", "maximum")
    assert number[low] == setting.least
    assert number.get(high, float("inf")) == setting.most
    assert number["type"] == {int: "integer", float: "number"}[setting.kind]


def test_every_other_parameter_is_explained_too(parameters):
    assert all(told["description"] for told in parameters.values())
    assert parameters["method"]["enum"] == list(METHODS)
    assert parameters["n"] | {"minimum": 1, "maximum": 10} == parameters["n"]
    assert (parameters["partial_images"]["minimum"], parameters["partial_images"]["maximum"]) == (0, 3)
    assert parameters["seed"]["minimum"] == 0
    for name in IGNORED:
        assert parameters[name]["description"].startswith("Accepted and ignored")
    assert parameters.keys() == ImageRequest.model_fields.keys()


def test_the_errors_of_drawing_are_told(client):
    told = client.get("/openapi.json").json()["paths"]["/v1/images/generations"]["post"]["responses"]
    assert {"200", "400", "401", "408", "413", "429", "500", "503"} <= told.keys()
    assert ERRORS["queue_full"].when in told["429"]["description"]
    assert "422" not in told


def test_the_model_says_all_that_a_form_must_know(client):
    listed = client.get("/v1/models").json()
    model = listed["data"][0]
    assert listed == {"object": "list", "data": [model]}
    assert client.get("/v1/models/demo").json() == model
    assert (model["id"], model["object"], model["default_size"]) == ("demo", "model", "128x128")
    assert model["sizes"] == ["128x128", "160x96", "96x160"]
    assert model["settings"].keys() == {HTTP_NAMES.get(name, name) for name in SETTINGS}


@pytest.mark.parametrize("method", METHODS)
def test_what_the_model_calls_a_default_is_what_is_drawn_without_it(client, method):
    recipe, told = Recipe.load("demo"), client.get("/v1/models/demo").json()["methods"][method]
    theirs = {theirs: name for name, theirs in HTTP_NAMES.items()}
    given: Any = {theirs.get(name, name): value for name, value in told.items()}
    assert given.keys() == set(settings_of_method(method))
    assert make_parameters(recipe, method, **given) == make_parameters(recipe, method)
