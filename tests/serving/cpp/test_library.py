"""The C++ library, driven by a program that finds it with find_package."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from hybridstitch.cli import main
from hybridstitch.runtime.pictures import read_metadata

from .conftest import LOADER, ROOT, build, call

HEART = "a large plain green heart on a grey background"


@pytest.fixture(scope="session")
def program(programs) -> Path:
    return programs / "embedding"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("drawn")


@pytest.fixture(scope="module")
def said(program, environment, demo_engines, folder) -> dict[str, str]:
    """What the program printed, by the word before the colon; it ran to its end."""
    words = [program, environment, demo_engines, HEART, folder, sys.prefix]
    done = subprocess.run(list(map(str, words)), env=os.environ | LOADER, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    return dict(line.split(": ", 1) for line in done.stdout.splitlines() if ": " in line) | {"all": done.stdout}


def test_a_picture_is_the_one_that_run_draws_as_rgb_and_as_file(said, folder, demo_engines):
    path = folder / "run.png"
    asked = ["--prompt", HEART, "--seed", "7", "--method", "small", "--steps", "2", "--threads", "1"]
    assert main(["run", "--engines", str(demo_engines), *asked, "--out", str(path), "--json"]) == 0
    assert (folder / "picture.png").read_bytes() == path.read_bytes()
    assert (folder / "picture.rgb").read_bytes() == Image.open(path).tobytes()
    assert said["image"] == "128x128, done"


def test_progress_comes_step_by_step_with_previews(said):
    assert said["progress"] == "small 0/2 small 1/2 small 2/2, 1 preview"


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("invalid", "the prompt is empty: say what to draw"),
        ("not UTF-8", "the prompt is not UTF-8 text"),
        ("not drawn", "vae_decoder gave NaN or infinity"),
        ("callback", "enough of it"),
        ("timed out", "no picture within 0.001 s"),
        ("queue full", "the queue is full: 1 requests wait; try again later"),
        ("cancelled", "the request was cancelled"),
        ("cancelled while it waited", "the request was cancelled"),
        ("closed", "the service is closed: it takes no more requests"),
        ("an unknown pair", "unknown pair 'none'; known: demo"),
        ("a second environment", "this process runs Python in"),
    ],
)
def test_what_goes_wrong_has_a_type_of_its_own_and_the_words_of_python(said, what, words):
    assert words in said[what]
    assert "another type" not in said[what]


def test_threads_share_a_service_and_it_is_fine_after_all_of_this(said):
    assert said["threads"] == "16 of 16 the same"
    assert "ready, 0 wait\n" in said["all"]


def started(program: Path, venv: Path | str, engines: Path, **environment: str) -> str:
    """What the program says when it is only to start."""
    clean = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    words = [str(program), str(venv), str(engines)]
    done = subprocess.run(words, env=clean | LOADER | environment, capture_output=True, text=True, check=False)
    return done.stdout or f"exit {done.returncode}"


def test_an_environment_that_does_not_fit_is_refused_in_one_line(program, demo_engines, tmp_path):
    wrong = tmp_path / "wrong"
    assert started(program, wrong, demo_engines) == f"start: {wrong} is no Python environment: it has no bin/python3\n"
    (wrong / "bin").mkdir(parents=True)
    (wrong / "bin" / "python3").touch()
    assert started(program, wrong, demo_engines).startswith(
        f"start: {wrong} is not of Python {version()}, for which this library was built: build it with that"
    )
    assert "found no Python environment: name one (Options::venv), activate" in started(program, "", demo_engines)


def test_the_activated_environment_is_found(program, environment, tmp_path):
    said = started(program, "", tmp_path / "none", VIRTUAL_ENV=str(environment), PYTHONPATH="/nowhere", PYTHONHOME="/x")
    assert said.startswith("start: the large engine of pair 'demo' is not built"), said


def test_the_environment_around_a_program_is_found(program, environment, tmp_path):
    inside = shutil.copy(program, environment / "bin")
    said = started(inside, "", tmp_path / "none")
    assert said.startswith("start: the large engine of pair 'demo' is not built"), said


def test_a_start_that_fails_with_another_build_s_libpython_names_both(program, environment, demo_engines, tmp_path):
    listed = re.search(rf"libpython{version()}\.so\S* .*=> (\S+)", call("/sbin/ldconfig", "-p"))
    if listed is None:
        pytest.skip("the system has no libpython of this version")
    asked = (
        f"import ctypes; f = ctypes.CDLL({listed[1]!r}).Py_GetVersion; f.restype = ctypes.c_char_p; print(f().decode())"
    )
    other, own = call(sys.executable, "-c", asked).split()[0], sys.version.split()[0]
    if other == own:
        pytest.skip("the system's libpython is of the same build")
    said = started(program, environment, tmp_path / "none", LD_LIBRARY_PATH="")
    assert f"; the loader found the libpython of Python {other}, and this library was built with {own}: put" in said


def version() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def test_the_program_in_the_guide_is_found_built_and_draws(installed, environment, demo_engines, tmp_path):
    blocks = re.findall(r"^```(cmake|cpp)\n(.*?)^```$", (ROOT / "docs" / "cpp.md").read_text(), re.M | re.S)
    blocks = dict(reversed(blocks))  # the first of each kind
    (tmp_path / "CMakeLists.txt").write_text(blocks["cmake"])
    (tmp_path / "star.cpp").write_text(blocks["cpp"])
    build(tmp_path, tmp_path / "out", f"-DCMAKE_PREFIX_PATH={installed}")
    (tmp_path / "build" / "demo").mkdir(parents=True)
    (tmp_path / "build" / "demo" / "onnxruntime").symlink_to(demo_engines)
    said = call(tmp_path / "out" / "star", cwd=tmp_path, env=os.environ | LOADER | {"VIRTUAL_ENV": str(environment)})
    assert said.startswith("large 0/20\n")
    assert said.endswith("small 20/20\n")
    assert read_metadata(tmp_path / "star.png")["steps"] == 20
