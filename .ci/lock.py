"""requirements.lock: every dependency, and theirs, with the hash of its file, for Python 3.11 on Linux x86_64.

python .ci/lock.py           write it, as the package index resolves pyproject.toml and constraints.txt (make lock)
python .ci/lock.py --check   say where it disagrees with them; needs no network (make lint)
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCK = ROOT / "requirements.lock"
SOURCE_ONLY = "tensorrt-rtx,tensorrt-rtx-cu13"
"""Names without a wheel: small source archives that only depend on the wheels which hold the libraries."""
HEADER = """\
# Written by `make lock`: pyproject.toml with the extras rtx, serve, evaluation and dev, in the versions of
# constraints.txt, with what these depend on, for Python 3.11 on Linux x86_64. To install just these files:
#     pip install --require-hashes -r requirements.lock
#     pip install --no-deps --no-build-isolation --editable .
# torch is the index's own build, for CUDA. A CPU build (its version ends in +cpu) comes from another index and has
# another hash: where you take one, leave torch, triton, nvidia-* and cuda-* out of this file. Ray is not in it.
"""


def requirements(project: dict[str, Any]) -> list[Requirement]:
    """What is locked, of the [project] table of pyproject.toml."""
    extras = ("rtx", "serve", "evaluation", "dev")
    found = [*project["dependencies"], *(each for extra in extras for each in project["optional-dependencies"][extra])]
    return [each for each in map(Requirement, found) if canonicalize_name(each.name) != project["name"]]


def pins(constraints: str) -> dict[str, str]:
    """Version by name, of the text of constraints.txt."""
    lines = [line.partition("#")[0].strip() for line in constraints.splitlines()]
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in lines if line)}


def locked(lock: str) -> dict[str, tuple[str, list[str]]]:
    """Version and hashes by name, of the text of requirements.lock."""
    lines = [line for line in lock.splitlines() if line and not line.startswith("#")]
    found: dict[str, tuple[str, list[str]]] = {}
    for entry in "\n".join(lines).replace(" \\\n", " ").splitlines():
        pin, *hashes = entry.split()
        name, _, version = pin.partition("==")
        found[canonicalize_name(name)] = version, hashes
    return found


def disagreements(lock: str, constraints: str, project: dict[str, Any]) -> list[str]:
    """Where the three disagree, a line each."""
    have, pinned = locked(lock), pins(constraints)
    wrong = [f"{name} is in constraints.txt and not locked" for name in pinned if name not in have]
    for name, (version, hashes) in have.items():
        if pinned.get(name, version) != version:
            wrong.append(f"{name} {version} is locked; constraints.txt has {pinned[name]}")
        if not hashes or not all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", each) for each in hashes):
            wrong.append(f"{name} has no SHA-256")
    for each in requirements(project):
        name = canonicalize_name(each.name)
        if name not in have:
            wrong.append(f"{name} is in pyproject.toml and not locked")
        elif have[name][0] not in each.specifier:
            wrong.append(f"{name} {have[name][0]} is locked; pyproject.toml asks for {each.specifier}")
    if "://" in lock:
        wrong.append("an address stands in the lock")
    return wrong


def resolve(project: dict[str, Any]) -> list[dict[str, Any]]:
    """What pip would install into an empty environment, from the index alone: no local wheels, no other indexes."""
    environment = {
        key: value for key, value in os.environ.items() if key not in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL")
    }
    environment["PIP_CONFIG_FILE"] = os.devnull
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        pip = [str(Path(folder) / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "pip>=25"], check=True, env=environment)  # resolves by metadata, without the files
        report = Path(folder) / "report.json"
        what = ["--dry-run", "--ignore-installed", "--report", str(report), "--constraint", "constraints.txt"]
        what += ["--only-binary", ":all:", "--no-binary", SOURCE_ONLY, *map(str, requirements(project))]
        subprocess.run([*pip, *what], check=True, cwd=ROOT, env=environment)
        return json.loads(report.read_text())["install"]


def lock_text(installed: list[dict[str, Any]]) -> str:
    """The file, of the report's packages: no address of theirs gets into it."""
    entries = {
        canonicalize_name(each["metadata"]["name"]): (
            each["metadata"]["version"],
            each["download_info"]["archive_info"]["hashes"]["sha256"],
        )
        for each in installed
    }
    return HEADER + "".join(
        f"{name}=={version} \\\n    --hash=sha256:{digest}\n" for name, (version, digest) in sorted(entries.items())
    )


def main(words: list[str]) -> int:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    if words == ["--check"]:
        wrong = disagreements(LOCK.read_text(), (ROOT / "constraints.txt").read_text(), project)
        for line in wrong:
            print(f"requirements.lock: {line}; run make lock")
        return 1 if wrong else 0
    if words or sys.version_info[:2] != (3, 11):
        print("usage: python3.11 .ci/lock.py [--check]")
        return 2
    try:
        LOCK.write_text(lock_text(resolve(project)))
    except subprocess.CalledProcessError:
        print("requirements.lock: pip could not resolve the dependencies; the file is as it was")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
