"""One small pair and its export, shared by the tests that only read them."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybridstitch.export.export_pair import PairExport, export_pair

from ..models.architectures import ARCHITECTURES
from ..models.checkpoints import recipe_of, save_checkpoint


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A large checkpoint with dual attention, without T5, and a small one that shares its VAE and text."""
    folder = tmp_path_factory.mktemp("checkpoints")
    return {
        "large": save_checkpoint(folder / "large", **ARCHITECTURES["dual attention"]),
        "small": save_checkpoint(folder / "small", seed=1, **ARCHITECTURES["qk_norm"]),
    }


@pytest.fixture(scope="session")
def export(checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> PairExport:
    return export_pair(recipe_of(**checkpoints), tmp_path_factory.mktemp("export"))
