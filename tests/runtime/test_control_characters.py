"""Control characters that no prompt has are refused for every front: in the one place that checks prompts."""

import pytest

from hybridstitch.cli import main
from hybridstitch.method.errors import HybridStitchError

REFUSED = ["\0", "\x01", "\x08", "\x0b", "\x1b", "\x1f", "\x7f", "\x80", "\x85", "\x9b", "\x9f"]


@pytest.mark.parametrize("sign", REFUSED, ids=ascii)
def test_a_control_character_is_refused_in_either_prompt(pipe, sign):
    words = rf"holds the control character {sign!a}: leave it out; tabs and line ends are allowed".replace("\\", "\\\\")
    with pytest.raises(HybridStitchError, match=f"the prompt {words}") as refused:
        pipe.requests.resolve(f"a star{sign}")
    assert refused.value.parameter == "prompt"
    with pytest.raises(HybridStitchError, match=f"the negative prompt {words}") as refused:
        pipe.requests.resolve("a star", negative_prompt=f"{sign}blurred")
    assert refused.value.parameter == "negative_prompt"


@pytest.mark.parametrize("prompt", ["a star\ud800", "\udfff"], ids=ascii)
def test_a_lone_surrogate_is_refused_in_either_prompt(pipe, prompt):
    for given in ((prompt, None), ("a star", prompt)):
        with pytest.raises(HybridStitchError, match="is not UTF-8 text: it holds"):
            pipe.requests.resolve(given[0], negative_prompt=given[1])


@pytest.mark.parametrize("sign", ["\t", "\n", "\r\n", "\u200b", "\u00ad", "\U0001f31f", "é"], ids=ascii)
def test_tabs_line_ends_and_every_other_sign_are_taken(pipe, sign):
    assert pipe.requests.resolve(f"a{sign}star", negative_prompt=f"a{sign}circle").prompt == f"a{sign}star"


def test_the_command_line_refuses_them_with_one_line(demo_engines, capsys):
    assert main(["run", "--engines", str(demo_engines), "--prompt", "a \x1b[31mred star"]) == 2
    assert "the prompt holds the control character '\\x1b'" in capsys.readouterr().err
