from __future__ import annotations

from pathlib import Path

import pytest

from hybridstitch.engines.builders.pair import build_pair

from .handmade import make_recipe, write_export


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The export of a tiny pair; not to be changed."""
    return write_export(tmp_path_factory.mktemp("onnx"))


@pytest.fixture(scope="session")
def built(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its engines for ONNX Runtime; not to be changed."""
    folder = tmp_path_factory.mktemp("build") / "mini" / "onnxruntime"
    build_pair(make_recipe(), exported, folder)
    return folder
