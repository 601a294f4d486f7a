"""One replica on Ray: a service, and what its pictures go through on their way out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.runtime.request import Request
from hybridstitch.runtime.result import Picture
from hybridstitch.serving.errors import ServingError
from hybridstitch.serving.http.pending_pictures import Drawn, PendingPictures
from hybridstitch.serving.process_exit import end_process
from hybridstitch.serving.service import Service
from hybridstitch.serving.ticket import Update

from .options import ApplicationOptions


class Replica:
    """Holds one pair's weights, on the one GPU or the share of the CPU that Ray gives it."""

    def __init__(self, options: ApplicationOptions) -> None:
        threads = None if options.on_gpu else max(1, int(options.cpus))
        own = replace(options, threads=threads, max_queue=options.at_once)
        # Where the device is lost, Ray starts another replica, and the front sends it what this one had.
        self._service = Service.open(own, on_lost=end_process)

    async def draw(
        self, request: Request, timeout: float | None, previews: int
    ) -> AsyncIterator[Update | Picture | ServingError]:
        """Updates, then the picture or why there is none. An error is an answer here: what is raised is Ray's own."""
        try:
            order = PendingPictures(self._service, [request], timeout=timeout, previews=previews)
        except ServingError as error:
            yield error
            return
        try:
            async for event in order.events():
                if event is not None:
                    yield event.picture if isinstance(event, Drawn) else event.update
        except ServingError as error:
            yield error
        finally:
            order.cancel()  # where the caller went away

    def check_health(self) -> None:
        """Asked by Ray every few seconds: a replica whose engines fail is replaced.

        Raises:
            HybridStitchError: it is not ready.
        """
        if self._service.problem is not None:
            raise HybridStitchError(self._service.problem)

    def __del__(self) -> None:
        """Called by Ray once the replica has answered what it had taken."""
        service = getattr(self, "_service", None)
        if service is not None:
            service.close()
