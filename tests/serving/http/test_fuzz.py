"""Whatever comes over HTTP, as the schema has it or not, gets a documented answer, and soon.

Schemathesis makes the requests from the schema that the server itself gives, the same ones in every run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.config import GenerationConfig, ProjectConfig, ProjectsConfig, SchemathesisConfig
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from service_double import Double

from hybridstitch.pairs.recipe import Recipe
from hybridstitch.serving.http.errors import ERRORS

PATIENCE = 20.0
"""Seconds that any answer may take."""

QUIET: Any = {
    "deadline": None,
    "derandomize": True,
    "database": None,
    "phases": [Phase.explicit, Phase.generate],
    "suppress_health_check": [HealthCheck.filter_too_much, HealthCheck.too_slow, HealthCheck.data_too_large],
}
CHECKS = [not_a_server_error, content_type_conformance, response_schema_conformance, status_code_conformance]


def schema_of(address: str) -> Any:
    generation = GenerationConfig(modes=list(GenerationMode), deterministic=True, allow_x00=True)
    config = SchemathesisConfig(projects=ProjectsConfig(default=ProjectConfig(generation=generation)))
    return schemathesis.openapi.from_url(f"{address}/openapi.json", config=config)


@pytest.fixture(scope="module")
def schema(pipe, serve_state) -> Iterator[Any]:
    """Of the real application, which refuses as it does with engines; only the drawing is a double's."""
    double = Double(Recipe.load("demo"))
    double.resolve = pipe.requests.resolve
    with serve_state(double) as address:
        yield schema_of(address)


@pytest.fixture(scope="module")
def drawing_schema(service, serve_state) -> Iterator[Any]:
    """Of the real application over the demo pair, where no picture may take longer than half a second."""
    with serve_state(service, timeout=0.5) as address:
        yield schema_of(address)


def check(case: Any) -> None:
    answer = case.call(timeout=PATIENCE)
    case.validate_response(answer, checks=CHECKS)
    text = answer.content.decode()
    assert "Traceback" not in text
    if answer.status_code >= 400 and case.method.upper() != "HEAD":
        error = json.loads(text)["error"]
        assert ERRORS[error["code"]].status == answer.status_code
        assert "\n" not in error["message"]
        assert len(text) < 4096, text


def check_any(schema: Any, mode: GenerationMode, examples: int) -> None:
    @settings(max_examples=examples, **QUIET)
    @given(case=schema.as_strategy(generation_mode=mode))
    def check_all(case: Any) -> None:
        check(case)

    check_all()


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_any_request_gets_a_documented_answer(schema, mode):
    check_any(schema, mode, 100)


@pytest.mark.slow
@pytest.mark.parametrize("mode", list(GenerationMode))
def test_any_request_gets_a_documented_answer_from_the_engines(drawing_schema, mode):
    check_any(drawing_schema, mode, 1000)
