"""Which requests are drawn next: the policy by itself, without threads, clocks or engines."""

from __future__ import annotations

import pytest

from hybridstitch.method.parameters import SamplingParameters
from hybridstitch.method.schedule import Schedule
from hybridstitch.method.size import Size
from hybridstitch.runtime.request import Request
from hybridstitch.serving import QueueFull, Ticket
from hybridstitch.serving.queue import Batch, Entry, Queue

REQUEST = Request("a star", "", 0, Size(128, 128), SamplingParameters("large", Schedule(4, 4, 4), guidance=1.0))


def waiting(*keys: str, sizes=(1, 2, 4), limit=16, max_delay=1.0) -> tuple[Queue, list[Ticket]]:
    """A queue of tickets of these kinds, which arrived at 0, 0.1, 0.2, ... seconds."""
    queue, tickets = Queue(limit, max_delay), []
    for place, key in enumerate(keys):
        ticket = Ticket(REQUEST)
        ticket.arrived = place / 10
        queue.add(Entry(ticket, key, sizes))
        tickets.append(ticket)
    return queue, tickets


def places(batch: Batch | float | None, tickets: list[Ticket]) -> list[int]:
    assert isinstance(batch, Batch), batch
    return [tickets.index(ticket) for ticket in batch.tickets]


def test_the_oldest_is_drawn_with_others_of_its_kind_and_the_rest_stay_in_order():
    queue, tickets = waiting("a", "b", "a", "b", "a")
    assert places(queue.take(now=2), tickets) == [0, 2]
    assert places(queue.take(now=2), tickets) == [1, 3]
    assert places(queue.take(now=2), tickets) == [4]
    assert queue.take(now=2) is None


def test_a_batch_that_is_full_does_not_wait():
    queue, tickets = waiting("a", "a", "a", "a", "a")
    assert places(queue.take(now=0.5), tickets) == [0, 1, 2, 3]
    assert queue.take(now=0.5) == pytest.approx(0.9)  # the fifth came at 0.4 and waits a second for others


def test_the_oldest_waits_for_others_no_longer_than_the_delay_or_when_there_is_no_time():
    queue, tickets = waiting("a", "b")
    assert queue.take(now=0.4) == pytest.approx(0.6)
    assert places(queue.take(now=1.0), tickets) == [0]
    assert places(queue.take(now=1.0, hurry=True), tickets) == [1]


def test_a_request_that_can_share_with_nobody_does_not_wait():
    queue, tickets = waiting("a", sizes=(1,))
    assert places(queue.take(now=0), tickets) == [0]


def test_a_kind_that_comes_all_the_time_keeps_no_other_from_its_turn():
    queue, tickets = waiting("a", "a", "rare", *["a"] * 6)
    turns = 0
    while 2 not in (chosen := places(queue.take(now=9), tickets)):
        turns += 1
        for _ in chosen:  # as many again of the frequent kind
            tickets.append(Ticket(REQUEST))
            queue.add(Entry(tickets[-1], "a", (1, 2, 4)))
    assert turns == 1


def test_a_batch_is_filled_up_only_where_the_engines_take_no_fewer():
    queue, _ = waiting("a", "a", sizes=(4,))
    batch = queue.take(now=9)
    assert isinstance(batch, Batch)
    assert (len(batch.tickets), batch.images) == (2, 4)


def test_a_full_queue_refuses_and_one_that_was_taken_out_makes_room():
    queue, tickets = waiting("a", "b", limit=2)
    with pytest.raises(QueueFull, match="the queue is full: 2 requests wait; try again later"):
        queue.add(Entry(Ticket(REQUEST), "a", (1,)))
    assert queue.discard(tickets[0])
    assert not queue.discard(tickets[0])
    queue.add(Entry(Ticket(REQUEST), "a", (1,)))
    assert len(queue.clear()) == 2
    assert len(queue) == 0
