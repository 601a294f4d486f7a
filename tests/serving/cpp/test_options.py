"""The options of a C++ program, as Python's service gets them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from hybridstitch.serving.options import ServiceOptions

from .conftest import LOADER, ROOT, environment_with

HEADER = ROOT / "serving" / "cpp" / "include" / "hybridstitch" / "runtime.hpp"
ALL = {
    "pair": "demo",
    "engines": "/engines",
    "backend": "torch",
    "device": "cuda:1",
    "threads": "3",
    "low_memory": "True",
    "schedule": "fast.json",
    "warm_up": "False",
    "max_queue": "1000",
    "max_batch": "4",
    "max_delay": "1234.5678",
}
"""A value of each, which is not the default but for the pair."""


WRONG = [
    ("threads", "0", "threads must be a whole number from 1 to 1024, not 0"),
    ("max_queue", "100001", "max_queue must be a whole number from 1 to 100000, not 100001"),
    ("max_batch", "65", "max_batch must be a whole number from 1 to 64, not 65"),
    ("max_delay", "-0.5", "max_delay must be at least 0 seconds, not -0.5"),
    ("max_delay", "nan", "max_delay must be a number, not nan"),
    ("engines", "\udcff", "engines is not UTF-8 text"),
]
ASKED = [ALL, {}, {"low_memory": "False"}, *({name: value} for name, value, _ in WRONG)]


@pytest.fixture(scope="module")
def telling(tmp_path_factory) -> Path:
    """An environment whose service loads nothing, and tells the options it was given."""
    return environment_with("told_options", tmp_path_factory.mktemp("telling"))


def run(programs: Path, venv: Path, locale: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The program, once with everything that these tests ask."""
    sets = ["\n".join(f"{name}={value}" for name, value in options.items()) for options in ASKED]
    words = [str(programs / "options"), str(venv), locale, *sets]
    return subprocess.run(words, env=os.environ | LOADER | environment, capture_output=True, text=True, check=True)


@pytest.fixture(scope="module")
def said(programs, telling) -> list[str]:
    """What the program says to each set of options."""
    done = run(programs, telling, "")
    assert done.stderr == ""
    return done.stdout.splitlines()


def told(line: str) -> tuple[int, dict[str, str]]:
    """`Service::max_queue`, and the options that Python has, but for those at their default."""
    queue, _, options = line.partition(" ")
    return int(queue), json.loads(options)


def test_every_option_that_is_set_reaches_the_service(said):
    assert set(ALL) == set(ServiceOptions.table()) - {"timeout"}
    queue, options = told(said[0])
    assert {"pair": "demo"} | options == ALL
    assert queue == 1000


def test_what_is_not_set_has_the_default_of_python(said):
    assert told(said[1]) == (ServiceOptions.default("max_queue"), {})


def test_a_switch_that_is_off_is_not_one_that_nobody_set(said):
    assert told(said[2])[1] == {"low_memory": "False"}


@pytest.mark.parametrize(("place", "words"), [(place, words) for place, (_, _, words) in enumerate(WRONG, 3)])
def test_an_option_out_of_range_is_a_start_error_in_the_words_of_python(said, place, words):
    assert said[place] == words


def test_a_locale_with_a_decimal_comma_changes_nothing(programs, telling, said, tmp_path):
    made = ["localedef", "-i", "de_DE", "-f", "UTF-8", str(tmp_path / "comma")]
    known = shutil.which(made[0]) and subprocess.run(made, capture_output=True, check=False).returncode == 0
    done = run(programs, telling, "comma", LOCPATH=str(tmp_path))
    assert done.stderr == ("1.000,5 0,5" if known else "1.000,5")
    assert done.stdout.splitlines() == said


def test_the_header_and_the_guide_have_every_option_and_the_guide_its_default():
    (options,) = re.findall(r"^struct Options \{\n(.*?)^\};", HEADER.read_text(), re.M | re.S)
    fields = re.findall(r"^    [\w:<>]+ (\w+);", options, re.M)
    assert set(fields) == {"venv", *ALL}
    guide = (ROOT / "docs" / "cpp.md").read_text()
    rows = dict(re.findall(r"^\| `Options::(\w+)` \| ([^|]+) \|", guide, re.M))
    assert list(rows) == fields
    for name in ALL:
        default = ServiceOptions.default(name)
        assert default is None or rows[name].strip("`") == json.dumps(default).strip('"'), name
