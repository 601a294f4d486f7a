"""The pictures of one HTTP request on their way through the service, seen from the event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.runtime.request import Request
from hybridstitch.runtime.result import Picture
from hybridstitch.serving.interface import PictureService
from hybridstitch.serving.picture_times import PictureTimes
from hybridstitch.serving.ticket import Ticket, Update


@dataclass(frozen=True)
class Advance:
    """Picture `index` is a step further."""

    index: int
    update: Update


@dataclass(frozen=True)
class Drawn:
    """Picture `index` is there. timing: see `PictureTimes`."""

    index: int
    picture: Picture
    timing: dict[str, Any]


class PendingPictures:
    """Requests that are admitted together or refused together, and given up together.

    Made on the event loop, which alone admits: what two orders ask for is never taken in halves.

    Raises:
        QueueFull, Closed: at once; those that were taken before are given up again.
    """

    def __init__(
        self, service: PictureService, requests: Sequence[Request], *, timeout: float | None = None, previews: int = 0
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._news: asyncio.Queue[tuple[int, Update | Ticket, float]] = asyncio.Queue()
        self._times = [PictureTimes() for _ in requests]
        self._tickets: list[Ticket] = []
        try:
            for index, request in enumerate(requests):
                tell = partial(self._tell, index)
                self._tickets.append(service.submit(request, timeout=timeout, on_update=tell, previews=previews))
        except HybridStitchError:
            self.cancel()
            raise
        for index, ticket in enumerate(self._tickets):
            ticket.add_done_callback(partial(self._tell, index))

    def cancel(self) -> None:
        """Give up what is not drawn yet; the service drops it before its next step."""
        for ticket in self._tickets:
            ticket.cancel()

    async def events(self, patience: float | None = None) -> AsyncIterator[Advance | Drawn | None]:
        """What happens to the pictures, until all are drawn.

        Args:
            patience: seconds without news, after which there is a None.

        Raises:
            HybridStitchError: a picture that cannot be had.
        """
        left = len(self._tickets)
        while left:
            try:
                async with asyncio.timeout(patience):
                    index, news, when = await self._news.get()
            except TimeoutError:
                yield None
                continue
            if isinstance(news, Update):
                self._times[index].step(news, when)
                yield Advance(index, news)
            else:
                left -= 1
                yield Drawn(index, news.result(0), self._times[index].finish(when))

    def _tell(self, index: int, news: Update | Ticket) -> None:
        """From the service's thread to the loop's."""
        with suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(self._news.put_nowait, (index, news, time.monotonic()))
