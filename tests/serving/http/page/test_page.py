"""Drawing on the page: fields, progress, picture, times."""

import re

from playwright.sync_api import expect

STAR = "a large striped red star on a navy background"


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


def test_the_stage_and_the_preview_are_seen_on_the_way(ready, double, hold):
    hold(9)
    ready.fill("#prompt", STAR)
    ready.click("#draw")
    expect(ready.locator("#step")).to_have_text("step 9 of 12")
    assert ready.inner_text("#stage").startswith("Hybrid stage: the large model where it is hard")
    assert ready.text_content("#said") == ready.inner_text("#stage")
    assert ready.get_attribute("#picture", "alt").startswith("Unfinished picture, step 9 of 12: a large striped")
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
    assert len(ready.eval_on_selector_all("#settings :is(input, select)", names)) == 13
    ready.fill("#num_inference_steps", "14")
    ready.fill("#residual", "off")
    ready.fill("#seed", "0")
    ready.select_option("#score", "gap")
    ready.select_option("#size", "160x96")
    ready.fill("#prompt", STAR)
    ready.click("#draw")
    ready.wait_for_selector("#times:not([hidden])")
    taken = double.taken[0]
    assert (taken.seed, str(taken.size), taken.parameters.schedule.steps) == (0, "160x96", 14)
    assert (taken.parameters.residual, taken.parameters.score) == (None, "gap")
    ready.select_option("#method", "large")
    assert ready.eval_on_selector_all("#settings :is(input, select)", names) == [
        "num_inference_steps",
        "guidance_scale",
        "grid",
    ]
    assert ready.input_value("#num_inference_steps") == "14"


def test_stop_gives_the_picture_up(ready, double):
    double.go.clear()
    ready.fill("#prompt", STAR)
    ready.click("#draw")
    expect(ready.locator("#stage")).to_have_text("Waiting for its turn")
    while not double.tickets:
        ready.wait_for_timeout(20)
    ready.click("#stop")
    expect(ready.locator("#said")).to_have_text("Stopped before the first step.")
    expect(ready.locator("#empty")).to_contain_text("The picture appears here")
    assert ready.is_hidden("#way")
    for _ in range(100):
        if double.tickets[0].done:
            break
        ready.wait_for_timeout(20)
    assert str(double.tickets[0].future.exception()) == "the request was cancelled"


def test_every_field_has_a_label_and_a_phone_can_show_it(ready):
    ready.click("summary")
    unlabelled = "fields => fields.filter(field => !field.labels.length).map(field => field.id)"
    assert ready.eval_on_selector_all("input, select, textarea", unlabelled) == []
    ready.set_viewport_size({"width": 360, "height": 740})
    assert ready.evaluate("document.documentElement.scrollWidth") <= 360


def test_the_page_asks_nobody_but_its_own_server_and_keeps_its_own_policy(page, live):
    asked, complaints = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(live)
    page.wait_for_selector("#server.ready")
    page.fill("#prompt", STAR)
    page.click("#draw")
    page.wait_for_selector("#times:not([hidden])")
    assert {"/", "/page/page.css", "/page/page.js", "/page/view.js"} <= {url.removeprefix(live) for url in asked}
    assert [url for url in asked if not url.startswith((live, "data:image/"))] == []
    assert complaints == []
    assert page.eval_on_selector("#times i", "bar => bar.style.width").endswith("%")
