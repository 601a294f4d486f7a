"""An audit that looked nothing up is no audit that found nothing."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

SPEC = importlib.util.spec_from_file_location("audit", Path(__file__).parents[1] / ".ci" / "audit.py")
assert SPEC is not None
assert SPEC.loader is not None
audit = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(audit)

CLEAN = {"name": "a", "version": "1", "vulns": []}
FLAWED = {"name": "b", "version": "2", "vulns": [{"id": "CVE-1"}]}
SKIPPED = {"name": "c", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("packages", "code", "words"),
    [
        ([CLEAN], 0, None),
        ([CLEAN, FLAWED], 1, "b 2: CVE-1"),
        ([CLEAN, SKIPPED], 3, "1 of 2 packages could not be looked up"),
        ([FLAWED, SKIPPED], 1, "1 of 2 packages could not be looked up"),
        ([], 3, "0 of 0 packages"),
    ],
)
def test_what_was_found_and_what_could_not_be_looked_up_are_told_apart(packages, code, words):
    found, lines = audit.verdict(json.dumps({"dependencies": packages}))
    assert found == code
    assert words is None or any(words in line for line in lines)


def test_no_answer_is_told_in_one_line():
    assert audit.verdict("") == (3, ["audit: no answer from the source of vulnerabilities; nothing was audited"])
