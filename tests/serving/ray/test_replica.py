"""A replica by itself, whose device is lost: no Ray is needed for that."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap

import pytest
from service_double import Double

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.pairs.recipe import Recipe
from hybridstitch.serving.errors import Closed
from hybridstitch.serving.process_exit import LOST_EXIT_CODE
from hybridstitch.serving.ray.options import ApplicationOptions
from hybridstitch.serving.ray.replica import Replica
from hybridstitch.serving.service import Service

WHY = "cuda:0 is lost: CUDA error: an illegal memory access was encountered"


@pytest.fixture
def double(monkeypatch) -> Double:
    double = Double(Recipe.load("demo"))
    monkeypatch.setattr(Service, "open", lambda *_, **__: double)
    return double


def test_a_replica_gives_its_requests_back_as_closed_and_fails_ray_s_health_check(double):
    def step(_number: int) -> None:
        double.lost = double.problem = WHY
        raise Closed(f"the request was not drawn: {WHY}")

    async def draw() -> list:
        return [news async for news in replica.draw(double.resolve("a star"), None, 0)]

    replica = Replica(ApplicationOptions())
    replica.check_health()
    double.step = step
    news = asyncio.run(draw())
    assert [type(each) for each in news] == [Closed]  # which the handle sends to another replica
    with pytest.raises(HybridStitchError, match="cuda:0 is lost"):
        replica.check_health()


def test_the_process_of_a_replica_that_is_lost_ends_so_that_ray_starts_another():
    program = textwrap.dedent("""
        from hybridstitch.serving.ray.options import ApplicationOptions
        from hybridstitch.serving.ray.replica import Replica
        from hybridstitch.serving.service import Service

        hooks = []
        Service.open = lambda *_, on_lost, **__: hooks.append(on_lost)
        Replica(ApplicationOptions())
        hooks[0]("the device is lost")
    """)
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == LOST_EXIT_CODE
