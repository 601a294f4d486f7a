"""The options of a C++ program, as Python's service gets them."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from hybridstitch.serving.options import ServiceOptions

from .conftest import LOADER, ROOT, call, environment_with

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


@pytest.fixture(scope="module")
def telling(tmp_path_factory) -> Path:
    """An environment whose service loads nothing, and tells the options it was given."""
    return environment_with("told_options", tmp_path_factory.mktemp("telling"))


def told(programs: Path, venv: Path, given: dict[str, str], **environment: str) -> dict[str, str]:
    """What the program prints when it is given options, by the word before the colon."""
    words = [programs / "options", venv, *(f"{name}={value}" for name, value in given.items())]
    said = call(*words, env=os.environ | LOADER | environment)
    return dict(line.split(": ", 1) for line in said.splitlines())


def test_every_option_that_is_set_reaches_the_service(programs, telling):
    assert set(ALL) == set(ServiceOptions.table()) - {"timeout"}
    found = told(programs, telling, ALL)
    assert {"pair": "demo"} | json.loads(found["given"]) == ALL
    assert found["queue"] == "1000"


def test_a_switch_that_is_off_is_not_one_that_nobody_set(programs, telling):
    assert json.loads(told(programs, telling, {"low_memory": "False"})["given"]) == {"low_memory": "False"}


def test_what_is_not_set_has_the_default_of_python(programs, telling):
    found = told(programs, telling, {})
    assert json.loads(found["given"]) == {}
    assert found["queue"] == str(ServiceOptions.default("max_queue"))


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("threads", "0", "threads must be a whole number from 1 to 1024, not 0"),
        ("max_queue", "100001", "max_queue must be a whole number from 1 to 100000, not 100001"),
        ("max_batch", "65", "max_batch must be a whole number from 1 to 64, not 65"),
        ("max_delay", "-0.5", "max_delay must be at least 0 seconds, not -0.5"),
        ("max_delay", "nan", "max_delay must be a number, not nan"),
        ("engines", "\udcff", "engines is not UTF-8 text"),
    ],
)
def test_an_option_out_of_range_is_a_start_error_in_the_words_of_python(programs, telling, name, value, words):
    assert told(programs, telling, {name: value}) == {"start": words}


@pytest.fixture(scope="module")
def comma(tmp_path_factory) -> dict[str, str]:
    """The environment variable of a folder with the German locale; empty where the system cannot make one."""
    folder = tmp_path_factory.mktemp("locales")
    try:
        subprocess.run(["localedef", "-i", "de_DE", "-f", "UTF-8", folder / "comma"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return {}
    return {"LOCPATH": str(folder)}


def test_a_locale_with_a_decimal_comma_changes_nothing(programs, telling, comma):
    found = told(programs, telling, ALL | {"locale": "comma"}, **comma)
    assert found.pop("numbers") == ("1.000,5 0,5" if comma else "1.000,5")
    assert found == told(programs, telling, ALL)


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
