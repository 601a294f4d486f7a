"""Whatever a program hands to the embedding API becomes a request or one clear line, never another error."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.method.settings import METHODS, SETTINGS

EXAMPLES = settings(
    max_examples=300,
    deadline=5000,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
MANY = settings(EXAMPLES, max_examples=20_000)
HUGE = st.sampled_from([10**5000, -(10**5000), 2**63, 2**64, 1e308, -0.0, 5e-324])
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    HUGE,
    st.floats(),
    st.complex_numbers(),
    st.decimals(),
    st.text(st.characters(), max_size=200),  # lone surrogates as well
    st.binary(max_size=50),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    st.sampled_from(["off", "gap", "change", "auto", "128x128", "160x96", "0x0", "٣x٣", *METHODS]),
)
NAMES = st.sampled_from(["negative_prompt", "seed", "size", "method", *SETTINGS])
SENSIBLE = {
    "seed": st.integers(0, 2**63 - 1),
    "size": st.sampled_from(["128x128", "160x96", "96x160"]),
    "method": st.sampled_from(METHODS),
    **{
        name: st.sampled_from(setting.choices)
        if setting.choices
        else st.integers(int(setting.least), int(min(setting.most, 50)))
        if setting.kind is int
        else st.floats(setting.least, setting.most)
        for name, setting in SETTINGS.items()
    },
}
WANTED = st.builds(
    lambda sensible, odd: sensible | odd,
    st.fixed_dictionaries({}, optional=SENSIBLE),
    st.dictionaries(NAMES, ODD, max_size=2),
)
PROMPTS = st.one_of(st.just("a star"), ODD)


def is_one_line(error: BaseException | None) -> bool:
    return isinstance(error, HybridStitchError) and 0 < len(str(error)) < 2000 and "\n" not in str(error)


def check(resolve: Any, prompt: Any, wanted: dict[str, Any]) -> None:
    request, refusal = None, None
    try:
        request = resolve(prompt, **wanted)
    except HybridStitchError as error:
        refusal = error
    if request is None:
        assert is_one_line(refusal), refusal
    else:
        assert request.prompt == prompt
        assert request.parameters.schedule.steps <= 1000


@EXAMPLES
@given(prompt=PROMPTS, wanted=WANTED)
def test_whatever_is_asked_for_is_a_request_or_one_line(pipe, prompt, wanted):
    check(pipe.requests.resolve, prompt, wanted)


@pytest.mark.slow
@MANY
@given(prompt=PROMPTS, wanted=WANTED)
def test_whatever_is_asked_for_is_a_request_or_one_line_at_length(pipe, prompt, wanted):
    check(pipe.requests.resolve, prompt, wanted)


@EXAMPLES
@given(timeout=ODD, previews=ODD)
def test_whatever_a_submission_says_is_taken_or_refused_in_one_line(service, timeout, previews):
    request = service.resolve("a star", method="small", steps=1)
    ticket, refusal = None, None
    try:
        ticket = service.submit(request, timeout=timeout, previews=previews)
    except HybridStitchError as error:
        refusal = error
    if ticket is not None:
        ticket.cancel()
        refusal = ticket.future.exception(20)
    assert is_one_line(refusal) or (ticket is not None and refusal is None), refusal
