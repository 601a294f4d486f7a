"""The thread that draws, over a made-up pipeline with a fault in one place: everybody has one answer."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from service_double import Double

from hybridstitch.pairs.recipe import Recipe
from hybridstitch.runtime.result import Failure
from hybridstitch.serving import worker as module
from hybridstitch.serving.errors import Closed, NotDrawn, ServingError
from hybridstitch.serving.observer import Observer
from hybridstitch.serving.queue import Entry, Queue
from hybridstitch.serving.ticket import Ticket
from hybridstitch.serving.worker import Worker

from .conftest import wait_until

PLAIN, EXIT = RuntimeError("a bug"), SystemExit("a bug")
LOST = torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
WHY = "cpu is lost: CUDA error: an illegal memory access was encountered"


class Faulty:
    """A pipeline and its drawing. faults: what is raised, by the place; `hold` stops it before its first step."""

    device = torch.device("cpu")
    recipe = SimpleNamespace(defaults=SimpleNamespace(size="128x128"))

    def __init__(self) -> None:
        self.faults: dict[str, BaseException] = {}
        self.held, self.go = threading.Event(), threading.Event()
        self.closed = 0
        self.outcome = "a picture"

    def meet(self, place: str) -> None:
        if place in self.faults:
            raise self.faults[place]

    @contextmanager
    def drawing(self, requests, watch):
        self.held.set()
        assert self.go.wait(20)
        self.meet("drawing")
        yield _Drawing(self, requests)

    def close(self) -> None:
        self.closed += 1
        self.meet("close")


class _Drawing:
    def __init__(self, pipe: Faulty, batch) -> None:
        self.pipe, self.batch = pipe, batch

    def __iter__(self):
        self.pipe.meet("step")
        yield SimpleNamespace(index=0, stage="small")

    def finish(self):
        self.pipe.meet("decode")
        return [self.pipe.outcome] * len(self.batch)


class Observing(Observer):
    """Meets the faults of its hooks."""

    def __init__(self, pipe: Faulty) -> None:
        self.pipe = pipe

    def began(self, batch_size):
        self.pipe.meet("began")

    def stage(self, name, seconds):
        self.pipe.meet("stage")

    def finished(self, request, seconds):
        self.pipe.meet("finished")

    def failed(self, request, kind):
        self.pipe.meet("failed")


class World:
    """A worker whose batches are of two; settled: how often each ticket was given an answer, by seed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pipe, self.told = Faulty(), []
        self.double = Double(Recipe.load("demo"))
        self.settled: dict[int, int] = {}
        self._patch(monkeypatch)
        pipe: Any = self.pipe
        self.worker = Worker(pipe, Queue(16, 0.0), Observing(self.pipe), self.told.append)

    def _patch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        pipe, settle, sweep = self.pipe, Ticket.settle, Worker._sweep

        class Watch:
            def __init__(self, _device) -> None:
                pipe.meet("stopwatch")

            def finish(self):
                pipe.meet("times")
                return SimpleNamespace(stages={"small": SimpleNamespace(seconds=1.0)})

        class Running(module.RunningBatch):
            def __init__(self, *arguments) -> None:
                pipe.meet("batch")
                super().__init__(*arguments)

        def meet_sweep(worker) -> None:
            if threading.current_thread().name == "hybridstitch":
                pipe.meet("sweep")
            sweep(worker)

        def count(ticket, outcome) -> None:
            self.settled[ticket.request.seed] = self.settled.get(ticket.request.seed, 0) + 1
            settle(ticket, outcome)

        def check(_pipe, _size) -> None:
            pipe.meet("check")

        monkeypatch.setattr(module, "Stopwatch", Watch)
        monkeypatch.setattr(module, "RunningBatch", Running)
        monkeypatch.setattr(module, "draw_a_little", check)
        monkeypatch.setattr(module, "RECHECK", 0.01)
        monkeypatch.setattr(Worker, "_sweep", meet_sweep)
        monkeypatch.setattr(Ticket, "settle", count)

    def submit(self, seed: int, **options) -> Ticket:
        ticket = Ticket(self.double.resolve("a star", seed=seed), withdraw=self.worker.withdraw, **options)
        self.worker.submit(Entry(ticket, "alike", (1, 2)))
        return ticket

    def submit_five(self) -> list[Ticket]:
        """One that is being drawn, and two batches that wait."""
        tickets = [self.submit(0)]
        assert self.pipe.held.wait(20)
        return tickets + [self.submit(seed) for seed in range(1, 5)]

    def answer(self, ticket: Ticket):
        try:
            return ticket.result(20)
        except ServingError as error:
            return error

    @property
    def thread(self) -> threading.Thread:
        return self.worker._thread


