"""What a service tells whoever counts: hooks that do nothing unless they are overridden."""

from __future__ import annotations

from hybridstitch.runtime.request import Request


class Observer:
    """Override what you count; all of it from any thread, and quickly: a service waits for each call.

    What a hook raises is logged and changes nothing.
    """

    def queued(self, request: Request) -> None:
        """A request was taken."""

    def refused(self, kind: str) -> None:
        """A request was not taken. kind: of the error."""

    def began(self, batch_size: int) -> None:
        """A batch of so many requests is being drawn."""

    def stage(self, name: str, seconds: float) -> None:
        """A batch spent so long in a stage: text, large, hybrid, small, preview or decode."""

    def finished(self, request: Request, seconds: float) -> None:
        """A request became a picture, so long after it was taken."""

    def failed(self, request: Request, kind: str) -> None:
        """A request that was taken became no picture. kind: of the error."""
