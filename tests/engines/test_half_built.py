"""Builds that are killed: each engine is the old one or the new one, and never do two exports run together."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from contextlib import closing
from pathlib import Path

import pytest

from hybridstitch.engines.builders.build_pair import build_pair
from hybridstitch.engines.executors.engine import run_once
from hybridstitch.engines.open import open_pair
from hybridstitch.engines.store.folder import MANIFEST
from hybridstitch.method.errors import HybridStitchError

from .handmade import make_recipe, name_hashes, random_inputs, write_component, write_export

REPOSITORY = Path(__file__).parents[2]
NAMES = ("large", "small")
BATCHES = {"one picture": [1], "one or two": [1, 2]}


@pytest.fixture
def export(tmp_path) -> Path:
    return write_export(tmp_path / "onnx")


@pytest.fixture
def folder(export, tmp_path) -> Path:
    """A built pair."""
    folder = tmp_path / "mini" / "onnxruntime"
    build(export, folder)
    return folder


def build(export: Path, folder: Path, batches: str = "one or two") -> dict[str, str]:
    """By component, what became of it."""
    report = build_pair(make_recipe(batch_sizes=BATCHES[batches]), export, folder)
    return {component.component: component.state for component in report.components}


def killed(export: Path, folder: Path, moment: str, batches: str = "one or two") -> None:
    """Build in a process that gets -9 at a moment of the large engine's commit, or when the small one's turn comes."""
    program = textwrap.dedent(f"""
        import os, signal
        from pathlib import Path
        from hybridstitch.engines.store import folder as store
        from hybridstitch.engines.builders.build_pair import build_pair
        from tests.engines.handmade import make_recipe

        def die(*_):
            os.kill(os.getpid(), signal.SIGKILL)

        replace, manifest, moment = Path.replace, store.Store.manifest, {moment!r}
        if moment == "built, nothing moved":
            store.Store.commit = die
        elif moment == "plan moved":
            Path.replace = lambda path, target: (replace(path, target), die() if "plan" in path.name else None)
        elif moment == "manifest written":
            Path.replace = lambda path, target: die() if "manifest" in path.name else replace(path, target)
        else:
            store.Store.workspace = lambda store, name, make=store.Store.workspace: (
                die() if name == "small" else make(store, name)
            )
        build_pair(make_recipe(batch_sizes={BATCHES[batches]!r}), {str(export)!r}, {str(folder)!r})
    """)
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, check=False)
    assert done.returncode == -signal.SIGKILL


def opened(folder: Path, needed=NAMES):
    return open_pair(folder, pair="mini", backend="onnxruntime", needed=needed)


def velocity(folder: Path, component: str, needed=NAMES) -> bytes:
    """What an engine of the pair gives for the same inputs always."""
    inputs = random_inputs(2, 16, 0 if component == "large" else None)
    with closing(opened(folder, needed).engine(component)) as engine:
        return run_once(engine.session(), inputs)["velocity"].numpy().tobytes()


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("moment", ["built, nothing moved", "plan moved", "manifest written"])
def test_a_build_killed_at_any_moment_leaves_the_engine_as_it_was(export, folder, moment, tmp_path):
    before = {name: data for name, data in content(folder).items() if name.startswith("large")}
    write_component(export / "large", seed=1)
    killed(export, folder, moment)
    after = content(folder)
    assert {name: after[name] for name in before} == before
    away = export.rename(tmp_path / "away")  # it runs where its checkpoint's new weights are not at hand
    velocity(folder, "large")
    away.rename(export)

    assert build(export, folder) == {"large": "built", "small": "unchanged"}
    left = {path.name.split("-")[0] for path in (folder / "large").iterdir()}
    assert left == {"plan", "position", MANIFEST}
    assert len(list((folder / "large").iterdir())) == 3


@pytest.mark.parametrize("carried", [True, False], ids=["without the checkpoint", "beside the checkpoint"])
def test_a_rebuild_for_other_weights_that_is_killed_between_two_engines_is_never_loaded(
    export, folder, carried, tmp_path
):
    old = {name: velocity(folder, name) for name in NAMES}
    for name in NAMES:
        write_component(export / name, seed=1)
    killed(export, folder, "the small engine's turn")
    away = export.rename(tmp_path / "away") if carried else export
    for _ in range(2):
        with pytest.raises(HybridStitchError) as told:
            opened(folder)
        refusal = str(told.value)
        assert "\n" not in refusal
        assert ("mix two exports" if carried else "changed since the small engine was built") in refusal
        assert refusal.endswith(f"hybridstitch-trt build --pair mini --backend onnxruntime --out {folder}")
    away.rename(export)
    assert build(export, folder) == {"large": "unchanged", "small": "built"}
    assert all(velocity(folder, name) != old[name] for name in NAMES)


def test_a_rebuild_of_the_same_weights_that_is_killed_between_two_engines_leaves_a_pair_that_belongs_together(
    export, folder
):
    """Profiles alone changed: both engines are of one export, and what one of them does not take is refused."""
    build(export, folder, "one picture")
    killed(export, folder, "the small engine's turn", "one or two")
    batches = {name: opened(folder).manifests[name].profiles[0].ranges["B"][2] for name in NAMES}
    assert batches["large"] > batches["small"]
    assert build(export, folder) == {"large": "unchanged", "small": "built"}


def test_one_engine_alone_may_be_built_again(export, folder):
    before = velocity(folder, "large")
    write_component(export / "small", seed=1)
    assert build(export, folder) == {"large": "unchanged", "small": "built"}
    assert velocity(folder, "large") == before


def test_an_export_that_died_half_way_is_not_built(export, folder):
    pair = export / "assets" / "pair.json"
    before = pair.read_bytes()
    write_component(export / "large", seed=1)
    pair.write_bytes(before)
    with pytest.raises(HybridStitchError, match=r"the export in \S+ did not end: large changed; export again"):
        build(export, folder)
    name_hashes(export)
    build(export, folder)


@pytest.mark.parametrize("content", [None, "{", '{"pair": "mini"}', '{"pair": "mini", "hashes": {"large": {}}}'])
def test_an_export_that_does_not_say_which_engines_belong_together_is_not_built(export, folder, content):
    """Else a rebuild that died between two engines could not be told from one that ended."""
    pair = export / "assets" / "pair.json"
    pair.write_text(content) if content is not None else pair.unlink()
    with pytest.raises(HybridStitchError, match=r"the export in \S+ did not end: .*; export again"):
        build(export, folder)
