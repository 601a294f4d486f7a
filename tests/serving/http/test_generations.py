"""POST /v1/images/generations: what is drawn, and how it is given."""

import base64
import io
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest
from PIL import Image

from hybridstitch.method.settings import SETTINGS
from hybridstitch.serving.http.names import HTTP_NAMES
from hybridstitch.serving.http.schema import IGNORED

URL = "/v1/images/generations"
STAR = {"prompt": "a large striped red star on a navy background", "num_inference_steps": 4}


def image_of(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text)))


def test_a_prompt_alone_gives_one_picture_as_the_recipe_says(client, double):
    answer = client.post(URL, json={"prompt": "a star"})
    assert answer.status_code == 200
    assert image_of(answer.json()["data"][0]["b64_json"]).size == (128, 128)
    assert (answer.json()["size"], answer.json()["output_format"]) == ("128x128", "png")
    assert double.taken[0].parameters.schedule.steps == 12


def test_n_pictures_have_seeds_that_follow_each_other(client, double):
    answer = client.post(URL, json={**STAR, "n": 3, "seed": 41})
    assert [image["seed"] for image in answer.json()["data"]] == [41, 42, 43]
    assert [request.seed for request in double.taken] == [41, 42, 43]
    reds = [image_of(image["b64_json"]).tobytes()[0] for image in answer.json()["data"]]
    assert reds == [41, 42, 43]


def test_seed_0_is_a_seed(client, double):
    assert client.post(URL, json={**STAR, "seed": 0}).json()["data"][0]["seed"] == 0
    assert double.taken[0].seed == 0


@pytest.mark.parametrize("absent", [{}, {"seed": None}])
def test_without_a_seed_it_is_random_and_told(client, double, absent):
    told = [client.post(URL, json={**STAR, **absent}).json()["data"][0]["seed"] for _ in range(3)]
    assert told == [request.seed for request in double.taken]
    assert len(set(told)) == 3


def test_auto_is_the_recipes_size_and_others_are_taken(client):
    assert client.post(URL, json={**STAR, "size": "auto"}).json()["size"] == "128x128"
    assert client.post(URL, json={**STAR, "size": "160x96"}).json()["size"] == "160x96"


@pytest.mark.parametrize(("output_format", "kind"), [("png", "PNG"), ("jpeg", "JPEG"), ("webp", "WEBP")])
def test_a_picture_comes_in_the_format_that_was_asked_for(client, output_format, kind):
    answer = client.post(URL, json={**STAR, "output_format": output_format}).json()
    assert image_of(answer["data"][0]["b64_json"]).format == kind
    assert answer["output_format"] == output_format


def test_compression_is_the_quality_of_jpeg_and_webp(client, demo):
    sizes = [
        len(httpx2.post(f"{demo}{URL}", json={**STAR, "seed": 1, **form}, timeout=60).json()["data"][0]["b64_json"])
        for form in ({"output_format": "jpeg", "output_compression": quality} for quality in (5, 100))
    ]
    assert sizes[0] < sizes[1] / 3


def test_a_png_says_how_it_was_made(client):
    info = image_of(client.post(URL, json={**STAR, "seed": 7}).json()["data"][0]["b64_json"]).info
    assert (info["prompt"], info["seed"], info["steps"]) == (STAR["prompt"], "7", "4")


def test_the_mask_is_given_where_it_is_asked_for(client):
    with_mask = client.post(URL, json={**STAR, "include_mask": True, "output_format": "jpeg"}).json()["data"][0]
    assert image_of(with_mask["mask_b64_json"]).format == "PNG"
    assert "mask_b64_json" not in client.post(URL, json=STAR).json()["data"][0]


def test_the_time_of_each_stage_is_told(client):
    timing = client.post(URL, json={**STAR, "large_steps": 2, "hybrid_steps": 1}).json()["data"][0]["timing"]
    assert {name: spent["steps"] for name, spent in timing["stages"].items()} == {"large": 2, "hybrid": 1, "small": 1}
    parts = timing["waiting"] + timing["decode"] + sum(spent["seconds"] for spent in timing["stages"].values())
    assert parts == pytest.approx(timing["total"], abs=0.001)


def test_every_setting_of_the_method_reaches_the_plan(client, double):
    given = {
        "steps": 9,
        "guidance": 2.5,
        "large_steps": 3,
        "hybrid_steps": 2,
        "mask_ratio": 0.2,
        "score": "change",
        "residual": 1.5,
        "refresh_every": 1,
        "grid": 28,
        "sketch": "held",
        "extrapolate": 0.5,
        "correct": "on",
        "adaptive": "off",
    }
    assert given.keys() == SETTINGS.keys()
    body = {HTTP_NAMES.get(name, name): value for name, value in given.items()}
    assert client.post(URL, json={"prompt": "a star", "method": "hybrid", **body}).status_code == 200
    assert double.taken[0].parameters.as_dict() == {"method": "hybrid", **given, "adaptive": None}


def test_what_means_nothing_here_is_accepted_whatever_it_holds(client):
    assert client.post(URL, json={**STAR, **dict.fromkeys(IGNORED, "high"), "model": "demo"}).status_code == 200
    assert client.post(URL, json={**STAR, "model": None, "n": None, "stream": None, "method": None}).status_code == 200


def test_several_requests_at_once_are_all_answered(live):
    def ask(seed):
        return httpx2.post(f"{live}{URL}", json={**STAR, "seed": seed}, timeout=30).json()["data"][0]["seed"]

    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(ask, range(12))) == list(range(12))


def test_what_is_served_is_what_the_pipeline_draws(demo, pipe):
    answer = httpx2.post(f"{demo}{URL}", json={**STAR, "seed": 3, "n": 2}, timeout=60).json()
    drawn = pipe([STAR["prompt"]] * 2, seed=3, steps=4).images
    served = [image_of(image["b64_json"]) for image in answer["data"]]
    assert [image.tobytes() for image in served] == [image.tobytes() for image in drawn]