@pytest.fixture
def world(monkeypatch):
    world = World(monkeypatch)
    yield world
    world.pipe.go.set()
    world.pipe.faults.clear()
    world.worker.close(drain=False)


IN_A_BATCH = ["batch", "stopwatch", "drawing", "step", "decode"]
HOOKS = ["began", "stage", "finished", "failed"]


@pytest.mark.parametrize("error", [PLAIN, EXIT], ids=["error", "exit"])
@pytest.mark.parametrize("place", IN_A_BATCH)
def test_what_is_raised_in_a_batch_fails_it_and_the_next_is_drawn(world, place, error):
    first = world.submit(0)
    assert world.pipe.held.wait(20)
    world.pipe.faults[place] = error
    late = [world.submit(seed) for seed in (1, 2)]
    world.pipe.go.set()
    for ticket in late:
        answer = world.answer(ticket)
        assert isinstance(answer, NotDrawn)
        assert str(answer) == "the engines failed: a bug"
    assert (world.answer(first) == "a picture") is (place in ("batch", "stopwatch"))  # it was past these
    world.pipe.faults.clear()
    assert world.answer(world.submit(3)) == "a picture"
    assert world.worker.problem is None
    assert world.told == []
    assert set(world.settled.values()) == {1}


@pytest.mark.parametrize("error", [PLAIN, EXIT, LOST], ids=["error", "exit", "lost"])
@pytest.mark.parametrize("place", HOOKS)
def test_what_an_observer_raises_changes_nothing(world, place, error, caplog):
    world.pipe.faults[place] = error
    world.pipe.go.set()
    if place == "failed":
        world.pipe.outcome = Failure(world.double.resolve("a star"), "NaN")
        assert str(world.answer(world.submit(0))) == "NaN"
    else:
        assert world.answer(world.submit(0)) == "a picture"
    wait_until(lambda: f"the observer's {place} failed" in caplog.text)
    world.pipe.outcome = "a picture"
    assert world.answer(world.submit(1)) == "a picture"
    assert world.worker.problem is None


@pytest.mark.parametrize("error", [PLAIN, EXIT], ids=["error", "exit"])
def test_times_that_cannot_be_read_cost_no_picture(world, error, caplog):
    world.pipe.faults["times"] = error
    tickets = world.submit_five()
    world.pipe.go.set()
    assert [world.answer(ticket) for ticket in tickets] == ["a picture"] * 5
    wait_until(lambda: "a batch's times cannot be read" in caplog.text)
    assert world.worker.problem is None


@pytest.mark.parametrize("place", [*IN_A_BATCH, "times"])
def test_a_lost_device_answers_everybody_once_and_then_tells_it(world, place, caplog):
    answered_before = []
    world.worker._on_lost = lambda why: (
        answered_before.append(all(ticket.done for ticket in tickets)),
        world.told.append(why),
    )
    tickets = world.submit_five()
    world.pipe.faults[place] = LOST
    world.pipe.go.set()
    wait_until(lambda: world.told)
    answers = [world.answer(ticket) for ticket in tickets]
    for answer in answers[1:]:
        assert isinstance(answer, Closed)
        assert str(answer) == f"the request was not drawn: {WHY}"
    world.thread.join(20)
    assert (world.told, answered_before) == ([WHY], [True])
    assert set(world.settled.values()) == {1}
    assert len(world.settled) == len(tickets)
    assert (world.worker.lost, world.worker.problem) == (WHY, WHY)
    assert (world.worker.running, world.worker.waiting, world.pipe.closed) == (0, 0, 1)
    assert f"no more pictures: {WHY}" in caplog.text
    with pytest.raises(Closed, match="an illegal memory access"):
        world.submit(9)


