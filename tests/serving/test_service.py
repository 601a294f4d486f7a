"""A service draws what the pipeline draws, for any number of threads at once, and refuses what it cannot."""

from __future__ import annotations

import asyncio
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import pytest

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.serving import Cancelled, Closed, NotDrawn, QueueFull, ServiceOptions, TimedOut

from .conftest import PROMPTS, QUICK, wait_until

WANTED = [
    {"prompt": PROMPTS[0], "seed": 3, **QUICK},
    {"prompt": PROMPTS[1], "seed": 4, **QUICK, "negative_prompt": "a small red ring"},
    {"prompt": PROMPTS[2], "seed": 5, **QUICK, "size": "160x96"},
    {"prompt": PROMPTS[3], "seed": 6, **QUICK, "guidance": 1},
    {"prompt": PROMPTS[0], "seed": 7, **QUICK, "mask_ratio": 0.15, "score": "change"},
    {"prompt": PROMPTS[1], "seed": 8, "steps": 3, "method": "t-stitch"},
    {"prompt": PROMPTS[2], "seed": 9, "steps": 5, "adaptive": 0.2},
    {"prompt": PROMPTS[3], "seed": 10, **QUICK, "guidance": 7, "residual": "off"},
]


def alone(pipe, request) -> bytes:
    """The picture that a run gives of a request, by itself."""
    return pipe.run([request]).images[0].tobytes()


def test_requests_of_all_kinds_from_many_threads_are_drawn_as_a_run_draws_each_alone(service, pipe):
    with ThreadPoolExecutor(len(WANTED)) as threads:
        pictures = list(threads.map(lambda wanted: service.generate(service.resolve(**wanted)), WANTED))
    for wanted, picture in zip(WANTED, pictures, strict=True):
        assert picture.image.tobytes() == alone(pipe, pipe.requests.resolve(**wanted)), wanted
        assert (picture.prompt, picture.seed) == (wanted["prompt"], wanted["seed"])


def test_a_service_is_ready_once_it_has_drawn_and_says_what_memory_it_takes(service):
    assert service.ready
    assert service.problem is None
    assert service.memory.weights > 1e6
    assert (service.waiting, service.running) == (0, 0)


def test_requests_that_can_share_a_batch_do_and_are_the_same_pictures(serve, pipe, ask, hold, began):
    service, held = serve(max_batch=4, max_delay=60.0, observer=began), hold(step=1)
    first = service.submit(ask(0, guidance=1), on_update=held)  # alone in its kind: nobody joins it for a minute,
    others = [service.submit(ask(number)) for number in (1, 2)]
    assert service.waiting == 3
    for number in (1, 2, 3):
        others.append(service.submit(ask(number, guidance=1)))  # until these do
    assert held.reached.wait(60)
    assert (service.waiting, service.running) == (2, 4)
    others += [service.submit(ask(number)) for number in (3, 4)]
    held.go.set()
    pictures = [ticket.result() for ticket in (first, *others)]
    for ticket, picture in zip((first, *others), pictures, strict=True):
        assert picture.image.tobytes() == alone(pipe, ticket.request)
    assert began.sizes == [4, 4]


def test_a_cpu_draws_one_picture_at_a_time_unless_told_otherwise(serve, ask, hold, began):
    service, held = serve(observer=began), hold()
    tickets = [service.submit(ask(number), on_update=held) for number in (0, 1)]
    held.go.set()
    assert [ticket.result().seed for ticket in tickets] == [0, 1]
    assert began.sizes == [1, 1]


def test_a_queue_that_is_full_refuses_at_once(serve, ask, hold):
    service, held = serve(max_queue=2), hold()
    running = service.submit(ask(), on_update=held)
    assert held.reached.wait(60)
    tickets = [service.submit(ask(number)) for number in (1, 2)]
    with pytest.raises(QueueFull, match="the queue is full: 2 requests wait; try again later"):
        service.generate(ask(3))
    held.go.set()
    assert [ticket.result().seed for ticket in (running, *tickets)] == [0, 1, 2]


