"""The guide to serving says what the code does."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

from PIL import Image

from hybridstitch.serving import Service, ServiceOptions, ServingError, errors

_TEXT = (Path(__file__).parents[2] / "docs" / "serving.md").read_text()
GUIDE = re.findall(r"^## In a Python program$(.*?)(?=^## |\Z)", _TEXT, re.M | re.S)[0]


def test_the_example_runs_as_it_is_written(demo_engines, tmp_path, monkeypatch, capsys):
    (tmp_path / "build" / "demo").mkdir(parents=True)
    (tmp_path / "build" / "demo" / "onnxruntime").symlink_to(demo_engines)
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```python\n(.*?)```", GUIDE, re.S)
    exec(compile(example, "docs/serving.md", "exec"), {})
    assert Image.open("star.png").size == (128, 128)
    assert len(list(tmp_path.glob("step-*.png"))) == 2
    assert "small: step 12 of 12" in capsys.readouterr().out


def test_the_guide_names_every_option_and_every_error():
    options = inspect.signature(Service.__init__).parameters.keys() - {"self", "pipe", "options"}
    options |= ServiceOptions.table().keys()
    options |= inspect.signature(Service.submit).parameters.keys() - {"self", "request"}
    assert not [name for name in options if f"| `{name}` |" not in GUIDE]
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ServingError)]
    for kind in kinds:
        assert kind is ServingError or f"| `{kind.__name__}` | `{kind.kind}` |" in GUIDE, kind