def test_a_device_that_is_found_lost_by_a_self_check_is_told(world):
    world.pipe.outcome = Failure(world.double.resolve("a star"), "NaN")
    world.pipe.faults["check"] = LOST
    world.pipe.go.set()
    for seed in range(3):
        assert str(world.answer(world.submit(seed))) == "NaN"
    wait_until(lambda: world.told == [WHY])
    assert world.worker.problem == WHY


@pytest.mark.parametrize("error", [PLAIN, EXIT], ids=["error", "exit"])
def test_a_self_check_that_goes_wrong_in_another_way_is_made_again(world, error):
    world.pipe.outcome = Failure(world.double.resolve("a star"), "NaN")
    world.pipe.faults["check"] = error
    world.pipe.go.set()
    for seed in range(3):
        assert str(world.answer(world.submit(seed))) == "NaN"
    wait_until(lambda: "a bug" in (world.worker.problem or ""))
    world.pipe.faults.clear()
    wait_until(lambda: world.worker.problem is None)
    assert world.told == []


@pytest.mark.parametrize("error", [PLAIN, EXIT], ids=["error", "exit"])
def test_a_thread_that_fails_elsewhere_answers_everybody_once_and_tells_it(world, error, caplog):
    tickets = world.submit_five()
    world.pipe.faults["sweep"] = error
    world.pipe.go.set()
    answers = [world.answer(ticket) for ticket in tickets]
    why = "the thread that draws failed: a bug"
    assert isinstance(answers[0], NotDrawn)  # the sweep between its steps was its own failure
    assert [str(answer) for answer in answers[1:]] == [f"the request was not drawn: {why}"] * 4
    wait_until(lambda: world.told == [why])
    world.thread.join(20)
    assert set(world.settled.values()) == {1}
    assert (world.worker.lost, world.pipe.closed) == (why, 1)
    assert "the thread that draws failed" in caplog.text


@pytest.mark.parametrize("error", [PLAIN, EXIT, LOST], ids=["error", "exit", "lost"])
def test_engines_that_cannot_be_closed_are_logged_and_closing_ends(world, error, caplog):
    world.pipe.faults["close"] = error
    world.pipe.go.set()
    ticket = world.submit(0)
    world.worker.close(drain=True)
    assert world.answer(ticket) == "a picture"
    assert world.worker.problem == "the service is closed"
    assert world.told == []
    assert "the engines were not closed" in caplog.text


def test_a_hook_that_raises_is_logged_and_the_engines_are_closed(world, caplog):
    def raise_it(_why) -> None:
        raise EXIT

    world.worker._on_lost = raise_it
    world.pipe.faults["decode"] = LOST
    world.pipe.go.set()
    assert isinstance(world.answer(world.submit(0)), Closed)
    world.thread.join(20)
    assert "the service's on_lost failed" in caplog.text
    assert world.pipe.closed == 1


def test_without_a_hook_a_lost_device_is_told_and_the_process_goes_on(world, caplog):
    world.worker._on_lost = None
    world.pipe.faults["decode"] = LOST
    world.pipe.go.set()
    assert isinstance(world.answer(world.submit(0)), Closed)
    world.thread.join(20)
    assert world.worker.lost == WHY
    assert WHY in caplog.text


def test_a_callback_of_a_ticket_that_raises_ends_nothing_and_the_next_callback_is_called(world, caplog):
    def raise_it(_ticket) -> None:
        raise EXIT

    ticket, called = world.submit(0), threading.Event()
    ticket.add_done_callback(raise_it)
    ticket.add_done_callback(lambda _ticket: called.set())
    world.pipe.go.set()
    assert called.wait(20)
    assert world.answer(world.submit(1)) == "a picture"
    assert "a ticket's callback failed" in caplog.text
