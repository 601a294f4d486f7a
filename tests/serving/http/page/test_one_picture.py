"""Words, buttons, alt text and picture are those of one picture, however the drawing ends."""

import pytest
from playwright.sync_api import expect

STAR = "a large striped red star on a navy background"
HEART = "a large plain green heart on a grey background"
SEEN = """() => ({
    source: document.getElementById("picture").src,
    alt: document.getElementById("picture").alt,
    hidden: document.getElementById("picture").hidden,
    words: document.getElementById("stage").innerText + ", " + document.getElementById("step").innerText,
    strip: [...document.querySelectorAll("#strip i")].map((cell) => cell.className),
    file: document.getElementById("save").download,
    rows: ["way", "after", "times", "stop"].filter((id) => document.getElementById(id).offsetParent),
    busy: document.getElementById("frame").className,
})"""


@pytest.fixture
def star(ready):
    """A page that shows the finished picture of STAR, and what is seen of it."""
    ready.fill("#seed", "7")
    ready.fill("#prompt", STAR)
    ready.click("#draw")
    ready.wait_for_selector("#times:not([hidden])")
    seen = ready.evaluate(SEEN)
    assert (seen["alt"], seen["file"], seen["rows"]) == (STAR, "picture-seed7.png", ["way", "after", "times"])
    ready.fill("#seed", "8")
    ready.fill("#prompt", HEART)
    return ready, seen


@pytest.mark.parametrize("step", [0, 1, 8])  # no step yet; no preview yet; a preview
def test_after_stop_the_picture_before_is_back_with_its_own_words_and_buttons(star, hold, step):
    page, seen = star
    hold(step)
    page.click("#draw")
    expect(page.locator("#step")).to_have_text(f"step {step} of 12")
    page.click("#stop")
    told = f"Stopped after step {step} of 12." if step else "Stopped before the first step."
    expect(page.locator("#note")).to_have_text(f"{told} This is the picture before it.")
    assert page.text_content("#said") == told
    assert page.evaluate(SEEN) == seen
    page.click("#again")
    assert page.input_value("#seed") == "7"


def test_after_a_refusal_the_picture_before_is_back_with_its_own_words_and_buttons(star, double):
    page, seen = star
    double.broken.add(HEART)
    page.click("#draw")
    expect(page.locator("[role=alert]")).to_have_text("engine vae_decoder gave NaN")
    assert page.evaluate(SEEN) == seen
    double.broken.clear()
    page.click("#draw")
    expect(page.locator("#picture")).to_have_attribute("alt", HEART)
    assert page.evaluate(SEEN)["file"] == "picture-seed8.png"
    assert page.is_hidden("[role=alert]")


def test_while_a_picture_is_drawn_nothing_of_the_one_before_is_seen(star, double, hold):
    page, seen = star
    hold(1)
    page.click("#draw")
    expect(page.locator("#step")).to_have_text("step 1 of 12")
    now = page.evaluate(SEEN)
    assert (now["hidden"], now["rows"], now["busy"]) == (True, ["way", "stop"], "frame busy")
    assert now["strip"] == ["large"] + [""] * 11
    assert page.inner_text("#empty") == f"No preview yet of “{HEART}”"
    double.go.set()
    page.wait_for_selector("#times:not([hidden])")
    assert page.evaluate(SEEN)["source"] != seen["source"]


def test_the_alt_text_is_the_prompt_of_the_picture_whatever_is_typed_meanwhile(ready, double, hold):
    hold(8)
    ready.fill("#prompt", STAR)
    ready.click("#draw")
    expect(ready.locator("#step")).to_have_text("step 8 of 12")
    ready.fill("#prompt", HEART)
    alt = ready.locator("#picture")
    expect(alt).to_have_attribute("alt", f"Unfinished picture, step 6 of 12: {STAR}")
    double.go.set()
    expect(alt).to_have_attribute("alt", STAR)
    ready.check("#mask")
    expect(alt).to_have_attribute("alt", f"{STAR}, with what the large model refined outlined and the rest darkened")


def test_stop_without_a_picture_before_leaves_an_empty_frame(ready, hold):
    hold(8)
    ready.fill("#prompt", STAR)
    ready.click("#draw")
    expect(ready.locator("#picture")).to_be_visible()
    ready.click("#stop")
    expect(ready.locator("#note")).to_have_text("Stopped after step 8 of 12.")
    seen = ready.evaluate(SEEN)
    assert (seen["hidden"], seen["rows"], seen["busy"]) == (True, [], "frame")
    assert ready.evaluate("document.activeElement.id") == "draw"  # the button that it was on is gone
