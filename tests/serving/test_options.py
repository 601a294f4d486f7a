"""The options of a service, in the forms in which Python, files, flags and other languages give them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.serving.options import ServiceOptions, switch


@dataclass(frozen=True)
class Extended(ServiceOptions):
    loud: bool = switch(False, "whether it is loud")


def test_none_means_the_default():
    nothing: dict[str, Any] = dict.fromkeys(ServiceOptions.table())
    assert ServiceOptions(**nothing) == ServiceOptions()


def test_paths_become_texts_and_numbers_their_own_type():
    options = ServiceOptions.parsed({"engines": Path("a/b"), "max_delay": 1})
    assert (options.engines, options.max_delay) == ("a/b", 1.0)


def test_texts_give_back_the_options_they_were_written_from():
    options = Extended(engines="/e", threads=2, low_memory=False, max_delay=0.1, timeout=9.5, warm_up=False, loud=True)
    assert Extended.parsed(options.texts()) == options
    assert ServiceOptions().texts() == {}


def test_a_configuration_file_gives_values_and_texts_alike():
    assert ServiceOptions.parsed({"max_queue": 3, "warm_up": False}) == ServiceOptions.parsed(
        {"max_queue": "3", "warm_up": "false"}
    )


def test_other_values_are_left_alone_among_which_options_are():
    assert ServiceOptions.among({"max_queue": 3, "prompt": "a star"}) == ServiceOptions(max_queue=3)


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ({"max_queue": "many"}, "max_queue must be a whole number from 1 to 100000, not 'many'"),
        ({"max_queue": True}, "max_queue must be a whole number from 1 to 100000, not True"),
        ({"max_delay": "nan"}, "max_delay must be a number, not nan"),
        ({"max_delay": "-1"}, "max_delay must be at least 0 seconds, not -1"),
        ({"timeout": "0"}, "timeout must be at least 0.001 seconds, not 0"),
        ({"warm_up": "perhaps"}, "warm_up must be true or false, not 'perhaps'"),
        ({"pair": ""}, "pair must be a text, not ''"),
        ({"engines": 3}, "engines must be a text, not 3"),
        ({"que": "1"}, "unknown option 'que'; known: pair, engines, backend"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(texts, words):
    with pytest.raises(HybridStitchError) as refused:
        ServiceOptions.parsed(texts)
    assert str(refused.value).startswith(words)
