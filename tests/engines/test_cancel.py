"""A long native call that Ctrl-C can end."""

from __future__ import annotations

import _thread
import threading

import pytest

from hybridstitch.engines.builders.interrupt import interruptible


def test_the_result_and_the_failure_of_the_work_come_through():
    assert interruptible(lambda: 7, cancel=pytest.fail) == 7
    with pytest.raises(ZeroDivisionError):
        interruptible(lambda: 1 // 0, cancel=pytest.fail)


def test_ctrl_c_cancels_the_work_waits_for_its_end_and_is_raised():
    cancelled, ended = threading.Event(), threading.Event()

    def work() -> None:
        _thread.interrupt_main()
        assert cancelled.wait(timeout=30)
        ended.set()

    with pytest.raises(KeyboardInterrupt):
        interruptible(work, cancelled.set)
    assert ended.is_set()
