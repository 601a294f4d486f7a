"""The page, in a real browser: without one these tests are skipped."""

import re
import shutil

import pytest
from playwright.sync_api import expect, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium: apt-get install chromium")
STAR = "a large striped red star on a navy background"


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    """A new page; what its script complains of fails the test."""
    problems = []
    page = browser.new_page()
    page.set_default_timeout(15_000)
    page.on("pageerror", lambda error: problems.append(str(error)))
    yield page
    page.close()
    assert not problems


@pytest.fixture
def ready(page, live):
    page.goto(live)
    page.wait_for_selector("#state.ready")
    return page


def test_a_prompt_that_is_typed_becomes_a_picture(ready, double):
    assert ready.evaluate("document.activeElement.id") == "prompt"
    ready.keyboard.type(STAR)
    ready.keyboard.press("Control+Enter")
    ready.wait_for_selector("#times:not([hidden])")
    assert ready.get_attribute("#picture", "alt") == STAR
    assert ready.eval_on_selector("#picture", "image => image.naturalWidth") == 128
    assert ready.eval_on_selector_all("#strip i", "cells => cells.map(cell => cell.className)") == (
        ["large"] * 5 + ["hybrid"] * 6 + ["small"]
    )
    assert re.search(r"large stage\s*5 steps\s*[0-9.]+ s", ready.inner_text("#times"))
    assert re.search(r"Done in [0-9.]+ seconds", ready.text_content("#said"))
    assert f"seed {double.taken[0].seed}" in ready.inner_text("#step")
    assert double.taken[0].prompt == STAR


def test_the_stage_and_the_preview_are_seen_on_the_way(ready, double):
    def halt(number):
        if number == 10:
            double.go.clear()
            double.go.wait()

    double.step = halt
    ready.fill("#prompt", STAR)
    ready.click("#draw")
    expect(ready.locator("#step")).to_have_text("step 9 of 12")
    assert ready.inner_text("#stage").startswith("Hybrid stage: the large model where it is hard")
    assert ready.text_content("#said") == ready.inner_text("#stage")
    assert ready.get_attribute("#picture", "alt").startswith("Unfinished picture, step 9 of 12")
    assert ready.get_attribute("#strip", "aria-valuenow") == "9"
    assert ready.is_disabled("#draw")
    double.go.set()
    ready.wait_for_selector("#times:not([hidden])")


def test_the_mask_is_shown_over_the_picture(ready):
    ready.fill("#prompt", STAR)
    ready.click("#draw")
    ready.wait_for_selector("#after:not([hidden])")
    plain = ready.get_attribute("#picture", "src")
    ready.check("#mask")
    assert ready.get_attribute("#picture", "src") != plain
    assert "what the large model refined" in ready.get_attribute("#picture", "alt")
    ready.uncheck("#mask")
    assert ready.get_attribute("#picture", "src") == plain
    assert ready.get_attribute("#save", "download").endswith(".png")


def test_the_form_has_the_settings_of_the_method_and_sends_them(ready, double):
    ready.click("summary")
    names = "fields => fields.map(field => field.id)"
    assert len(ready.eval_on_selector_all("#settings :is(input, select)", names)) == 11
    ready.fill("#num_inference_steps", "14")
    ready.fill("#residual", "off")
    ready.fill("#seed", "0")
    ready.select_option("#score", "gap")
    ready.select_option("#size", "160x96")
    ready.fill("#prompt", STAR)
    ready.click("#draw")
    ready.wait_for_selector("#times:not([hidden])")
    taken = double.taken[0]
    assert (taken.seed, str(taken.size), taken.plan.schedule.steps) == (0, "160x96", 14)
    assert (taken.plan.residual, taken.plan.score) == (None, "gap")
    ready.select_option("#method", "large")
    assert ready.eval_on_selector_all("#settings :is(input, select)", names) == [
        "num_inference_steps",
        "guidance_scale",
        "grid",
    ]
    assert ready.input_value("#num_inference_steps") == "14"


def test_what_the_server_refuses_is_told_on_the_page(ready, double):
    double.broken.add(STAR)
    ready.fill("#prompt", STAR)
    ready.click("#draw")
    ready.wait_for_selector("#error:not([hidden])")
    assert ready.inner_text("[role=alert]") == "engine vae_decoder gave NaN"
    assert ready.is_enabled("#draw")


def test_stop_gives_the_picture_up(ready, double):
    double.go.clear()
    ready.fill("#prompt", STAR)
    ready.click("#draw")
    expect(ready.locator("#stage")).to_have_text("Waiting for its turn")
    while not double.tickets:
        ready.wait_for_timeout(20)
    ready.click("#stop")
    expect(ready.locator("#said")).to_have_text("Stopped.")
    for _ in range(100):
        if double.tickets[0].done:
            break
        ready.wait_for_timeout(20)
    assert str(double.tickets[0].future.exception()) == "the request was cancelled"


def test_a_guarded_server_is_asked_with_the_key_that_is_typed(page, double, serve_front):
    with serve_front(double, keys=(b"key",)) as address:
        page.goto(address)
        page.wait_for_selector("#key-field:not([hidden])")
        page.fill("#key", "key")
        page.press("#key", "Tab")
        expect(page.locator("#size option")).to_have_count(3)
        page.fill("#prompt", STAR)
        page.click("#draw")
        page.wait_for_selector("#times:not([hidden])")


def test_every_field_has_a_label_and_a_phone_can_show_it(ready):
    ready.click("summary")
    unlabelled = "fields => fields.filter(field => !field.labels.length).map(field => field.id)"
    assert ready.eval_on_selector_all("input, select, textarea", unlabelled) == []
    ready.set_viewport_size({"width": 360, "height": 740})
    assert ready.evaluate("document.documentElement.scrollWidth") <= 360
