"""What the server refuses: the page says so where it is seen, and leads to the field that it is about."""

import pytest
from playwright.sync_api import expect

STAR = "a large striped red star on a navy background"


def focused(page) -> str:
    return page.evaluate("document.activeElement.id")


@pytest.fixture
def guarded(page, double, serve_state):
    with serve_state(double, keys=(b"key",)) as address:
        page.goto(address)
        page.wait_for_selector("#key-field:not([hidden])")
        yield page


def test_what_the_server_refuses_is_told_on_the_page(ready, double):
    double.broken.add(STAR)
    ready.fill("#prompt", STAR)
    ready.click("#draw")
    expect(ready.locator("[role=alert]")).to_have_text("engine vae_decoder gave NaN")
    assert ready.is_enabled("#draw")
    assert ready.is_hidden("#way")


def test_a_guarded_server_is_asked_with_the_key_that_is_typed(guarded):
    expect(guarded.locator("#server")).to_have_text("The server asks for a key.")
    assert focused(guarded) == "key"
    assert guarded.get_attribute("#server", "class") == ""
    guarded.fill("#key", "key")
    guarded.press("#key", "Tab")
    expect(guarded.locator("#size option")).to_have_count(3)
    guarded.fill("#prompt", STAR)
    guarded.click("#draw")
    guarded.wait_for_selector("#times:not([hidden])")
    expect(guarded.locator("#server.ready")).to_have_text("demo is ready")


@pytest.mark.parametrize("way", ["typed", "drawn"])
def test_a_wrong_key_is_said_to_be_refused_and_its_field_is_marked_and_focused(guarded, way):
    guarded.fill("#key", "wrong")
    if way == "typed":
        guarded.press("#key", "Tab")
    else:
        guarded.fill("#prompt", STAR)
        guarded.press("#prompt", "Control+Enter")
    expect(guarded.locator("[role=alert]")).to_have_text("The server refuses this key. Type another.")
    assert guarded.get_attribute("#key", "aria-invalid") == "true"
    assert guarded.get_attribute("#key", "aria-errormessage") == guarded.get_attribute("[role=alert]", "id")
    assert focused(guarded) == "key"
    guarded.wait_for_timeout(1500)  # the page asks whether the server is ready meanwhile
    assert guarded.get_attribute("#server", "class") == "refused"
    assert guarded.inner_text("#server") == "The server refuses this key. Type another."
    guarded.fill("#key", "key")
    assert guarded.get_attribute("#key", "aria-invalid") is None
    guarded.press("#key", "Tab")
    expect(guarded.locator("#server.ready")).to_be_visible()
    assert guarded.is_hidden("[role=alert]")


def test_a_server_without_a_key_from_the_page_says_so_when_it_is_asked_to_draw(guarded, double):
    guarded.fill("#prompt", STAR)
    guarded.click("#draw")
    expect(guarded.locator("[role=alert]")).to_have_text("The server asks for a key.")
    assert focused(guarded) == "key"
    assert double.taken == []


def test_a_setting_that_is_refused_is_opened_marked_and_focused(ready):
    ready.click("summary")
    ready.fill("#residual", "never")
    ready.click("summary")
    ready.fill("#prompt", STAR)
    ready.click("#draw")
    expect(ready.locator("[role=alert]")).to_contain_text("residual")
    assert ready.is_visible("#residual")
    assert focused(ready) == "residual"
    assert ready.eval_on_selector("#residual + #refusal", "words => words.hidden") is False
    ready.select_option("#method", "large")  # it has no such setting: the words go with it
    assert ready.is_hidden("[role=alert]")
    ready.click("#draw")
    ready.wait_for_selector("#times:not([hidden])")


def test_a_setting_out_of_its_range_is_opened_by_the_browsers_own_check(ready, double):
    ready.click("summary")
    ready.fill("#num_inference_steps", "0")
    ready.click("summary")
    ready.fill("#prompt", STAR)
    ready.click("#draw")
    expect(ready.locator("#num_inference_steps")).to_be_visible()
    expect(ready.locator("#num_inference_steps")).to_be_focused()
    assert double.taken == []


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (
            {"status": 200, "content_type": "text/event-stream", "body": ": still there\n\n"},
            "The server ended its answer before the picture was done. Draw it again.",
        ),
        ({"status": 502, "content_type": "text/html", "body": "<h1>no"}, "The server answers with status 502."),
        (None, "The server does not answer."),
    ],
)
def test_an_answer_that_is_no_picture_is_told_in_the_pages_own_words(ready, answer, told):
    ready.route("**/v1/images/generations", lambda route: route.fulfill(**answer) if answer else route.abort())
    ready.fill("#prompt", STAR)
    ready.click("#draw")
    expect(ready.locator("[role=alert]")).to_have_text(told)
    assert ready.is_enabled("#draw")
    assert ready.is_hidden("#way")
