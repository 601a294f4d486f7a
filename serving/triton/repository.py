"""A model repository: the folder that `tritonserver --model-repository` takes."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path

from hybridstitch.method.errors import HybridStitchError

HERE = Path(__file__).parent


def write_model(repository: Path, name: str, config: str) -> Path:
    """Write one model into a repository, which may have others; returns its folder.

    It is there whole or not at all, so that a server that polls the repository never reads half of one.

    Raises:
        HybridStitchError: a name that no model can have, a model that is there already, or a folder that cannot be
            written.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", name):
        raise HybridStitchError(f"--name {name!r:.80}: a model's name has letters, digits, '.', '_' and '-' only")
    folder = repository / name
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise HybridStitchError(
                f"--out {repository}: {folder} is there already and not empty; remove it, or give another --name"
            )
        repository.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".model-", dir=repository.parent) as half:
            model = Path(half) / name
            (model / "1").mkdir(parents=True)
            (model / "config.pbtxt").write_text(config, encoding="utf-8")
            shutil.copyfile(HERE / "model.py", model / "1" / "model.py")
            shutil.copyfile(HERE / "probe.py", model / "probe.py")
            model.replace(folder)
    except OSError as error:
        raise HybridStitchError(f"--out {repository}: cannot write {folder}: {error.strerror}") from None
    return folder
