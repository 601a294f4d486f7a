"""Every error is in OpenAI's form, with a status that says whose fault it is."""

import json
import threading
import time
from pathlib import Path

import httpx2
import pytest
from starlette.testclient import TestClient

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.pairs.recipe import Recipe
from hybridstitch.serving.http.app import create_app
from hybridstitch.serving.http.errors import ERRORS
from hybridstitch.serving.http.gate import read_keys
from hybridstitch.serving.http.schema import ImageRequest
from hybridstitch.serving.http.server_state import ServerState

URL = "/v1/images/generations"
STAR = {"prompt": "a star", "num_inference_steps": 4}


def refused(answer, status: int, code: str, words: str = "", param: str | None = None) -> None:
    """An answer is an error of this kind, in full."""
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert (error["code"], error["param"]) == (code, param)
    assert words in error["message"]
    assert "\n" not in error["message"]
    assert "Traceback" not in answer.text
    assert (error["type"], status) == (ERRORS[code].type, ERRORS[code].status)


@pytest.mark.parametrize(
    ("body", "code", "param", "words"),
    [
        ({}, "missing_parameter", "prompt", "prompt is missing: say what to draw"),
        ({"prompt": 5}, "invalid_value", "prompt", "prompt must be text, not 5"),
        ({"prompt": None}, "missing_parameter", "prompt", "prompt is missing: say what to draw"),
        ({"prompt": ""}, "invalid_value", "prompt", "the prompt is empty"),
        ({"n": 0}, "invalid_value", "n", "n must be a whole number from 1 to 10, not 0"),
        ({"n": 11}, "invalid_value", "n", "n must be a whole number from 1 to 10, not 11"),
        ({"n": "2"}, "invalid_value", "n", "n must be a whole number from 1 to 10, not '2'"),
        ({"size": "big"}, "invalid_value", "size", "size 'big' is not WIDTHxHEIGHT in pixels"),
        ({"size": "64x64"}, "invalid_value", "size", "size 64x64 is none of the recipe's"),
        ({"response_format": "url"}, "invalid_value", "response_format", "response_format 'url' is not offered"),
        ({"output_format": "gif"}, "invalid_value", "output_format", "unknown output_format 'gif'; known: png, jpeg"),
        ({"output_compression": 50}, "invalid_value", "output_compression", "output_compression is for jpeg and webp"),
        ({"output_format": "webp", "output_compression": 101}, "invalid_value", "output_compression", "from 0 to 100"),
        ({"partial_images": 4}, "invalid_value", "partial_images", "from 0 to 3, not 4"),
        ({"stream": "yes"}, "invalid_value", "stream", "stream must be true or false, not 'yes'"),
        ({"seed": -1}, "invalid_value", "seed", "seed must be a whole number from 0 to 2^63 - 1, not -1"),
        ({"seed": 2**63 - 1, "n": 2}, "invalid_value", "seed", "seed must be a whole number from 0 to 2^63 - 2"),
        ({"seed": 1.5}, "invalid_value", "seed", "not 1.5"),
        ({"method": "magic"}, "invalid_value", "method", "unknown method 'magic'; known: hybrid, large"),
        ({"num_inference_steps": 0}, "invalid_value", "num_inference_steps", "steps must be a whole number from 1 to"),
        ({"guidance_scale": 101}, "invalid_value", "guidance_scale", "guidance must be from 0 to 100, not 101"),
        ({"mask_ratio": "0.3"}, "invalid_value", "mask_ratio", "mask ratio must be a number, not '0.3'"),
        ({"adaptive": 1}, "invalid_value", "adaptive", "adaptive threshold must be between 0 and 1, or off, not 1"),
        ({"method": "large", "hybrid_steps": 2}, "invalid_value", "hybrid_steps", "has no setting 'hybrid_steps'"),
        ({"method": "large", "include_mask": True}, "invalid_value", "include_mask", "no hybrid stage, so no mask"),
        ({"large_steps": 5}, "invalid_value", "large_steps", "5 large and"),
        ({"large_steps": 3, "hybrid_steps": 2}, "invalid_value", "hybrid_steps", "do not fit into 4 steps"),
        ({"large_steps": 0, "hybrid_steps": 2}, "invalid_value", "large_steps", "at least 1 large step before it"),
        ({"grid": 3}, "invalid_value", "grid", "grid must be 0 or at least the steps, 4, not 3"),
        ({"large_steps": 1, "score": "change"}, "invalid_value", "score", "compares two large steps"),
        ({"large_steps": 1, "adaptive": 0.1}, "invalid_value", "adaptive", "give it or stage lengths, not both"),
        (
            {"background": "transparent"},
            "invalid_value",
            "background",
            "'transparent' is not offered",
        ),
        ({"user": json.loads("[" * 20 + "]" * 20)}, "invalid_value", "user", "user has more than 15 lists and objects"),
        ({"steps": 4}, "unknown_parameter", "steps", "unknown parameter 'steps'; known: prompt, model, n, size"),
    ],
    ids=lambda value: json.dumps(value)[:50] if isinstance(value, dict) else "",
)
def test_what_can_be_refused_is_refused_before_any_work(client, double, body, code, param, words):
    whole = body if not body or "prompt" in body else {**STAR, **body}
    refused(client.post(URL, json=whole), 400, code, words, param)
    assert double.taken == []


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ("{", "application/json"),
        ("", "application/json"),
        ("[1]", "application/json"),
        ('"star"', "application/json"),
        ("[" * 100_000, "application/json"),
        ('{"prompt": "a star", "seed": ' + "9" * 5000 + "}", "application/json"),
        ("\xff", "application/json"),
        (json.dumps(STAR), "text/plain"),
        ("prompt=star", "application/x-www-form-urlencoded"),
    ],
    ids=lambda value: value[:12],
)
def test_a_body_that_is_no_json_object_is_told(client, content, kind):
    answer = client.post(URL, content=content.encode("latin-1"), headers={"content-type": kind})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] in ("invalid_json", "missing_parameter")


