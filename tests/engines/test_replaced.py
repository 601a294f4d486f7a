"""Engines that are built again while others serve with them: the old ones stay what they are, a restart has the new."""

from __future__ import annotations

import shutil
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from hybridstitch.engines.builders.build_pair import build_pair
from hybridstitch.engines.executors.engine import run_once
from hybridstitch.engines.open import open_pair
from hybridstitch.engines.store.disk import UNFINISHED
from hybridstitch.engines.store.folder import MANIFEST
from hybridstitch.method.errors import HybridStitchError

from .handmade import make_recipe, random_inputs, write_export

NAMES = ("large", "small")


@pytest.fixture
def folder(built, tmp_path) -> Path:
    """Engines that may be changed."""
    return shutil.copytree(built, tmp_path / "engines")


@pytest.fixture(scope="module")
def newer(tmp_path_factory) -> Path:
    """An export of the same pair with other weights."""
    return write_export(tmp_path_factory.mktemp("newer"), seed=1)


def opened(folder: Path):
    return open_pair(folder, pair="mini", backend="onnxruntime", needed=NAMES)


def drawn(engine) -> bytes:
    """The velocity that an engine gives for the same inputs always."""
    inputs = random_inputs(frozen=0 if engine.manifest.component == "large" else None)
    return run_once(engine.session(), inputs)["velocity"].numpy().tobytes()


def test_a_rebuild_leaves_open_engines_as_they_are_and_the_next_to_open_has_the_new_ones(folder, newer):
    with ExitStack() as stack:
        serving = [stack.enter_context(closing(opened(folder).engine(name))) for name in NAMES]
        before = [drawn(engine) for engine in serving]
        build_pair(make_recipe(), newer, folder)
        assert [drawn(engine) for engine in serving] == before
        sessions = [drawn(stack.enter_context(closing(opened(folder).engine(name)))) for name in NAMES]
        assert [drawn(engine) for engine in serving] == before
        assert all(new != old for new, old in zip(sessions, before, strict=True))


def test_a_pair_that_was_found_before_a_rebuild_opens_no_engine_of_it(folder, newer):
    """Else one process would draw with a large model of one build and a small one of another."""
    pair = opened(folder)
    with closing(pair.engine("large")):
        build_pair(make_recipe(), newer, folder)
        with pytest.raises(HybridStitchError, match="the pair was built again since it was opened"):
            pair.engine("small")


@pytest.mark.parametrize("stage", ["nothing yet", "the new file without its manifest"])
def test_a_build_that_died_half_way_is_never_loaded(folder, newer, tmp_path, stage):
    whole = tmp_path / "whole"
    build_pair(make_recipe(), newer, whole)
    with closing(opened(folder).engine("small")) as engine:
        before = drawn(engine)
    (folder / "small" / f"{UNFINISHED}dead").mkdir()
    (folder / "small" / f"{UNFINISHED}dead" / "half.onnx").write_bytes(b"half")
    if stage == "the new file without its manifest":
        for path in (whole / "small").iterdir():
            if path.name != MANIFEST:
                shutil.copy(path, folder / "small" / path.name)
    try:
        with closing(opened(folder).engine("small")) as engine:
            found = drawn(engine)
    except HybridStitchError as error:
        refusal = str(error)
        assert stage != "nothing yet"
        assert "\n" not in refusal
        return
    assert found == before
