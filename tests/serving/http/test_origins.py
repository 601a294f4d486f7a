"""`--cors-origin`: which websites' scripts may ask, and what they may read."""

import pytest
from starlette.testclient import TestClient

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.pairs.recipe import Recipe
from hybridstitch.serving.http.app import create_app
from hybridstitch.serving.http.origins import origin
from hybridstitch.serving.http.server_state import ServerState

URL = "/v1/images/generations"
SITE, OTHER = "https://studio.example", "https://elsewhere.example"
PREFLIGHT = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "authorization, content-type, x-stainless-os",
}


@pytest.fixture
def asking(double):
    """A client of an application that some origins, or keys, are given to."""

    def made(*origins: str, keys: tuple[bytes, ...] = ()) -> TestClient:
        state = ServerState(Recipe.load("demo"), "0.1.0")
        state.open(double)
        return TestClient(create_app(state, keys, origins), raise_server_exceptions=False)

    return made


def test_without_the_option_no_script_of_another_site_may_ask(client):
    assert client.options(URL, headers={"Origin": SITE, **PREFLIGHT}).status_code == 405
    for answer in (client.get("/v1/models", headers={"Origin": SITE}), client.options(URL, headers={"Origin": SITE})):
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_a_preflight_needs_no_key_and_allows_the_header_that_has_it(asking):
    answer = asking(SITE, "http://localhost:3000", keys=(b"key",)).options(URL, headers={"Origin": SITE, **PREFLIGHT})
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == SITE
    assert "POST" in answer.headers["access-control-allow-methods"]
    allowed = answer.headers["access-control-allow-headers"].lower()
    assert all(name in allowed for name in ("authorization", "content-type", "x-stainless-os"))
    assert "access-control-allow-credentials" not in answer.headers
    assert "Origin" in answer.headers["vary"]


def test_another_site_is_refused(asking):
    client = asking(SITE)
    answer = client.options(URL, headers={"Origin": OTHER, **PREFLIGHT})
    assert answer.status_code == 400
    assert "access-control-allow-origin" not in answer.headers
    assert "access-control-allow-origin" not in client.get("/v1/models", headers={"Origin": OTHER}).headers


@pytest.mark.parametrize("allowed", [SITE, "*"])
def test_answers_and_errors_are_for_the_site_to_read_with_their_headers(asking, double, allowed):
    def broken(*_, **__):
        raise RuntimeError

    client = asking(allowed, keys=(b"key",))
    key = {"Origin": SITE, "Authorization": "Bearer key"}
    drawn = client.post(URL, json={"prompt": "a star"}, headers=key)
    unknown = client.post(URL, json={"prompt": "a star"}, headers={"Origin": SITE})
    double.resolve = broken
    bug = client.post(URL, json={"prompt": "a star"}, headers=key)
    assert [answer.status_code for answer in (drawn, unknown, bug)] == [200, 401, 500]
    for answer in (drawn, unknown, bug):
        assert answer.headers["access-control-allow-origin"] == allowed
        exposed = answer.headers["access-control-expose-headers"].lower()
        assert all(name in exposed for name in ("x-request-id", "retry-after"))
        assert answer.headers["x-request-id"].startswith("req_")
        assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("*", "*"),
        ("https://Studio.Example", "https://studio.example"),
        ("https://studio.example:443", "https://studio.example"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("app://obsidian.md", "app://obsidian.md"),
    ],
)
def test_an_origin_is_read_as_browsers_write_it(given, read):
    assert origin(given) == read


@pytest.mark.parametrize(
    "given",
    [
        "",
        "null",
        "studio.example",
        "https://",
        "https://studio.example/",
        "https://a/b",
        "https://*.example",
        "https://user@studio.example",
        "https://a:0",
        "https://a:70000",
        "https://a https://b",
        "https://a\n",
    ],
)
def test_what_is_no_origin_is_refused_in_one_line(given):
    with pytest.raises(HybridStitchError, match="is no origin: write SCHEME://HOST or SCHEME://HOST:PORT") as refused:
        origin(given)
    assert "\n" not in str(refused.value)
