"""A wheel of the project works in an environment that has nothing else of it."""

import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROMPT = "a large plain green heart on a grey background"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return next(folder.glob("*.whl"))


def environment(folder: Path) -> Path:
    """A new virtual environment; returns its scripts' folder."""
    venv.create(folder, with_pip=True)
    return folder / "bin"


def test_only_one_package_lands_in_site_packages_and_it_carries_the_demo_pair(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"hybridstitch", "hybridstitch_trt"}
    rooms = ("models", "export", "engines", "runtime", "serving", "verify", "evaluation")
    modules = {f"hybridstitch/{path.relative_to(ROOT)}" for room in rooms for path in (ROOT / room).rglob("*.py")}
    assert modules <= set(names)
    assert "hybridstitch/pairs/demo.toml" in names
    assert "hybridstitch/pairs/demo/large/model_index.json" in names
    for part in (
        "CMakeLists.txt",
        "cmake/version.cmake",
        "include/hybridstitch/runtime.hpp",
        "src/service.cpp",
        "example/server.cpp",
    ):
        assert f"hybridstitch/serving/cpp/{part}" in names
    page = {path.name for path in (ROOT / "serving/http/page").iterdir()}
    assert {f"hybridstitch/serving/http/page/{name}" for name in page} <= set(names)
    assert wheel.stat().st_size < 24e6


def test_a_wheel_draws_a_picture_in_an_environment_without_the_checkout(wheel, demo_engines, tmp_path):
    scripts = environment(tmp_path / "venv")
    install = [scripts / "python", "-m", "pip", "install", "--quiet", "--no-deps", str(wheel)]
    subprocess.run(install, check=True, cwd=tmp_path)
    # Dependencies, a gigabyte of them, are borrowed from the environment that runs the tests; a plain path does not
    # bring the editable checkout along.
    site = next((tmp_path / "venv" / "lib").glob("python*/site-packages"))
    (site / "borrowed.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    home = "import hybridstitch, sys; sys.exit(not hybridstitch.__file__.startswith(sys.prefix))"
    subprocess.run([scripts / "python", "-c", home], check=True, cwd=tmp_path)
    draw = [scripts / "hybridstitch-trt", "run", "--prompt", PROMPT, "--steps", "4", "--engines", str(demo_engines)]
    done = subprocess.run([*draw, "--out", "heart.png"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "heart.png").is_file()


@pytest.mark.slow
def test_a_wheel_installs_with_its_dependencies_builds_and_draws(wheel, tmp_path):
    scripts = environment(tmp_path / "venv")
    constraints = ["--constraint", str(ROOT / "constraints.txt")]
    install = [scripts / "python", "-m", "pip", "install", "--quiet", *constraints, str(wheel)]
    subprocess.run(install, check=True, cwd=tmp_path)
    subprocess.run([scripts / "hybridstitch-trt", "build"], check=True, cwd=tmp_path)
    draw = [scripts / "hybridstitch-trt", "run", "--prompt", PROMPT, "--save-mask", "--out", "heart.png"]
    subprocess.run(draw, check=True, cwd=tmp_path)
    assert (tmp_path / "heart-mask.png").is_file()
