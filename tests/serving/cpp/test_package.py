"""The C++ library as a package: what it installs, and what it does to a project that takes it in."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from .conftest import ROOT, call

CPP = ROOT / "serving" / "cpp"
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
PROGRAM = """
#include <hybridstitch/runtime.hpp>
#include <iostream>
int main() {
    int unused;  // a warning that is this project's own business
    std::cout << HYBRIDSTITCH_VERSION " " << HYBRIDSTITCH_VERSION_MAJOR << "." << HYBRIDSTITCH_VERSION_MINOR << "\\n";
    try {
        hybridstitch::Options options;
        options.venv = "/nowhere";
        hybridstitch::Service service(options);
    } catch (const hybridstitch::StartError& error) {
        std::cout << error.what() << "\\n";
    }
}
"""
SAYS = f"{VERSION} {'.'.join(VERSION.split('.')[:2])}\n/nowhere is no Python environment: it has no bin/python3\n"


def write(folder: Path, cmake: str) -> Path:
    (folder / "program.cpp").write_text(PROGRAM)
    cmake = f"project(taker LANGUAGES CXX)\n{cmake}"
    (folder / "CMakeLists.txt").write_text(f"cmake_minimum_required(VERSION 3.18)\n{cmake}")
    return folder


def library(prefix: Path) -> Path:
    (found,) = prefix.glob("lib*/**/libhybridstitch.so")
    return found


def test_a_project_finds_it_by_find_package(installed, tmp_path):
    version = ".".join(VERSION.split(".")[:2])
    write(
        tmp_path,
        f"find_package(hybridstitch {version} REQUIRED)\nadd_executable(program program.cpp)\n"
        "target_link_libraries(program PRIVATE hybridstitch::hybridstitch)\n",
    )
    call("cmake", "-S", tmp_path, "-B", tmp_path / "out", f"-DCMAKE_PREFIX_PATH={installed}")
    call("cmake", "--build", tmp_path / "out")
    assert call(tmp_path / "out" / "program") == SAYS


@pytest.fixture(scope="module")
def taken_in(compiled, tmp_path_factory) -> Path:
    """A project that takes the sources in, has a target called `runtime` and warnings of its own, and is installed."""
    folder = write(
        tmp_path_factory.mktemp("taker"),
        f"add_subdirectory({CPP} hybridstitch)\n"
        "add_library(runtime STATIC program.cpp)\n"
        "target_compile_options(runtime PRIVATE -Wall)\n"
        "add_executable(program program.cpp)\n"
        "target_link_libraries(runtime PRIVATE hybridstitch::hybridstitch)\n"
        "target_link_libraries(program PRIVATE hybridstitch::hybridstitch)\n"
        "install(TARGETS program)\n",
    )
    call("cmake", "-S", folder, "-B", folder / "out", f"-DPython3_EXECUTABLE={sys.executable}")
    call("cmake", "--build", folder / "out", "--parallel")
    call("cmake", "--install", folder / "out", "--prefix", folder / "prefix")
    return folder


def test_a_project_takes_the_sources_in_beside_a_target_called_runtime_and_warnings_of_its_own(taken_in):
    assert call(taken_in / "out" / "program") == SAYS


def test_a_project_that_takes_the_sources_in_installs_what_is_its_own_alone(taken_in):
    installed = [path.name for path in (taken_in / "prefix").rglob("*") if path.is_file()]
    assert installed == ["program"]


def test_warnings_are_no_errors_unless_they_are_asked_to_be(taken_in, compiled):
    flags = "CMakeFiles/hybridstitch.dir/flags.make"
    assert "-Werror" not in (taken_in / "out" / "hybridstitch" / flags).read_text()
    assert "-Werror" in (compiled / flags).read_text()


def test_the_guide_s_lines_fetch_the_sources_of_a_checkout(tmp_path):
    guide = (ROOT / "docs" / "cpp.md").read_text()
    (lines,) = re.findall(r"^```cmake\n(include\(FetchContent\)\n.*?)^```$", guide, re.M | re.S)
    assert "/src/hybridstitch-trt" in lines
    asked = 'if(NOT TARGET hybridstitch::hybridstitch)\nmessage(FATAL_ERROR "no target")\nendif()\n'
    write(tmp_path, lines.replace("/src/hybridstitch-trt", str(ROOT)) + asked)
    call("cmake", "-S", tmp_path, "-B", tmp_path / "out", f"-DPython3_EXECUTABLE={sys.executable}")


def test_a_compiler_finds_it_by_pkg_config(installed, tmp_path):
    write(tmp_path, "")
    environment = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "PKG_CONFIG_PATH": str(library(installed).parent / "pkgconfig"),
    }
    assert call("pkg-config", "--modversion", "hybridstitch", env=environment).strip() == VERSION
    flags = call("pkg-config", "--cflags", "--libs", "hybridstitch", env=environment).split()
    program = tmp_path / "program"
    call("c++", "-std=c++17", tmp_path / "program.cpp", *flags, "-o", program)
    assert call(program, env={"LD_LIBRARY_PATH": str(library(installed).parent)}) == SAYS


def test_nothing_of_its_inside_is_exported(installed):
    names = call("nm", "-DC", "--defined-only", library(installed)).splitlines()
    ours = {
        name for line in names for name in re.findall(r"hybridstitch::(?!Ticket|Service)(\w+)", line[19:].split("(")[0])
    }
    errors = set(
        re.findall(r"class HYBRIDSTITCH_API (\w+) : public", (CPP / "include/hybridstitch/runtime.hpp").read_text())
    )
    assert len(errors) == 9
    assert ours == errors
    assert not [
        line for line in names if re.search(r"State::|Gil|Shared\b|checked|start_python", line[19:].split("(")[0])
    ]


def test_what_is_installed_names_no_folder_of_the_machine_that_built_it(installed, compiled):
    dynamic = call("readelf", "-d", library(installed))
    assert not re.search(r"R(UN)?PATH", dynamic)
    assert f"Library soname: [libhybridstitch.so.{'.'.join(VERSION.split('.')[:2])}]" in dynamic
    for path in installed.rglob("*"):
        if path.suffix in (".cmake", ".pc", ".hpp"):
            assert not re.search(
                rf"{re.escape(str(installed))}|{re.escape(str(compiled))}|{re.escape(str(ROOT))}", path.read_text()
            )


def test_the_sources_of_an_installed_package_know_its_version(tmp_path):
    site = tmp_path / "site-packages"
    (site / "hybridstitch" / "serving" / "cpp").mkdir(parents=True)
    (site / "hybridstitch_trt-3.4.5.dist-info").mkdir()
    (site / "hybridstitch_trt-3.4.5.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nVersion: 3.4.5\n")
    script = site / "hybridstitch" / "serving" / "cpp" / "say.cmake"
    script.write_text(f'include({CPP}/cmake/version.cmake)\nhybridstitch_version(found)\nmessage("${{found}}")\n')
    done = subprocess.run(["cmake", "-P", script], cwd=script.parent, capture_output=True, text=True, check=True)
    assert done.stderr == "3.4.5\n"