def test_a_deadline_ends_a_request_that_waits_while_another_is_drawn(serve, ask, hold):
    service, held = serve(), hold(step=1)
    running = service.submit(ask(), on_update=held)
    assert held.reached.wait(60)
    late = service.submit(ask(1), timeout=0.01)
    with pytest.raises(TimedOut, match=r"no picture yet after 0\.02 s of waiting; the request goes on"):
        late.result(timeout=0.02)
    held.go.set()
    with pytest.raises(TimedOut, match=r"no picture within 0\.01 s: its turn did not come"):
        late.result()
    assert running.result().seed == 0


def test_a_deadline_ends_a_request_that_waits_for_others_to_join_it(serve, ask):
    service = serve(max_batch=4, max_delay=60.0)
    with pytest.raises(TimedOut, match="its turn did not come"):
        service.generate(ask(), timeout=0.01)
    assert service.waiting == 0


def test_a_deadline_ends_a_request_between_two_steps(serve, ask):
    service, late, seen = serve(), threading.Event(), []

    def slow(update):
        seen.append(update.step)
        if update.step == 1:
            late.wait(0.5)

    with pytest.raises(TimedOut, match=r"no picture within 0\.5 s: stopped after step 1 of 4"):
        service.generate(ask(), timeout=0.5, on_update=slow)
    assert seen[-1] == 1
    assert service.generate(ask(1)).seed == 1


def test_cancelling_takes_a_request_out_of_the_queue_at_once(serve, ask, hold):
    service, held = serve(), hold()
    service.submit(ask(), on_update=held)
    assert held.reached.wait(60)
    ticket, told = service.submit(ask(1)), []
    ticket.add_done_callback(told.append)
    ticket.cancel()
    ticket.cancel()
    assert ticket.done
    assert told == [ticket]
    assert service.waiting == 0
    with pytest.raises(Cancelled, match="the request was cancelled"):
        ticket.result()


def test_cancelling_stops_a_request_between_two_steps_and_the_worker_goes_on(serve, ask, hold):
    service, held = serve(), hold(step=2)
    ticket = service.submit(ask(), on_update=held)
    assert held.reached.wait(60)
    ticket.cancel()
    assert not ticket.done
    held.go.set()
    with pytest.raises(Cancelled):
        ticket.result()
    assert [update.step for update in held.updates] == [0, 1, 2]
    assert service.generate(ask(1)).seed == 1
    assert service.ready


def test_those_of_a_batch_that_give_up_do_no_harm_to_the_others(serve, pipe, ask, hold):
    service, held = serve(max_batch=4, max_delay=60.0), hold(step=1)
    given_up = service.submit(ask(0), on_update=held)
    late = service.submit(ask(1), timeout=1.0)
    others = [service.submit(ask(number)) for number in (2, 3)]
    assert held.reached.wait(60)
    given_up.cancel()
    with pytest.raises(TimedOut):
        late.result(timeout=1.5)
    held.go.set()
    with pytest.raises(Cancelled):
        given_up.result()
    with pytest.raises(TimedOut, match="stopped after step 1 of 4"):
        late.result()
    for ticket in others:
        assert ticket.result().image.tobytes() == alone(pipe, ticket.request)


def test_a_request_is_told_its_stage_after_each_step_and_shown_previews_on_demand(serve, pipe, ask):
    service, updates = serve(), []
    picture = service.generate(ask(), on_update=updates.append, previews=3)
    stages = ["large", "large", "large", "hybrid", "small"]
    assert [(update.step, update.steps, update.stage) for update in updates] == [
        (step, 4, stage) for step, stage in enumerate(stages)
    ]
    assert [update.step for update in updates if update.preview is not None] == [1, 2, 3]
    assert updates[3].preview.size == picture.image.size
    assert picture.image.tobytes() == alone(pipe, ask())


def test_only_those_who_asked_for_a_preview_get_one_and_it_is_their_own(serve, ask):
    service, one, other = serve(max_batch=2, max_delay=60.0), [], []
    first = service.submit(ask(0), on_update=one.append)
    second = service.submit(ask(1), on_update=other.append, previews=1)
    first.result()
    assert not [update for update in one if update.preview is not None]
    (shown,) = [update for update in other if update.preview is not None]
    again = []
    service = second.result() and serve()
    service.generate(ask(1), on_update=again.append, previews=1)
    assert shown.preview.tobytes() == again[2].preview.tobytes()


