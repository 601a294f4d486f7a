"""The server's end, where it does not come by a signal."""

import pytest

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.pairs.recipe import Recipe
from hybridstitch.runtime.serving.http.front import Front
from hybridstitch.runtime.serving.http.listening import listen
from hybridstitch.runtime.serving.http.server import serve


@pytest.mark.parametrize("error", [HybridStitchError("the large engine is not built"), RuntimeError("a bug")])
def test_a_service_that_cannot_be_loaded_ends_it_with_what_was_wrong(error):
    def load():
        raise error

    with pytest.raises(type(error), match=str(error)):
        serve(Front(Recipe.load("demo"), "onnxruntime", "0.1.0"), load, listen("127.0.0.1", 0))


def test_an_address_of_ipv6_is_taken_too():
    try:
        listening = listen("::1", 0)
    except HybridStitchError as error:
        pytest.skip(str(error))
    with listening:
        assert listening.getsockname()[0] == "::1"
