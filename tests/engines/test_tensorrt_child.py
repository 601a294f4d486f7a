"""A plan is built in a child process; whatever becomes of it ends as a plan, one line, or a clean stop.

TensorRT itself is played by fake_builder/tensorrt.py, which only the child imports.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hybridstitch.engines.backends import BACKENDS, Hardware
from hybridstitch.engines.builders import child as child_process
from hybridstitch.engines.builders import tensorrt_plan
from hybridstitch.engines.builders.build_pair import build_pair
from hybridstitch.engines.builders.child import run_child
from hybridstitch.engines.builders.exported_graph import read_graph
from hybridstitch.engines.builders.options import BuildOptions
from hybridstitch.engines.builders.tensorrt_plan import build_tensorrt
from hybridstitch.engines.store.folder import Store
from hybridstitch.method.errors import HybridStitchError
from hybridstitch.method.progress import Progress, silent

from .handmade import make_recipe

FAKE = Path(__file__).parent / "fake_builder"
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def build(exported, built, tmp_path, monkeypatch):
    """Build the large model's plan with the fake TensorRT; `wrong` is what goes wrong with it."""
    monkeypatch.setenv("PYTHONPATH", str(FAKE))
    monkeypatch.setattr(tensorrt_plan, "require_tensorrt", BACKENDS.__getitem__)
    wanted = replace(
        Store(built).manifest("large"), backend="tensorrt", backend_version="11.4.0", hardware=Hardware("L4", "8.9")
    )
    workspace = tmp_path / "engines" / "workspace"
    workspace.mkdir(parents=True)

    def build(wrong: str = "", report=silent, **options) -> Path:
        monkeypatch.setenv("FAKE_TENSORRT", wrong)
        return build_tensorrt(read_graph(exported / "large"), wanted, workspace, BuildOptions(**options), report)[
            "plan"
        ]

    return build


def told(plan: Path) -> dict:
    return json.loads(plan.read_text())


def test_polygraphy_hands_profiles_and_options_to_tensorrt(build, built, tmp_path):
    plan = told(
        build(
            workspace_gib=2,
            optimization_level=4,
            weight_streaming=True,
            version_compatible=True,
            hardware_compatible="ampere_plus",
        )
    )
    manifest = Store(built).manifest("large")
    assert plan["strongly typed"]
    assert plan["flags"] == ["TF32", "VERSION_COMPATIBLE", "WEIGHT_STREAMING"]
    assert (plan["pools"], plan["level"], plan["hardware"]) == ({"WORKSPACE": 2 * 2**30}, 4, 1)
    expected = [profile.shapes(manifest.inputs) for profile in manifest.profiles]
    assert plan["profiles"] == json.loads(json.dumps(expected))


def test_what_polygraphy_would_change_by_itself_stays_as_tensorrt_has_it(build):
    plan = told(build())
    assert (plan["flags"], plan["pools"], plan["level"]) == (["TF32"], {}, None)
    assert plan["verbosity"] == "LAYER_NAMES_ONLY"


def test_progress_comes_out_of_the_child_and_what_libraries_print_does_not(build, capfd):
    said = []
    build("chatty", said.append)
    phases = [Progress("parsing"), *(Progress("Building engine", done, 2) for done in (0, 1, 2))]
    assert said == phases
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        (
            "killed",
            r"the builder of tensorrt was killed while it built large, most likely by the system for lack of memory: "
            r"\d+\.\d GiB of host memory free now, 0\.0 GiB of weights; close what else uses the memory, or lower",
        ),
        ("abort", r"the builder of tensorrt crashed \(SIGABRT\) while it built large: free\(\): invalid pointer$"),
        ("bad_alloc", r"not enough memory to build large with tensorrt: .*\(what\(\): std::bad_alloc\)$"),
        ("no builder", r"tensorrt cannot start its builder: CUDA initialization failure with error: 35$"),
        ("no plan", r"tensorrt could not build large: first of all this$"),
        ("no profile", r"tensorrt does not take the profiles of large: it gave no reason$"),
        ("broken", r"backend tensorrt: TensorRT 11\.4\.0 does not load: libnvinfer\.so\.11: cannot open"),
    ],
)
def test_a_builder_that_gives_no_plan_ends_as_one_line(build, tmp_path, wrong, line):
    with pytest.raises(HybridStitchError, match=line) as failure:
        build(wrong)
    assert "\n" not in str(failure.value)
    assert not list(tmp_path.rglob("plan-*"))


