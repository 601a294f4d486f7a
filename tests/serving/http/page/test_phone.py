"""The page on a phone: one column, and what happens is in sight."""

import pytest
from playwright.sync_api import expect

STAR = "a large striped red star on a navy background"
IN_SIGHT = """element => {
    const { top, bottom } = element.getBoundingClientRect();
    return top >= 0 && bottom <= innerHeight;
}"""
WATCH_SCROLLING = """
    window.scrolled = [];
    const scroll = Element.prototype.scrollIntoView;
    Element.prototype.scrollIntoView = function (options) {
        window.scrolled.push(options.behavior);
        scroll.call(this, options);
    };
"""


@pytest.fixture
def phone(page, live):
    page.set_viewport_size({"width": 390, "height": 844})
    page.add_init_script(WATCH_SCROLLING)
    page.goto(live)
    page.wait_for_selector("#server.ready")
    page.fill("#prompt", STAR)
    return page


def in_sight(page, *selectors: str) -> bool:
    return all(page.eval_on_selector(selector, IN_SIGHT) for selector in selectors)


def wait_in_sight(page, *selectors: str) -> None:
    """Wait until all of them are seen together; the page scrolls smoothly."""
    names = f"[...document.querySelectorAll({', '.join(selectors)!r})]"
    page.wait_for_function(f"() => {names}.every({IN_SIGHT})")


@pytest.mark.parametrize(("motion", "behavior"), [("no-preference", "smooth"), ("reduce", "auto")])
def test_draw_scrolls_to_the_progress_and_moves_only_as_one_wants(phone, hold, motion, behavior):
    phone.emulate_media(reduced_motion=motion)
    assert not in_sight(phone, "#frame")
    hold(8)
    phone.click("#draw")
    expect(phone.locator("#step")).to_have_text("step 8 of 12")
    wait_in_sight(phone, "#frame", "#stage", "#strip", "#stop")
    assert phone.evaluate("scrolled") == [behavior]


def test_the_buttons_of_a_finished_picture_are_in_sight_of_who_watched_it(phone, double, hold):
    hold(8)
    phone.click("#draw")
    expect(phone.locator("#step")).to_have_text("step 8 of 12")
    wait_in_sight(phone, "#strip")
    double.go.set()
    phone.wait_for_selector("#times:not([hidden])")
    wait_in_sight(phone, "#frame", "#stage", "#save", "#again")


def test_who_writes_the_next_prompt_meanwhile_is_left_there(phone, double, hold):
    phone.emulate_media(reduced_motion="reduce")
    hold(8)
    phone.click("#draw")
    expect(phone.locator("#step")).to_have_text("step 8 of 12")
    wait_in_sight(phone, "#strip")
    phone.evaluate("scrollTo(0, 0)")
    double.go.set()
    phone.wait_for_selector("#times:not([hidden])")
    assert phone.evaluate("scrolled") == ["auto"]
    assert in_sight(phone, "#prompt")


def test_a_refusal_is_in_sight(phone, double):
    double.broken.add(STAR)
    phone.click("#draw")
    phone.wait_for_selector("#refusal:not([hidden])")
    wait_in_sight(phone, "#refusal", "#draw")


def test_a_wide_window_does_not_scroll(ready, hold):
    ready.emulate_media(reduced_motion="reduce")
    ready.set_viewport_size({"width": 1280, "height": 800})
    hold(8)
    ready.fill("#prompt", STAR)
    ready.click("#draw")
    expect(ready.locator("#step")).to_have_text("step 8 of 12")
    assert ready.evaluate("scrollY") == 0
    assert in_sight(ready, "#draw", "#strip")
