"""Settings are written down once: whatever takes or shows them follows."""

import re
from typing import Any

import pytest

from hybridstitch.cli import main
from hybridstitch.method.errors import HybridStitchError
from hybridstitch.method.settings import METHODS, OFF, SETTINGS, parse_settings, settings_of_method
from hybridstitch.method.size import Size
from hybridstitch.pairs.parameters import make_parameters
from hybridstitch.pairs.recipe import Recipe

DEMO = Recipe.load("demo")


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_is_a_flag_with_its_help(name, capsys):
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert f"--{name.replace('_', '-')} " in told
    assert SETTINGS[name].help in told


@pytest.mark.parametrize("method", METHODS)
def test_a_report_names_every_setting(method):
    assert set(make_parameters(DEMO, method).as_dict()) == {"method", *SETTINGS}


@pytest.mark.parametrize("name", [name for name, setting in SETTINGS.items() if setting.off])
def test_what_may_be_off_is_off_in_plan_recipe_and_argument(name):
    assert SETTINGS[name].checked(OFF) == OFF
    given: Any = {name: OFF}
    assert make_parameters(DEMO, "hybrid", **given).as_dict()[name] is None


@pytest.mark.parametrize("name", SETTINGS)
def test_a_method_without_a_setting_refuses_it(name):
    given: Any = {name: SETTINGS[name].default or 1}
    for method in METHODS:
        if name in settings_of_method(method):
            continue
        with pytest.raises(HybridStitchError, match=f"method '{method}' has no setting '{name}'"):
            make_parameters(DEMO, method, **given)


def test_settings_can_be_texts():
    texts = {"steps": "20", "guidance": "2.5", "residual": "off", "score": "change"}
    assert parse_settings(texts) == {"steps": 20, "guidance": 2.5, "residual": "off", "score": "change"}


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("steps", "many", "steps must be a whole number from 1 to 1000, not 'many'"),
        ("steps", "1.5", "not '1.5'"),
        ("guidance", "nan", "guidance must be a number, not nan"),
        ("score", "luck", "unknown score 'luck'; known: gap, change"),
        ("prompt", "x", "unknown setting 'prompt'; known: steps, guidance"),
    ],
)
def test_a_text_that_is_no_setting_is_refused_in_the_words_of_one_that_is(name, text, words):
    with pytest.raises(HybridStitchError, match=re.escape(words)):
        parse_settings({name: text})


@pytest.mark.parametrize("name", [*SETTINGS, "size", "method"])
def test_a_number_that_python_writes_no_text_of_is_refused_in_one_line(name):
    wanted: Any = {"method": "hybrid", name: 10**5000}
    with pytest.raises(HybridStitchError, match=r"^.{10,300}$"):
        Size.parse(wanted["size"]) if name == "size" else make_parameters(DEMO, **wanted)
