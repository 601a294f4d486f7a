"""The handle that outlives replicas, on replicas that are made up: each answers, dies or hangs as a test says."""

import asyncio
import threading
from typing import Any

import pytest

pytest.importorskip("ray")

from ray.exceptions import RayActorError

from hybridstitch.serving import Cancelled, Closed, NotDrawn, QueueFull, TimedOut, Update
from hybridstitch.serving.ray.handle import RayService
from hybridstitch.serving.ray.options import ApplicationOptions

STEP = Update(0, 4, "large")


class Stream:
    """One replica's answer: items are given, exceptions raised, and an event is waited for."""

    def __init__(self, items):
        self._items, self.cancelled = iter(items), False

    def __aiter__(self):
        return self

    async def __anext__(self):
        item = next(self._items, None)
        if item is None:
            raise StopAsyncIteration
        if isinstance(item, threading.Event):
            while not item.is_set():
                await asyncio.sleep(0.005)
            return await self.__anext__()
        if isinstance(item, BaseException) and not isinstance(item, NotDrawn | Closed | TimedOut):
            raise item
        return item

    def cancel(self):
        self.cancelled = True


class Replicas:
    """A deployment's handle; each request that is sent takes the next of the answers."""

    def __init__(self, *answers):
        self._answers, self.sent, self.streams = iter(answers), [], []
        self.draw = self

    def options(self, **_options):
        return self

    def remote(self, request, timeout, previews):
        self.sent.append((request, timeout, previews))
        self.streams.append(Stream(next(self._answers)))
        return self.streams[-1]


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr("hybridstitch.serving.ray.handle.PAUSE", 0)


def test_a_request_whose_replica_died_is_sent_again_as_it_was(pipe, ask):
    replicas = Replicas([STEP, Update(1, 4, "large"), RayActorError()], [STEP, Update(1, 4, "large"), "picture"])
    request, told = ask(), []
    ticket = RayService(replicas, pipe.requests).submit(request, on_update=told.append, previews=2)
    assert ticket.result(10) == "picture"
    assert [(sent, previews) for sent, _, previews in replicas.sent] == [(request, 2)] * 2
    assert [update.step for update in told] == [0, 1]  # nothing is told twice


def test_a_replica_that_is_closing_is_left_for_another(pipe, ask):
    replicas = Replicas([Closed("it is closing")], ["picture"])
    assert RayService(replicas, pipe.requests).submit(ask()).result(10) == "picture"


def test_a_picture_that_went_wrong_is_not_tried_again(pipe, ask):
    replicas = Replicas([NotDrawn("its numbers")], ["picture"])
    with pytest.raises(NotDrawn, match="its numbers"):
        RayService(replicas, pipe.requests).submit(ask()).result(10)
    assert len(replicas.sent) == 1


def test_a_request_that_kills_every_replica_is_given_up(pipe, ask):
    replicas = Replicas(*([RayActorError()] for _ in range(3)))
    with pytest.raises(NotDrawn, match="3 replicas in a row died while they drew it"):
        RayService(replicas, pipe.requests, ApplicationOptions(retries=2)).submit(ask()).result(10)


def test_an_error_of_rays_that_nobody_foresaw_is_an_answer_too(pipe, ask):
    with pytest.raises(NotDrawn, match="no replica could be asked: ValueError: what is this"):
        RayService(Replicas([ValueError("what\nis this")]), pipe.requests).submit(ask()).result(10)


def test_more_than_may_wait_are_refused_and_those_that_are_drawn_do_not_count(pipe, ask):
    go = threading.Event()
    service = RayService(Replicas([STEP, go, "first"], [go, "second"]), pipe.requests, ApplicationOptions(max_queue=1))
    began = threading.Event()
    first = service.submit(ask(), on_update=lambda _update: began.set())
    assert began.wait(10)
    second = service.submit(ask(1))
    assert (service.running, service.waiting) == (1, 1)
    with pytest.raises(QueueFull, match="the queue is full: 1 requests wait"):
        service.submit(ask(2))
    go.set()
    assert (first.result(10), second.result(10)) == ("first", "second")
    assert (service.running, service.waiting) == (0, 0)


def test_a_cancelled_request_is_answered_and_its_replica_told(pipe, ask):
    replicas = Replicas([STEP, threading.Event()])
    began = threading.Event()
    ticket = RayService(replicas, pipe.requests).submit(ask(), on_update=lambda _update: began.set())
    assert began.wait(10)
    ticket.cancel()
    with pytest.raises(Cancelled):
        ticket.result(10)
    assert replicas.streams[0].cancelled


def test_a_request_that_is_cancelled_at_once_is_answered_too(pipe, ask):
    service = RayService(
        Replicas(*([threading.Event()] for _ in range(50))), pipe.requests, ApplicationOptions(max_queue=99)
    )
    for number in range(50):
        ticket = service.submit(ask(number))
        ticket.cancel()
        with pytest.raises(Cancelled):
            ticket.result(10)


def test_a_requests_time_holds_while_no_replica_has_begun_it(pipe, ask):
    ticket = RayService(Replicas([threading.Event()]), pipe.requests).submit(ask(), timeout=0.05)
    with pytest.raises(TimedOut, match=r"no picture within 0\.05 s: its turn did not come"):
        ticket.result(10)


def test_closing_answers_what_was_taken_and_takes_no_more(pipe, ask):
    service = RayService(Replicas([STEP, "picture"]), pipe.requests)
    ticket = service.submit(ask())
    service.close()
    assert ticket.result(0) == "picture"
    assert service.problem == "the service is closed"
    with pytest.raises(Closed):
        service.submit(ask())


def test_an_observer_that_raises_costs_nobody_an_answer(pipe, ask):
    class Broken:
        def queued(self, _request):
            raise RuntimeError("the log is full")

        finished = failed = queued

    replicas = Replicas(["picture"], [NotDrawn("its numbers")])
    service = RayService(replicas, pipe.requests)
    broken: Any = Broken()
    service.observer = broken
    assert service.submit(ask()).result(10) == "picture"
    with pytest.raises(NotDrawn):
        service.submit(ask()).result(10)


@pytest.mark.parametrize(("named", "most"), [(None, 5.0), (900.0, 900.0)])
def test_the_timeout_of_the_application_is_that_of_requests_which_name_none(pipe, ask, named, most):
    replicas = Replicas(["first"])
    service = RayService(replicas, pipe.requests, ApplicationOptions(timeout=5.0))
    assert service.submit(ask(), timeout=named).result(10) == "first"
    ((_, left, _),) = replicas.sent
    assert most - 1 < left <= most
