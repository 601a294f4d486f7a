"""A figure that is drawn without a screen and saved whole or not at all."""

from __future__ import annotations

import importlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.method.whole_files import replace


def require_matplotlib() -> None:
    """Refuse before anything is measured.

    Raises:
        HybridStitchError: matplotlib is not installed.
    """
    try:
        importlib.import_module("matplotlib.figure")
    except ImportError:
        raise HybridStitchError(
            "plots need matplotlib: pip install hybridstitch-trt[evaluation], or leave out --plots"
        ) from None


@contextmanager
def figure(path: Path, title: str, x: str, y: str) -> Iterator[Any]:
    """Axes to draw on, with a title and named ends; saved as PNG when the body ends well.

    Raises:
        HybridStitchError: matplotlib is not installed.
        OSError: the file cannot be written.
    """
    require_matplotlib()
    from matplotlib.figure import Figure  # optional

    drawn = Figure(figsize=(8, 5), dpi=120, layout="constrained")
    axes = drawn.subplots()
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.grid(color="0.92")
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    yield axes
    write_figure(drawn, path)


def write_figure(drawn: Any, path: Path) -> None:
    """A figure of matplotlib as a PNG that appears whole, in the place of what may be there.

    Raises:
        OSError: the file cannot be written.
    """
    picture = io.BytesIO()
    drawn.savefig(picture, format="png")
    replace(path, picture.getvalue())
