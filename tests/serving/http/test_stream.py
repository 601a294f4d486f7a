"""Streaming: which events come, in which order, and what ends them."""

import base64
import io
import json
import time

import httpx2
import pytest
from PIL import Image

URL = "/v1/images/generations"
STAR = {"prompt": "a star", "num_inference_steps": 4, "stream": True}


def events_of(text: str) -> list[dict]:
    """The data of each event, whose name stands in it as well."""
    found = []
    for part in text.strip().split("\n\n"):
        name, data = part.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name.removeprefix("event: ") == event.get("type", "error")
        found.append(event)
    return found


@pytest.mark.parametrize("previews", [0, 1, 2, 3])
def test_previews_come_first_and_the_picture_last(client, previews):
    answer = client.post(URL, json={**STAR, "partial_images": previews, "seed": 5})
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-store"
    events = events_of(answer.text)
    kinds = [event["type"].removeprefix("image_generation.") for event in events]
    assert kinds == ["partial_image"] * previews + ["completed"]
    assert [event["partial_image_index"] for event in events[:-1]] == list(range(previews))
    for event in events:
        picture = Image.open(io.BytesIO(base64.b64decode(event["b64_json"])))
        assert (picture.size, picture.format) == ((128, 128), "PNG")
        assert (event["size"], event["output_format"]) == ("128x128", "png")
        assert (event["background"], event["quality"]) == ("opaque", "high")
        assert abs(event["created_at"] - time.time()) < 60
    assert events[-1]["seed"] == 5
    assert events[-1]["timing"]["stages"].keys() <= {"large", "hybrid", "small"}


def test_progress_tells_each_step_and_its_stage(client):
    body = {**STAR, "progress": True, "large_steps": 2, "hybrid_steps": 1, "partial_images": 1}
    events = events_of(client.post(URL, json=body).text)
    steps = [event for event in events if event["type"] == "image_generation.progress"]
    assert [event["step"] for event in steps] == [0, 1, 2, 3, 4]
    assert [event["stage"] for event in steps[1:]] == ["large", "large", "hybrid", "small"]
    assert {event["steps"] for event in steps} == {4}
    preview = next(event for event in events if event["type"] == "image_generation.partial_image")
    assert (preview["step"], preview["stage"]) == (2, "large")


def test_progress_and_previews_come_only_with_stream(client):
    answer = client.post(URL, json={**STAR, "stream": False, "progress": True, "partial_images": 3})
    assert answer.headers["content-type"] == "application/json"
    assert len(answer.json()["data"]) == 1


def test_each_of_n_pictures_has_events_of_its_own(client):
    events = events_of(client.post(URL, json={**STAR, "n": 2, "seed": 8, "partial_images": 2}).text)
    for index in (0, 1):
        own = [event for event in events if event["image_index"] == index]
        assert [event["type"].split(".")[1] for event in own] == ["partial_image"] * 2 + ["completed"]
        assert [event["partial_image_index"] for event in own[:-1]] == [0, 1]
        assert own[-1]["seed"] == 8 + index


def test_the_mask_comes_with_the_picture(client):
    assert "mask_b64_json" in events_of(client.post(URL, json={**STAR, "include_mask": True}).text)[-1]


def test_what_can_be_refused_is_no_stream(client):
    answer = client.post(URL, json={**STAR, "response_format": "url"})
    assert (answer.status_code, answer.headers["content-type"]) == (400, "application/json")


def test_a_picture_that_went_wrong_ends_the_stream_with_an_error(client, double):
    double.broken.add("a star")
    events = events_of(client.post(URL, json={**STAR, "partial_images": 1}).text)
    assert [event.get("type") for event in events] == ["image_generation.partial_image", None]
    assert events[-1]["error"]["message"] == "engine vae_decoder gave NaN"
    assert events[-1]["error"]["code"] == "not_drawn"


def test_a_stream_that_is_quiet_for_long_sends_comments(client, double, monkeypatch):
    monkeypatch.setattr("hybridstitch.serving.http.images.PING", 0.05)
    double.step = lambda number: time.sleep(0.12)
    text = client.post(URL, json={**STAR, "num_inference_steps": 1, "method": "large"}).text
    assert text.startswith(": still drawing\n\n")
    assert "image_generation.completed" in text


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_cancels_its_pictures(live, double, stream):
    double.go.clear()
    with (
        pytest.raises(httpx2.ReadTimeout),
        httpx2.stream("POST", f"{live}{URL}", json={**STAR, "stream": stream, "n": 2}, timeout=0.3) as answer,
    ):
        answer.read()
    deadline = time.monotonic() + 5
    while not all(ticket.done for ticket in double.tickets) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [str(ticket.future.exception()) for ticket in double.tickets] == ["the request was cancelled"] * 2
