"""Every answer is what the types of OpenAI's own client say, strictly: the client itself would take anything."""

import json

import pytest
from openai.types import Image, ImageGenCompletedEvent, ImageGenPartialImageEvent, ImagesResponse, Model
from openai.types.images_response import Usage
from openai.types.shared import ErrorObject

URL = "/v1/images/generations"
STAR = {"prompt": "a star", "num_inference_steps": 4}
FORMS = [
    {},
    {"n": 2, "seed": 0, "include_mask": True},
    {"output_format": "jpeg", "output_compression": 80},
    {"output_format": "webp", "size": "160x96"},
    {"quality": "auto", "background": "auto", "size": "auto", "moderation": "auto"},
    {"quality": "low", "background": "opaque", "style": "vivid", "user": "somebody"},
    {"method": "small"},
]
REFUSED = [
    {"prompt": ""},
    {"prompt": None},
    {"model": "gpt-image-1"},
    {"size": "64x64"},
    {"colour": "red"},
    {"n": 0},
]


def events_of(text: str) -> list[dict]:
    return [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_pictures_are_as_the_client_types_them(client, form):
    answer = client.post(URL, json={**STAR, **form}).json()
    given = ImagesResponse.model_validate(answer, strict=True)
    assert (given.background, given.quality) == ("opaque", "high")
    assert len(given.data or ()) == form.get("n", 1)
    assert all(Image.model_validate(image, strict=True).b64_json for image in answer["data"])
    assert Usage.model_validate(answer["usage"], strict=True).total_tokens == 0


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_events_are_as_the_client_types_them(client, form):
    body = {**STAR, **form, "stream": True, "partial_images": 2}
    events = events_of(client.post(URL, json=body).text)
    kinds = {
        "image_generation.partial_image": ImageGenPartialImageEvent,
        "image_generation.completed": ImageGenCompletedEvent,
    }
    given = [kinds[event["type"]].model_validate(event, strict=True) for event in events]
    assert [type(event) for event in given].count(ImageGenCompletedEvent) == form.get("n", 1)
    assert {(event.background, event.quality) for event in given} == {("opaque", "high")}


def test_models_are_as_the_client_types_them(client):
    listed = client.get("/v1/models").json()
    assert [Model.model_validate(model, strict=True).id for model in listed["data"]] == ["demo"]
    assert Model.model_validate(client.get("/v1/models/demo").json(), strict=True).id == "demo"


@pytest.mark.parametrize("form", REFUSED, ids=str)
def test_errors_are_as_the_client_types_them_and_name_the_parameter(client, form):
    error = ErrorObject.model_validate(client.post(URL, json={**STAR, **form}).json()["error"], strict=True)
    assert [error.param] == list(form)


def test_errors_of_addresses_and_of_streams_are_as_the_client_types_them(client, double):
    double.broken.add("a star")
    for answer in (client.get("/nowhere"), client.get("/v1/models/gpt"), client.get(URL), client.post(URL, json=STAR)):
        assert ErrorObject.model_validate(answer.json()["error"], strict=True).code
    event = events_of(client.post(URL, json={**STAR, "stream": True}).text)[-1]
    assert ErrorObject.model_validate(event["error"], strict=True).code == "not_drawn"
