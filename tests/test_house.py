"""The house keeps its order: what a room imports lies in the same room or below it, also inside functions."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = {  # from the ground up: a room may import what stands above it in this list
    "method": "hybridstitch/method",
    "pairs": "hybridstitch/pairs",
    "models": "models",
    "export": "export",
    "engines": "engines",
    "runtime": "runtime",
    "serving": "serving",
    "verify": "verify",
    "evaluation": "evaluation",
    "cli": "hybridstitch/cli",
}
ORDER = list(ROOMS)
SOURCES = [(room, path) for room, folder in ROOMS.items() for path in sorted((ROOT / folder).rglob("*.py"))]
OUTSIDE = ("tests", "training", "benchmarks")


def module_of(room: str, path: Path) -> str:
    """The name that a file is imported by."""
    parts = ["hybridstitch", room, *path.relative_to(ROOT / ROOMS[room]).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(source: str, module: str, *, is_package: bool = False) -> Iterator[tuple[int, str]]:
    """Line and absolute name of everything that a source imports, wherever it stands in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            around = module.split(".")[: None if is_package and node.level == 1 else -(node.level - is_package)]
            base = ".".join([*(around if node.level else ()), *([node.module] if node.module else ())])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            yield from ((node.lineno, str(first.value)) for first in node.args[:1] if isinstance(first, ast.Constant))


def wrong_arrow(room: str, imported: str) -> str | None:
    """What is wrong with an import, in words; None: nothing."""
    top, _, rest = imported.partition(".")
    if top in OUTSIDE:
        return f"{top}/ is not installed"
    if top != "hybridstitch":
        return None
    other = rest.partition(".")[0]
    if other not in ROOMS:
        return "the public face is for users; import the room that holds it"
    if ORDER.index(other) > ORDER.index(room):
        return f"{other}/ stands above {room}/ ({' -> '.join(reversed(ORDER))})"
    return None


@pytest.mark.parametrize("room", ROOMS)
def test_no_import_runs_back_up_the_house(room):
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}: {why}"
        for home, path in SOURCES
        if home == room
        for line, name in imports(path.read_text(), module_of(room, path), is_package=path.stem == "__init__")
        if (why := wrong_arrow(room, name))
    ]
    assert not wrong, "\n" + "\n".join(wrong)


def test_what_builds_engines_and_what_runs_them_know_nothing_of_each_other():
    apart = {"builders": "hybridstitch.engines.executors", "executors": "hybridstitch.engines.builders"}
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for folder, other in apart.items()
        for path in sorted((ROOT / "engines" / folder).glob("*.py"))
        for line, name in imports(path.read_text(), module_of("engines", path), is_package=path.stem == "__init__")
        if name.startswith(other)
    ]
    assert not wrong, "\n" + "\n".join(wrong)


def test_production_needs_neither_verification_nor_evaluation():
    rooms = [*(entry for entry in SOURCES if entry[0] not in ("verify", "evaluation", "cli"))]
    face = ("hybridstitch", ROOT / "hybridstitch" / "__init__.py")
    sources = [*((path, module_of(room, path)) for room, path in rooms), (face[1], face[0])]
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path, module in sources
        for line, name in imports(path.read_text(), module, is_package=path.stem == "__init__")
        if name.startswith(("hybridstitch.verify", "hybridstitch.evaluation"))
    ]
    assert not wrong, "\n" + "\n".join(wrong)


def test_a_family_of_models_is_known_to_its_protocol_alone():
    families = [f"hybridstitch.models.{folder.name}" for folder in (ROOT / "models").iterdir() if folder.is_dir()]
    families = [name for name in families if not name.endswith("__")]
    assert "hybridstitch.models.sd3" in families
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for room, path in SOURCES
        if (module := module_of(room, path)) != "hybridstitch.models.family"
        for line, name in imports(path.read_text(), module, is_package=path.stem == "__init__")
        for family in families
        if f"{name}.".startswith(f"{family}.") and not f"{module}.".startswith(f"{family}.")
    ]
    assert not wrong, "\n" + "\n".join(wrong)


def test_every_room_is_read():
    assert {room for room, _ in SOURCES} == set(ROOMS)
    packages = {path.parent for path in ROOT.glob("*/__init__.py")} | {path.parent for path in ROOT.glob("*/*.py")}
    known = {ROOT / folder for folder in ROOMS.values()} | {ROOT / name for name in (*OUTSIDE, "hybridstitch")}
    assert {folder for folder in packages if not folder.name.startswith(".")} <= known


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("from ..engines.open import load_engine", "engines/ stands above models/"),
        ("def late():\n    from hybridstitch.runtime import text", "runtime/ stands above models/"),
        ("from .. import verify", "verify/ stands above models/"),
        ("import hybridstitch.cli.run", "cli/ stands above models/"),
        (
            "from importlib import import_module\nimport_module('hybridstitch.export.trace')",
            "export/ stands above",
        ),
        ("from hybridstitch import HybridStitch", "the public face"),
        ("from training.vae import VaeSettings", "training/ is not installed"),
    ],
)
def test_an_arrow_that_runs_back_is_seen_however_it_is_written(source, found):
    whys = [wrong_arrow("models", name) for _, name in imports(source, "hybridstitch.models.weights")]
    assert any(why is not None and why.startswith(found) for why in whys), whys


def test_an_arrow_that_runs_down_is_fine():
    source = "from .component import Port\nfrom ..pairs.recipe import Recipe\nimport torch"
    assert [wrong_arrow("models", name) for _, name in imports(source, "hybridstitch.models.weights")] == [None] * 3
