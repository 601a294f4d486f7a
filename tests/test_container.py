"""The Dockerfile: what it copies is what the package is made of."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
LINES = (ROOT / "Dockerfile").read_text().splitlines()


def copied() -> set[str]:
    """The paths that COPY lines take from the checkout."""
    return {word.strip("./") for line in LINES if line.startswith("COPY ") for word in line.split()[1:-1]}


def test_the_image_holds_every_folder_that_the_package_is_made_of():
    folders = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-dir"].values()
    assert copied() >= {folder.split("/")[0] for folder in folders} | {"pyproject.toml", "constraints.txt", "README.md"}
    assert all((ROOT / path).exists() for path in copied())


def test_the_image_leaves_out_what_is_built_or_trained_or_set_up():
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {".git", ".venv", "build", "training/runs"} <= set(ignored)


def test_the_container_serves_as_a_user_without_rights_and_says_whether_it_is_alive():
    text = "\n".join(LINES)
    assert re.search(r"^USER hybridstitch$", text, re.MULTILINE)
    assert re.search(r"^HEALTHCHECK .*\n.*127\.0\.0\.1:8000/health", text, re.MULTILINE)
    assert 'CMD ["serve", "--pair", "demo", "--host", "0.0.0.0"]' in text
