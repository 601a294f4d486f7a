"""What goes wrong with one request, or with the engines, does no harm to others."""

from __future__ import annotations

import pytest
import torch

from hybridstitch.serving import Closed, NotDrawn, Observer

from .conftest import wait_until


def test_an_image_that_goes_wrong_fails_alone(serve, pipe, ask, tampered):
    expected = [pipe.run([ask(number)]).images[0].tobytes() for number in (0, 2)]

    def after(inputs, outputs):
        outputs["velocity"][1, 0, 0] = float("nan")

    tampered("small", after)
    service = serve(max_batch=4, max_delay=60.0)
    tickets = [service.submit(ask(number)) for number in (0, 1, 2, 3)]
    with pytest.raises(NotDrawn, match=r"small, step \d, gave NaN or infinity: the engine overflows"):
        tickets[1].result()
    assert [tickets[place].result().image.tobytes() for place in (0, 2)] == expected
    assert service.ready


def test_engines_that_fail_fail_that_batch_and_several_failures_make_the_service_unready_until_it_draws_again(
    serve, ask, tampered, monkeypatch, caplog
):
    monkeypatch.setattr("hybridstitch.serving.worker.RECHECK", 0.01)
    broken = [True]

    def after(inputs, outputs):
        if broken[0]:
            raise RuntimeError("CUDA error:\ninvalid argument")

    tampered("large", after)
    service = serve()
    for failures in range(3):
        assert service.ready, failures
        with pytest.raises(NotDrawn, match="the engines failed: CUDA error: invalid argument"):
            service.generate(ask(failures))
        assert "a batch of 1 failed" in caplog.text
    wait_until(lambda: not service.ready)
    assert "no picture in" in service.problem
    assert "invalid argument" in service.problem
    broken[0] = False
    wait_until(lambda: service.ready)
    assert service.generate(ask(0)).seed == 0


def test_a_device_that_is_lost_ends_what_runs_and_what_waits_and_its_service_says_so(serve, ask, tampered, hold):
    def after(inputs, outputs):
        raise torch.AcceleratorError("CUDA error: unspecified launch failure")

    tampered("large", after)
    told, held = [], hold()
    service = serve(on_lost=told.append)
    tickets = [service.submit(ask(0), on_update=held)]
    assert held.reached.wait(60)
    tickets += [service.submit(ask(number)) for number in (1, 2)]
    held.go.set()
    for ticket in tickets:
        with pytest.raises(Closed, match="not drawn: cpu is lost: CUDA error: unspecified launch failure"):
            ticket.result(60)
    wait_until(lambda: told)
    assert told == [service.problem] == [service.lost]
    assert not service.ready


def test_a_service_that_is_not_ready_is_ready_again_with_the_first_picture(serve, ask, tampered):
    broken = [True]

    def after(inputs, outputs):
        if broken[0]:
            outputs["velocity"].zero_()

    tampered("large", after)
    service = serve()
    for _ in range(3):
        with pytest.raises(NotDrawn, match="large, step 1, gave only zeros"):
            service.generate(ask())
    wait_until(lambda: not service.ready)
    broken[0] = False
    assert service.generate(ask(1)).seed == 1
    wait_until(lambda: service.ready)


def test_too_little_memory_for_a_batch_fails_it_in_one_line(serve, ask, monkeypatch):
    service = serve()

    def full(*_, **__):
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr("hybridstitch.runtime.drawing.Sampler", full)
        with pytest.raises(NotDrawn, match="not enough memory on cpu for 1 pictures of 128x128: draw fewer"):
            service.generate(ask())
    assert service.generate(ask(1)).seed == 1


class Diary(Observer):
    """Writes down what it is told, and then raises."""

    def __init__(self) -> None:
        self.told: list[tuple] = []

    def queued(self, request):
        self.told.append(("queued", request.seed))
        raise RuntimeError("the diary is full")

    def refused(self, kind):
        self.told.append(("refused", kind))

    def stage(self, name, seconds):
        self.told.append(("stage", name, seconds >= 0))

    def finished(self, request, seconds):
        self.told.append(("finished", request.seed, seconds > 0))

    def failed(self, request, kind):
        self.told.append(("failed", request.seed, kind))


def test_an_observer_is_told_all_and_cannot_do_harm(serve, ask, caplog):
    diary = Diary()
    service = serve(observer=diary)
    service.generate(ask(0))
    with pytest.raises(NotDrawn):
        service.generate(ask(1), on_update=lambda update: 1 / 0)
    service.close()
    with pytest.raises(ValueError, match="closed"):
        service.generate(ask(2))
    assert "the observer's queued failed" in caplog.text
    stages = {entry[1] for entry in diary.told if entry[0] == "stage"}
    assert stages == {"text", "large", "hybrid", "small", "decode"}
    rest = [entry for entry in diary.told if entry[0] != "stage"]
    assert set(rest) == {
        ("queued", 0),
        ("finished", 0, True),
        ("queued", 1),
        ("failed", 1, "not_drawn"),
        ("refused", "closed"),
    }
