"""The server's end, where it does not come by a signal."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.pairs.recipe import Recipe
from hybridstitch.serving.http.listening import listen
from hybridstitch.serving.http.server import serve
from hybridstitch.serving.http.server_state import ServerState

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("error", [HybridStitchError("the large engine is not built"), RuntimeError("a bug")])
def test_a_service_that_cannot_be_loaded_ends_it_with_what_was_wrong(error):
    def load(_on_lost):
        raise error

    with pytest.raises(type(error), match=str(error)):
        serve(ServerState(Recipe.load("demo"), "0.1.0"), load, listen("127.0.0.1", 0))


def test_an_address_of_ipv6_is_taken_too():
    try:
        listening = listen("::1", 0)
    except HybridStitchError as error:
        pytest.skip(str(error))
    with listening:
        assert listening.getsockname()[0] == "::1"


def test_what_loading_made_is_out_of_the_garbage_collector_s_sight():
    program = textwrap.dedent("""
        import gc, os, threading, time
        from hybridstitch.pairs.recipe import Recipe
        from hybridstitch.serving.http.server_state import ServerState
        from hybridstitch.serving.http.listening import listen
        from hybridstitch.serving.http.server import serve
        from tests.service_double import Double

        front = ServerState(Recipe.load("demo"), "0.1.0")

        def watch():
            while front.service is None:
                time.sleep(0.01)
            print(gc.get_freeze_count(), len(gc.get_objects()), flush=True)
            os._exit(0)

        threading.Thread(target=watch).start()
        serve(front, lambda _on_lost: Double(front.recipe), listen("127.0.0.1", 0))
    """)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    frozen, watched = map(int, done.stdout.split())
    assert frozen > 50_000
    assert watched < 5_000
