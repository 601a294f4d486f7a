"""Which requests wait, and which of them are drawn next: a policy without threads or clocks."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from .errors import QueueFull
from .ticket import Ticket


@dataclass(frozen=True)
class Entry:
    """A ticket that waits. key: those of equal keys share a batch. sizes: the batches that it can be in, ascending."""

    ticket: Ticket
    key: Hashable
    sizes: Sequence[int]


@dataclass(frozen=True)
class Batch:
    """Tickets to be drawn now, in `images` rows: more than tickets only where the engines take no fewer."""

    tickets: list[Ticket]
    images: int


class Queue:
    """First come, first served: the oldest request is in the next batch, whatever else waits.

    It is joined by those of its kind, also by later ones; the others wait longer at most by what these add to that one
    batch. So no kind that is drawn often keeps another from its turn.

    Args:
        limit: requests that wait, at most. max_delay: seconds that the oldest waits for others of its kind.
    """

    def __init__(self, limit: int, max_delay: float) -> None:
        self._limit, self._max_delay = limit, max_delay
        self._entries: list[Entry] = []

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: Entry) -> None:
        """
        Raises:
            QueueFull: as it says.
        """
        if len(self._entries) >= self._limit:
            raise QueueFull(f"the queue is full: {len(self._entries)} requests wait; try again later")
        self._entries.append(entry)

    def discard(self, ticket: Ticket) -> bool:
        """Take a ticket out; whether it was there."""
        left = [entry for entry in self._entries if entry.ticket is not ticket]
        removed, self._entries = len(left) < len(self._entries), left
        return removed

    def clear(self) -> list[Ticket]:
        """Take all tickets out."""
        tickets, self._entries = self.tickets(), []
        return tickets

    def tickets(self) -> list[Ticket]:
        """All that wait, the oldest first."""
        return [entry.ticket for entry in self._entries]

    def take(self, now: float, *, hurry: bool = False) -> Batch | float | None:
        """The next batch, which is taken out; or the seconds until there may be one; None: nothing waits.

        Args:
            now: by the clock of `Ticket.arrived`. hurry: do not wait for others.
        """
        if not self._entries:
            return None
        first = self._entries[0]
        alike = [entry for entry in self._entries if entry.key == first.key]
        left = first.ticket.arrived + self._max_delay - now
        if len(alike) < first.sizes[-1] and left > 0 and not hurry:
            return left
        images = max((size for size in first.sizes if size <= len(alike)), default=first.sizes[0])
        chosen = alike[:images]
        self._entries = [entry for entry in self._entries if entry not in chosen]
        return Batch([entry.ticket for entry in chosen], images)
