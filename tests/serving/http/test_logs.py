"""The log: one JSON object a line, without prompts unless they are wanted."""

import json
import logging

import httpx2
import pytest

from hybridstitch.serving.http.logs import JsonLines

URL = "/v1/images/generations"
SECRET = {"prompt": "a secret star", "negative_prompt": "a secret circle", "num_inference_steps": 3}


@pytest.fixture
def lines(caplog):
    """The log so far, as it would be written."""
    caplog.set_level(logging.INFO, logger="hybridstitch")
    return lambda: [json.loads(JsonLines().format(r)) for r in caplog.records if r.name == "hybridstitch.serving.http"]


def test_a_request_has_one_line_that_says_what_became_of_it(client, lines):
    answer = client.post(URL, json={**SECRET, "seed": 5, "n": 2})
    client.post(URL, json={**SECRET, "n": 0})
    client.get("/nowhere")
    drawn, refused, astray = lines()
    assert (drawn["event"], drawn["status"], drawn["n"], drawn["seed"]) == ("request", 200, 2, 5)
    assert drawn["id"] == answer.headers["x-request-id"]
    assert drawn["parameters"]["steps"] == 3
    assert (refused["status"], refused["code"]) == (400, "invalid_value")
    assert (astray["path"], astray["code"]) == ("/nowhere", "unknown_url")


def test_no_line_holds_a_prompt(client, double, lines):
    double.broken.add(SECRET["prompt"])
    for more in ({}, {"stream": True}, {"n": 0}, {"method": "large"}):
        client.post(URL, json={**SECRET, **more})
    assert "secret" not in json.dumps(lines())


def test_prompts_are_logged_where_they_are_wanted(double, serve_state, lines):
    with serve_state(double, log_prompts=True) as address:
        httpx2.post(f"{address}{URL}", json=SECRET)
    assert (lines()[0]["prompt"], lines()[0]["negative_prompt"]) == ("a secret star", "a secret circle")


def test_an_error_within_a_stream_is_logged(client, double, lines):
    double.broken.add(SECRET["prompt"])
    client.post(URL, json={**SECRET, "stream": True})
    assert (lines()[0]["status"], lines()[0]["code"]) == (200, "not_drawn")


def test_probes_are_not_logged(client, lines):
    for path in ("/health", "/ready", "/metrics"):
        client.get(path)
    assert lines() == []


def test_a_traceback_stays_within_its_line():
    try:
        raise RuntimeError("broken\nin two lines")
    except RuntimeError as error:
        record = logging.LogRecord("x", logging.ERROR, "", 0, "a bug", None, (type(error), error, error.__traceback__))
    text = JsonLines().format(record)
    assert "\n" not in text
    assert "RuntimeError: broken" in json.loads(text)["traceback"]
