"""What an order leaves behind: nothing that waits for the garbage collector."""

import asyncio
import gc
import time
import weakref

import pytest

from hybridstitch.pairs.recipe import Recipe
from hybridstitch.serving.http.pending_pictures import Drawn, PendingPictures
from tests.service_double import Double


@pytest.fixture
def no_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("previews", [0, 2])
def test_pictures_go_with_their_last_reference(no_collector, previews):
    service = Double(Recipe.load("demo"))
    requests = [service.resolve("a ring", seed=seed, steps=3) for seed in range(2)]

    async def draw() -> list[weakref.ref]:
        order = PendingPictures(service, requests, previews=previews)
        return [weakref.ref(event.picture) async for event in order.events() if isinstance(event, Drawn)]

    pictures = asyncio.run(draw())
    service.tickets.clear()
    deadline = time.monotonic() + 10  # the threads that drew them end in their own time
    while any(picture() is not None for picture in pictures) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [picture() for picture in pictures] == [None, None]
