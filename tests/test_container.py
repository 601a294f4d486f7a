"""The Dockerfile, read: no Docker is needed. What it copies is what the package is made of."""

import json
import re
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from hybridstitch.cli import main
from hybridstitch.serving.http.gate import PROBES

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "Dockerfile").read_text()
LINES = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", TEXT, flags=re.MULTILINE)).splitlines()
"""Instructions, each in one line."""
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKED = re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE)


def instructions(name: str) -> list[str]:
    return [line.removeprefix(f"{name} ") for line in LINES if line.startswith(f"{name} ")]


def copied() -> set[str]:
    """The paths that COPY lines take from the checkout."""
    return {word.strip("./") for line in instructions("COPY") for word in line.split()[:-1]} - {"requirements.lock"}


def left_out() -> set[str]:
    """The names of the lock that are not installed."""
    (names,) = (line for line in instructions("ARG") if line.startswith("DEVELOPMENT="))
    return set(names.removeprefix("DEVELOPMENT=").strip('"').split())


def needed(extras: set[str]) -> set[str]:
    """What the package with these extras needs, and what that needs, by the metadata of what is installed here."""
    found, todo = set(), [(PROJECT["project"]["name"], frozenset(extras))]
    while todo:
        name, wanted = todo.pop()
        if (name, wanted) in found:
            continue
        found.add((name, wanted))
        try:
            lines = requires(name) or []
        except PackageNotFoundError:
            continue
        for each in map(Requirement, lines):
            if each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in wanted or {""}):
                todo.append((canonicalize_name(each.name), frozenset(each.extras)))
    return {name for name, _ in found}


def test_the_image_holds_every_folder_that_the_package_is_made_of():
    folders = PROJECT["tool"]["setuptools"]["package-dir"].values()
    assert copied() >= {folder.split("/")[0] for folder in folders} | {"pyproject.toml", "README.md", "LICENSE"}
    assert all((ROOT / path).exists() for path in copied())


def test_the_build_is_sent_what_the_image_copies_and_nothing_else():
    ignored = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert ignored[0] == "*"
    assert {line[1:] for line in ignored if line[0] == "!"} == copied() | {"requirements.lock"}
    assert {"**/__pycache__", "**/*.egg-info"} <= set(ignored[1:])


def test_a_change_of_the_sources_does_not_install_the_dependencies_again():
    steps = [line for line in LINES if line.startswith(("COPY", "RUN"))]
    install = next(number for number, line in enumerate(steps) if "--require-hashes -r" in line)
    assert [line for line in steps[:install] if line.startswith("COPY")] == ["COPY requirements.lock ./"]
    assert "--no-deps" in next(line for line in steps[install + 1 :] if "pip install" in line)


def test_the_image_leaves_out_of_the_lock_what_only_development_needs():
    assert left_out() <= set(LOCKED)
    assert left_out() & needed({"rtx", "serve"}) == set()
    assert {"pytest", "ruff", "playwright"} <= left_out()


def test_the_image_has_the_python_that_the_lock_is_for():
    assert instructions("FROM")[0].startswith("python:3.11-")
    assert "for Python 3.11 on Linux x86_64" in (ROOT / "requirements.lock").read_text()


def test_the_container_runs_as_a_user_that_kubernetes_can_tell_is_not_root():
    (user,) = instructions("USER")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    assert LINES.index(f"USER {user}") > max(LINES.index(line) for line in LINES if line.startswith("RUN"))


def test_the_container_is_healthy_when_pictures_can_be_had():
    (check,) = instructions("HEALTHCHECK")
    assert "http://127.0.0.1:8000/ready'" in check
    assert "/ready" in PROBES


def test_each_image_serves_by_the_backend_that_it_is_named_after(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    stages = re.findall(r"^FROM common AS (\w+)\nCMD (\[.*\])$", "\n".join(LINES), re.MULTILINE)
    assert [name for name, _ in stages] == ["onnxruntime", "tensorrt_rtx"]  # the last is what a plain build makes
    for name, words in stages:
        command = json.loads(words)
        assert command[command.index("--backend") + 1] == name
        assert command[command.index("--host") + 1] == "0.0.0.0"
        assert main([*command, "--host", "127.0.0.1", "--port", "0"]) == 2  # there are no engines, or no GPU
        assert f"backend {name}" in capsys.readouterr().err
