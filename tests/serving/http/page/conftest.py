"""What the tests of the page share: a real browser, on a real server over the double."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser for one file of tests: while Playwright is there no other test of the process can run an event loop."""
    if CHROMIUM is None:
        pytest.skip("there is no Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser) -> Iterator[Page]:
    """A new page; what its script complains of fails the test."""
    problems = []
    page = browser.new_page()
    page.set_default_timeout(15_000)
    page.on("pageerror", lambda error: problems.append(str(error)))
    yield page
    page.close()
    assert not problems


@pytest.fixture
def ready(page, live) -> Page:
    page.goto(live)
    page.wait_for_selector("#server.ready")
    return page


@pytest.fixture
def hold(double) -> Iterator[Callable[[int], None]]:
    """Makes the double stop when it has told a step (0: that the text is encoded), until `double.go` is set."""

    def after(step: int) -> None:
        def halt(number: int) -> None:
            if number == step:
                double.step = lambda _number: None
                double.go.clear()

        double.step = halt

    yield after
    double.go.set()