def test_a_child_that_cannot_even_start_says_so_in_one_line(build, tmp_path, monkeypatch):
    (tmp_path / "polygraphy.py").write_text("raise ImportError('half an installation')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    line = r"the builder of tensorrt ended \(exit code 1\) while it built large: ImportError: half an installation"
    with pytest.raises(HybridStitchError, match=line):
        build()


def test_a_plan_that_cannot_be_written_is_told_by_its_folder(build, monkeypatch, tmp_path):
    (tmp_path / "engines" / "workspace").rmdir()
    with pytest.raises(HybridStitchError, match=r"engines cannot be written to \S+engines: No such file or directory"):
        build()


def test_an_option_that_this_tensorrt_lacks_is_refused(build):
    line = "tensorrt 11.4.0 does not know hardware compatibility same_compute_capability; later versions do"
    with pytest.raises(HybridStitchError, match=re.escape(line)):
        build(hardware_compatible="same_compute_capability")


def test_a_timing_cache_is_used_kept_and_refused_where_it_is_of_another_gpu(build, tmp_path):
    file = tmp_path / "cache"
    build(timing_cache=file)
    build(timing_cache=file)
    assert file.read_bytes() == b"++"
    file.write_bytes(b"another GPU")
    line = rf"timing cache {file} is none of tensorrt 11\.4\.0 on this GPU; choose another file"
    with pytest.raises(HybridStitchError, match=line):
        build(timing_cache=file)


def test_a_timing_cache_that_cannot_be_read_is_told_by_its_name(build):
    with pytest.raises(
        HybridStitchError, match=r"timing cache /proc/self/mem cannot be read: Input/output error; choose"
    ):
        build(timing_cache=Path("/proc/self/mem"))


def test_a_timing_cache_that_cannot_be_saved_loses_no_plan(build, tmp_path):
    said = []
    plan = build(report=said.append, timing_cache=tmp_path / "gone" / "cache")
    assert plan.is_file()
    assert said[-1] == Progress(f"{tmp_path}/gone/cache cannot be written: No such file or directory")


def test_a_report_that_fails_ends_the_child(build):
    pids = []

    def report(now: Progress) -> None:
        if now.what == "Building engine":
            pids.extend(children_of(os.getpid()))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        build("hang", report)
    assert pids
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


def test_a_builder_that_does_not_stop_is_killed(build, monkeypatch):
    monkeypatch.setattr(child_process, "GRACE_SECONDS", 0.2)

    def report(now: Progress) -> None:
        if now.what == "Building engine":
            raise KeyboardInterrupt

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        build("deaf", report)
    assert time.monotonic() - start < 5
    assert not children_of(os.getpid())


PROGRAM = textwrap.dedent("""
    import sys
    from hybridstitch.engines.builders.child import run_child
    from hybridstitch.engines.builders.tensorrt_plan import COMMAND
    run_child(COMMAND, {environment!r}, {job!r}, lambda event: print(event, flush=True))
""")


def start(build, monkeypatch, wrong: str) -> subprocess.Popen[str]:
    """A process that builds in a child, and a session of its own for both."""
    jobs = []
    with monkeypatch.context() as patch:
        patch.setattr(tensorrt_plan, "run_child", lambda *arguments: jobs.append(arguments))
        with pytest.raises(AttributeError):  # there was no child
            build(wrong)
    _, environment, job, _ = jobs[0]
    program = PROGRAM.format(environment=dict(environment), job=job)
    command = ["env", "--default-signal=INT", sys.executable, "-c", program]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True)
    assert process.stdout is not None
    for line in process.stdout:
        if "Building engine" in line:
            break
    return process


@pytest.mark.parametrize("to", ["the parent", "both, as from a terminal"])
def test_ctrl_c_stops_parent_and_child(build, monkeypatch, to):
    process = start(build, monkeypatch, "hang")
    (child,) = children_of(process.pid)
    if to == "the parent":
        os.kill(process.pid, signal.SIGINT)
    else:
        os.killpg(process.pid, signal.SIGINT)
    _, printed = process.communicate(timeout=30)
    assert printed.rstrip().endswith("KeyboardInterrupt")
    assert not Path(f"/proc/{child}").exists()


def test_a_parent_that_is_killed_leaves_no_builder_behind(build, monkeypatch):
    process = start(build, monkeypatch, "hang")
    (child,) = children_of(process.pid)
    process.kill()
    process.communicate(timeout=30)
    deadline = time.monotonic() + 10
    while is_running(child):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(("visible", "expected"), [(None, "1"), ("5,7", "7"), ("", "1")])
def test_the_child_builds_on_the_gpu_that_is_current_in_the_parent(monkeypatch, visible, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert tensorrt_plan._environment("tensorrt")["CUDA_VISIBLE_DEVICES"] == expected
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    assert tensorrt_plan._environment("tensorrt").get("CUDA_VISIBLE_DEVICES") == visible


@pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="needs the rtx extra")
def test_one_process_builds_with_tensorrt_and_with_tensorrt_for_rtx(build, exported, tmp_path):
    assert told(build())["strongly typed"]
    only = BuildOptions(compute_capabilities=("SM89",))
    build_pair(make_recipe(), exported, tmp_path / "rtx", "tensorrt_rtx", components=["small"], options=only)
    assert told(build())["strongly typed"]
    assert Store(tmp_path / "rtx").manifest("small").targets == ("SM89",)


def test_the_parent_imports_neither_tensorrt_nor_polygraphy():
    program = "import sys, hybridstitch.engines.builders.tensorrt_plan; print(*sys.modules)"
    printed = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert not {"polygraphy", "tensorrt", "tensorrt_rtx"} & set(printed.split())


def test_the_child_does_not_wait_for_torch():
    program = "import sys, hybridstitch.engines.builders.tensorrt_child; print(*sys.modules)"
    printed = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert "polygraphy" in printed.split()
    assert "torch" not in printed.split()


def test_a_child_that_ends_at_once_is_told_by_its_exit_code():
    command = [sys.executable, "-c", "import sys; sys.exit('no')"]
    ending = run_child(command, os.environ, "x" * 2**20, pytest.fail)
    assert (ending.code, ending.printed.strip()) == (1, "no")