@pytest.mark.parametrize("error", [KeyError("no"), SystemExit(3)])
def test_a_callback_that_raises_fails_its_own_request_alone(serve, pipe, ask, error):
    service = serve(max_batch=2, max_delay=60.0)

    def broken(update):
        if update.step == 2:
            raise error

    first, second = service.submit(ask(0), on_update=broken), service.submit(ask(1))
    with pytest.raises(NotDrawn, match=f"the request's on_update raised {type(error).__name__}: "):
        first.result()
    assert second.result().image.tobytes() == alone(pipe, ask(1))
    assert service.ready


def test_closing_draws_what_waits_and_refuses_what_comes(serve, ask, hold):
    service, held = serve(), hold()
    tickets = [service.submit(ask(0), on_update=held), service.submit(ask(1))]
    assert held.reached.wait(60)
    closing = threading.Thread(target=service.close)
    closing.start()
    wait_until(lambda: not service.ready)
    with pytest.raises(Closed, match="the service is closed: it takes no more requests"):
        service.submit(ask(2))
    held.go.set()
    closing.join(60)
    assert [ticket.result(0).seed for ticket in tickets] == [0, 1]
    service.close()
    assert service.problem == "the service is closed"


def test_closing_without_draining_finishes_only_what_runs(serve, ask, hold):
    service, held = serve(), hold()
    running, waiting = service.submit(ask(0), on_update=held), service.submit(ask(1))
    assert held.reached.wait(60)
    closing = threading.Thread(target=service.close, kwargs={"drain": False})
    closing.start()
    with pytest.raises(Closed, match="the service closed before the request's turn came"):
        waiting.result()
    held.go.set()
    closing.join(60)
    assert running.result(0).seed == 0


def test_a_service_can_be_closed_from_a_callback(serve, ask):
    service = serve()
    picture = service.generate(ask(), on_update=lambda update: service.close())
    assert picture.seed == 0
    with pytest.raises(Closed):
        service.generate(ask())


def test_the_async_twin_gives_the_same_picture_and_cancelling_its_task_cancels_the_request(serve, pipe, ask, hold):
    service, held = serve(), hold(step=1)

    async def both():
        first = asyncio.create_task(service.generate_async(ask(0), on_update=held))
        second = asyncio.create_task(service.generate_async(ask(1)))
        await asyncio.to_thread(held.reached.wait, 60)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        held.go.set()
        return await second

    assert asyncio.run(both()).image.tobytes() == alone(pipe, ask(1))
    assert held.updates[-1].step == 1


def test_memory_stays_flat_over_many_requests(serve, pipe):
    service, marks = serve(max_batch=2, max_delay=0.001), []
    tiny = {"steps": 1, "method": "small"}
    tracemalloc.start()
    try:
        for number in range(60):
            request = pipe.requests.resolve(PROMPTS[number % 4], seed=number, **tiny)
            service.generate(request, on_update=lambda update: None, previews=int(number % 10 == 0))
            if number in (20, 59):
                marks.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert marks[1] - marks[0] < 100_000


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_queue": 0}, "max_queue must be a whole number from 1 to 100000, not 0"),
        ({"max_batch": 65}, "max_batch must be a whole number from 1 to 64, not 65"),
        ({"max_delay": float("nan")}, "max_delay must be a number, not nan"),
    ],
)
def test_an_option_out_of_range_is_refused(options, words):
    with pytest.raises(HybridStitchError, match=words):
        ServiceOptions(**options)


def test_the_timeout_of_the_service_is_that_of_requests_which_name_none(serve, ask, hold):
    service, held = serve(timeout=0.2), hold(step=1)
    late, other = service.submit(ask(), on_update=held), service.submit(ask(1), timeout=600)
    assert held.reached.wait(60)
    time.sleep(0.2)
    held.go.set()
    with pytest.raises(TimedOut):
        late.result()
    assert other.result().seed == 1


def test_what_a_request_asks_for_is_refused_before_it_waits(serve, ask):
    service = serve()
    with pytest.raises(HybridStitchError, match="previews must be a whole number from 0 to 3, not 4"):
        service.submit(ask(), previews=4)
    with pytest.raises(HybridStitchError, match="timeout must be a number, not 'soon'"):
        service.submit(ask(), timeout="soon")
    with pytest.raises(HybridStitchError, match="the prompt is empty"):
        service.resolve("")
    assert service.waiting == 0
