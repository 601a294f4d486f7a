"""No file that the package reads can run code by the back door: no pickle, no eval, no shell."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
INSTALLED = ("hybridstitch", "models", "export", "engines", "runtime", "verify", "evaluation")
NEVER = {
    **dict.fromkeys(("eval", "exec", "compile", "__import__"), "runs text as code"),
    **dict.fromkeys(("yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load"), "YAML that makes objects"),
    **dict.fromkeys(("os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"), "a shell"),
}
PICKLES = ("pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal")


def dangers(source: str) -> Iterator[tuple[int, str]]:
    """Line and reason of each call or import that can run code from a file or a text, under whatever name."""
    tree = ast.parse(source)
    names: dict[str, str] = {}  # what an imported name stands for
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            origin = node.module or "" if isinstance(node, ast.ImportFrom) else ""
            for alias in node.names:
                whole = f"{origin}.{alias.name}" if origin else alias.name
                names[alias.asname or alias.name.partition(".")[0]] = whole if alias.asname or origin else alias.name
                if whole.partition(".")[0] in PICKLES:
                    yield node.lineno, f"imports {whole}"
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        first, dot, rest = ast.unparse(node.func).partition(".")
        called = names.get(first, first) + dot + rest
        said = {each.arg: ast.unparse(each.value) for each in node.keywords}
        if called in NEVER:
            yield node.lineno, f"{called}: {NEVER[called]}"
        elif called == "torch.load" and said.get("weights_only") != "True":
            yield node.lineno, "torch.load without weights_only=True unpickles"
        elif called.endswith("numpy.load") and said.get("allow_pickle", "False") != "False":
            yield node.lineno, "numpy.load with allow_pickle"
        elif said.get("shell", "False") != "False":
            yield node.lineno, f"{called}: a shell"
        elif said.get("trust_remote_code", "False") != "False":
            yield node.lineno, f"{called}: runs a checkpoint's code"
        elif said.get("use_safetensors") == "False":
            yield node.lineno, f"{called}: loads pickled weights"


@pytest.mark.parametrize("folder", INSTALLED)
def test_nothing_that_is_installed_runs_code_out_of_a_file_or_a_text(folder):
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    found = [f"{path.relative_to(ROOT)}:{line} {why}" for path in files for line, why in dangers(path.read_text())]
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import load as read",
        "import torch\ntorch.load(path)",
        "import torch as t\nt.load(path, weights_only=False)",
        "from torch import load\nload(path)",
        "import numpy as np\nnp.load(path, allow_pickle=True)",
        "def late():\n    return eval(text)",
        "exec(text)",
        "import yaml\nyaml.load(text)",
        "from yaml import load\nload(text, Loader)",
        "import subprocess\nsubprocess.run(text, shell=True)",
        "import subprocess\nsubprocess.Popen(text, shell=flag)",
        "import os\nos.system(text)",
        "AutoModel.from_pretrained(folder, trust_remote_code=True)",
    ],
)
def test_each_back_door_is_seen_however_it_is_written(source):
    assert list(dangers(source))


@pytest.mark.parametrize(
    "source",
    [
        "module.eval()",
        "import re\nre.compile(text)",
        "import torch\ntorch.load(path, weights_only=True)",
        "import yaml\nyaml.safe_load(text)",
        "import subprocess\nsubprocess.run([program, word])",
        "import ast\nast.literal_eval(text)",
    ],
)
def test_what_only_looks_like_one_is_fine(source):
    assert not list(dangers(source))