@pytest.mark.parametrize("name", ImageRequest.model_fields)
def test_null_is_what_a_parameter_that_is_left_out_is(client, name):
    left_out = client.post(URL, json={key: value for key, value in STAR.items() if key != name})
    answer = client.post(URL, json={**STAR, name: None})
    assert answer.status_code == left_out.status_code
    assert answer.json().get("error") == left_out.json().get("error")


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({"prompt": " "}, "prompt", "the prompt is empty"),
        ({"prompt": "star " * 100}, "prompt", "would be cut off; shorten it"),
        ({"prompt": "a \0 star"}, "prompt", "the prompt holds the control character '\\x00': leave it out"),
        ({"negative_prompt": "blurred\x9b"}, "negative_prompt", "the negative prompt holds the control character"),
        ({"negative_prompt": "star " * 100}, "negative_prompt", "would be cut off; shorten it"),
        ({"size": "4096x4096"}, "size", "is too large"),
        ({"size": "130x130"}, "size", "is not a multiple of"),
        ({"size": "32x32"}, "size", "the recipe's sizes: 128x128"),
    ],
    ids=lambda value: json.dumps(value)[:30] if isinstance(value, dict) else "",
)
def test_what_the_engines_do_not_draw_is_told_with_the_parameter_that_is_to_blame(demo, body, param, words):
    refused(httpx2.post(f"{demo}{URL}", json={**STAR, **body}), 400, "invalid_value", words, param)


def test_values_that_are_no_utf8_are_told_back_without_harm(client):
    for body in (
        '{"prompt": "a", "model": "\\ud800"}',
        '{"prompt": "a", "\\ud83d\\ude00": 1}',
        '{"prompt": "a", "n": NaN}',
    ):
        answer = client.post(URL, content=body, headers={"content-type": "application/json"})
        assert answer.status_code in (400, 404), answer.text


def test_editing_pictures_is_not_there_and_says_what_is(client):
    for path in ("edits", "variations"):
        refused(client.post(f"/v1/images/{path}"), 404, "unknown_url", "POST /v1/images/generations")


def test_addresses_models_and_methods_that_there_are_not(client):
    refused(client.get("/nowhere"), 404, "unknown_url", "there is no /nowhere")
    for answer in (client.get("/v1/models/sd35"), client.post(URL, json={**STAR, "model": "sd35"})):
        refused(answer, 404, "model_not_found", "there is no model 'sd35'; this is demo", "model")
    answer = client.get(URL)
    refused(answer, 405, "method_not_allowed", "takes another method")
    assert answer.headers["allow"] == "POST"


def test_a_body_that_is_too_large_is_not_even_read(live, double):
    refused(httpx2.post(f"{live}{URL}", content=b" " * 300_000), 413, "request_too_large", "over 256 KiB")
    unsaid = (b" " * 50_000 for _ in range(6))  # chunked: its length is not told beforehand
    refused(httpx2.post(f"{live}{URL}", content=unsaid), 413, "request_too_large")
    assert double.taken == []


def test_a_full_queue_is_429_and_says_when_to_come_again(client, double):
    double.max_queue = 1
    double.go.clear()
    first = threading.Thread(target=client.post, args=(URL,), kwargs={"json": STAR})
    first.start()
    while not double.taken:
        time.sleep(0.01)
    answer = client.post(URL, json=STAR)
    double.go.set()
    first.join()
    refused(answer, 429, "queue_full", "the queue is full: 1 requests wait; try again later")
    assert int(answer.headers["retry-after"]) > 0


