"""The C++ library, built and installed, and an environment for it in which some pictures go wrong."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
LOADER = {"LD_LIBRARY_PATH": str(sysconfig.get_config_var("LIBDIR"))}
"""For a program with the installed library, which does not say where this Python's own library is."""


def call(*words: object, **options) -> str:
    """Run a command that must succeed; returns its stdout."""
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def build(source: Path, folder: Path, *options: str) -> Path:
    """Configure and build a CMake project; returns the folder."""
    call("cmake", "-S", source, "-B", folder, "-DCMAKE_BUILD_TYPE=Debug", *options)
    call("cmake", "--build", folder, "--parallel")
    return folder


@pytest.fixture(scope="session")
def compiled(tmp_path_factory) -> Path:
    """The folder that the library and its example server were built in."""
    missing = [tool for tool in ("cmake", "c++", "pkg-config") if shutil.which(tool) is None]
    headers = (Path("/usr/include/httplib.h"), Path(sysconfig.get_paths()["include"]) / "Python.h")
    missing += [str(header) for header in headers if not header.exists()]
    if missing:
        pytest.skip(f"no {', '.join(missing)}: apt-get install cmake g++ pkgconf libcpp-httplib-dev python3-dev")
    options = ("-DHYBRIDSTITCH_EXAMPLE=ON", "-DHYBRIDSTITCH_WERROR=ON", f"-DPython3_EXECUTABLE={sys.executable}")
    return build(ROOT / "serving" / "cpp", tmp_path_factory.mktemp("cpp"), *options)


@pytest.fixture(scope="session")
def installed(compiled, tmp_path_factory) -> Path:
    """The prefix that the library was installed to."""
    prefix = tmp_path_factory.mktemp("prefix")
    call("cmake", "--install", compiled, "--prefix", prefix)
    return prefix


@pytest.fixture(scope="session")
def programs(installed, tmp_path_factory) -> Path:
    """The folder of the programs that were built against the installed library."""
    return build(Path(__file__).parent, tmp_path_factory.mktemp("programs"), f"-DCMAKE_PREFIX_PATH={installed}")


def environment_with(module: str, folder: Path) -> Path:
    """A virtual environment with the packages of this one, which imports a module of this folder at its start."""
    venv.create(folder, symlinks=True)
    site = next((folder / "lib").glob("python*/site-packages"))
    shutil.copy(Path(__file__).with_name(f"{module}.py"), site)
    borrowed = f"import site; site.addsitedir({sysconfig.get_paths()['purelib']!r})"
    (site / "borrowed.pth").write_text(f"{borrowed}\nimport {module}\n")
    return folder


@pytest.fixture(scope="session")
def environment(tmp_path_factory) -> Path:
    """An environment in which a prompt that says `broken` is not drawn."""
    return environment_with("broken_pictures", tmp_path_factory.mktemp("environment"))
