"""requirements.lock holds every dependency by its hash, and agrees with what the project asks for."""

from __future__ import annotations

import importlib.util
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SPEC = importlib.util.spec_from_file_location("lock", ROOT / ".ci" / "lock.py")
assert SPEC is not None
assert SPEC.loader is not None
lock = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(lock)

LOCKED, CONSTRAINTS = lock.LOCK.read_text(), (ROOT / "constraints.txt").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_lock_agrees_with_pyproject_and_constraints():
    assert lock.disagreements(LOCKED, CONSTRAINTS, PROJECT) == []


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("uvicorn==0.54.0", "uvicorn==0.53.0", "uvicorn 0.53.0 is locked; constraints.txt has 0.54.0"),
        ("uvicorn==0.54.0", "uvicorn-of-another==0.54.0", "uvicorn is in constraints.txt and not locked"),
        ("uvicorn==0.54.0 \\\n    --hash=sha256:", "uvicorn==0.54.0 \\\n    --hash=md5:", "uvicorn has no SHA-256"),
        ("# torch", "# https://pictures.example/simple torch", "an address stands in the lock"),
    ],
)
def test_a_lock_that_disagrees_is_told(old, new, words):
    assert old in LOCKED
    assert words in lock.disagreements(LOCKED.replace(old, new), CONSTRAINTS, PROJECT)


def test_a_dependency_that_is_new_or_asks_for_more_is_told():
    asked = {**PROJECT, "dependencies": [*PROJECT["dependencies"], "gamma-ray>=1", "torch>=99"]}
    wrong = lock.disagreements(LOCKED, CONSTRAINTS, asked)
    assert "gamma-ray is in pyproject.toml and not locked" in wrong
    assert any(line.endswith("pyproject.toml asks for >=99") for line in wrong)


def test_no_address_of_an_index_gets_from_a_report_into_the_lock():
    digest = "0" * 64
    info = {"url": "https://pictures.example/a.whl", "archive_info": {"hashes": {"sha256": digest}}}
    text = lock.lock_text([{"metadata": {"name": "Some_Thing", "version": "1.0"}, "download_info": info}])
    assert "example" not in text
    assert lock.locked(text) == {"some-thing": ("1.0", [f"--hash=sha256:{digest}"])}