def test_n_pictures_are_admitted_together_or_refused_together(client, double):
    double.max_queue = 2
    double.go.clear()
    refused(client.post(URL, json={**STAR, "n": 3}), 429, "queue_full")
    deadline = time.monotonic() + 5
    while double.waiting and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(double.tickets) == 2
    assert double.waiting == 0  # those that were taken were given up
    double.go.set()
    assert client.post(URL, json={**STAR, "n": 2}).status_code == 200


def test_more_pictures_than_the_queue_ever_holds_are_refused_for_good(double, serve_state):
    with serve_state(double, max_queue=2) as address:
        refused(httpx2.post(f"{address}{URL}", json={**STAR, "n": 3}), 400, "invalid_value", "n must be at most 2", "n")


def test_a_picture_that_went_wrong_is_500_with_one_line(client, double):
    double.broken.add("a star")
    refused(client.post(URL, json=STAR), 500, "not_drawn", "engine vae_decoder gave NaN")


def test_one_picture_that_went_wrong_gives_the_others_up(client, double):
    double.step = lambda number: time.sleep(0.02)
    double.broken.add("a star")
    refused(client.post(URL, json={**STAR, "n": 3}), 500, "not_drawn")


def test_a_picture_that_takes_too_long_is_408(double, serve_state):
    double.step = lambda number: time.sleep(0.2)
    with serve_state(double, timeout=0.1) as address:
        refused(httpx2.post(f"{address}{URL}", json=STAR), 408, "timed_out", "no picture within 0.1 s")


def test_engines_that_fail_are_503_until_they_are_well_again(client, double):
    double.problem = "the last 3 batches failed: out of memory"
    for answer in (client.post(URL, json=STAR), client.get("/ready")):
        refused(answer, 503, "not_ready", "not ready: the last 3 batches failed")
        assert int(answer.headers["retry-after"]) > 0
    double.problem = None
    assert client.get("/ready").status_code == 200


def test_a_service_that_closes_is_503(client, double):
    double.close()
    refused(client.post(URL, json=STAR), 503, "not_ready", "closed")


def test_before_the_engines_are_loaded_all_but_pictures_is_there():
    client = TestClient(create_app(ServerState(Recipe.load("demo"), "0.1.0")))
    for path in ("/health", "/v1/models", "/metrics", "/openapi.json", "/"):
        assert client.get(path).status_code == 200
    refused(client.get("/ready"), 503, "not_ready", "the engines are loading")
    refused(client.post(URL, json=STAR), 503, "not_ready", "the engines are loading")
    refused(client.post(URL, json={"n": 2}), 400, "missing_parameter", "prompt is missing", "prompt")


def test_a_bug_is_500_and_keeps_its_traceback_for_the_log(client, double):
    def broken(*_, **__):
        raise RuntimeError("secret")

    double.resolve = broken
    answer = client.post(URL, json=STAR)
    refused(answer, 500, "internal_error", "its log says more")
    assert "secret" not in answer.text


@pytest.fixture
def guarded(double, serve_state):
    with serve_state(double, keys=(b"first", "zweiter-schlüssel".encode())) as address:
        yield address


@pytest.mark.parametrize(
    "header", [None, "Bearer wrong", "Bearer", "first", "Basic first", "Bearer firs", "Bearer first2"]
)
def test_without_the_right_key_nothing_under_v1_answers(guarded, double, header):
    headers = {} if header is None else {"Authorization": header}
    for answer in (
        httpx2.post(f"{guarded}{URL}", json=STAR, headers=headers),
        httpx2.get(f"{guarded}/v1/models", headers=headers),
    ):
        refused(answer, 401, "invalid_api_key", "Authorization: Bearer KEY")
        assert answer.headers["www-authenticate"] == "Bearer"
    assert double.taken == []


def test_each_key_opens_and_probes_need_none(guarded):
    for key in (b"first", "zweiter-schlüssel".encode()):
        assert httpx2.get(f"{guarded}/v1/models", headers={b"Authorization": b"Bearer " + key}).status_code == 200
    for path in ("/health", "/ready", "/metrics", "/"):
        assert httpx2.get(f"{guarded}{path}").status_code == 200


def test_a_key_file_holds_a_key_a_line(tmp_path):
    path = tmp_path / "keys"
    path.write_text("# ours\n\n first \nsecond\n")
    assert read_keys(path) == (b"first", b"second")
    path.write_text("# none yet\n")
    with pytest.raises(HybridStitchError, match="holds no key: write one a line"):
        read_keys(path)
    with pytest.raises(HybridStitchError, match="--api-key-file /nowhere: No such file"):
        read_keys(Path("/nowhere"))
