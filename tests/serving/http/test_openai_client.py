"""OpenAI's own Python client draws with the demo pair."""

import base64
import io

import openai
import pytest
from PIL import Image

PROMPT = "a large plain green heart on a grey background"
QUICK = {"num_inference_steps": 4, "seed": 0}


@pytest.fixture(scope="module")
def client(demo):
    with openai.OpenAI(base_url=f"{demo}/v1", api_key="none", max_retries=0) as client:
        yield client


def picture(text: str | None) -> Image.Image:
    assert text is not None
    return Image.open(io.BytesIO(base64.b64decode(text)))


def test_it_draws_pictures(client):
    answer = client.images.generate(prompt=PROMPT, n=2, size="auto", user="somebody", extra_body=QUICK)
    assert [picture(image.b64_json).size for image in answer.data] == [(128, 128)] * 2
    assert [image.seed for image in answer.data] == [0, 1]
    assert (answer.size, answer.output_format) == ("128x128", "png")


def test_it_streams_pictures(client):
    extra = {**QUICK, "include_mask": True}
    stream = client.images.generate(
        prompt=PROMPT, stream=True, partial_images=2, output_format="jpeg", extra_body=extra
    )
    events = list(stream)
    assert [event.type.split(".")[1] for event in events] == ["partial_image", "partial_image", "completed"]
    assert [event.partial_image_index for event in events[:-1]] == [0, 1]
    assert {picture(event.b64_json).format for event in events} == {"JPEG"}
    assert picture(events[-1].mask_b64_json).size == (128, 128)


def test_it_lists_models(client):
    assert [model.id for model in client.models.list()] == ["demo"]
    assert client.models.retrieve("demo").owned_by == "hybridstitch-trt"


def test_it_raises_its_own_errors_with_our_words(client):
    with pytest.raises(openai.BadRequestError, match="would be cut off; shorten it") as refused:
        client.images.generate(prompt="a large red star " * 12)
    assert (refused.value.code, refused.value.type) == ("invalid_value", "invalid_request_error")
    assert str(refused.value.request_id).startswith("req_")
    with pytest.raises(openai.BadRequestError, match="pictures come in the answer itself"):
        client.images.generate(prompt=PROMPT, response_format="url")
    with pytest.raises(openai.NotFoundError, match="only drawn"):
        client.images.edit(image=b"picture", prompt=PROMPT)


def test_it_sends_the_key_that_is_asked_for(double, serve_state):
    with serve_state(double, keys=(b"key",)) as address:
        with (
            openai.OpenAI(base_url=f"{address}/v1", api_key="wrong") as client,
            pytest.raises(openai.AuthenticationError),
        ):
            client.models.list()
        with openai.OpenAI(base_url=f"{address}/v1", api_key="key") as client:
            assert client.images.generate(prompt=PROMPT).data


def test_an_error_within_a_stream_is_raised(double, serve_state):
    double.broken.add(PROMPT)
    with serve_state(double) as address, openai.OpenAI(base_url=f"{address}/v1", api_key="none") as client:
        stream = client.images.generate(prompt=PROMPT, stream=True)
        with pytest.raises(openai.APIError, match="gave NaN"):
            list(stream)
