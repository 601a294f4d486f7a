"""Documents say what the code does."""

import argparse
import json
import re
import tomllib
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from hybridstitch.cli import parser
from hybridstitch.engines.backends import BACKENDS
from hybridstitch.engines.builders.options import BuildOptions
from hybridstitch.method.errors import HybridStitchError
from hybridstitch.method.settings import SETTINGS
from hybridstitch.pairs.recipe import Recipe
from hybridstitch.serving import ServiceOptions

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "docs" / "engines.md").read_text()
SERVING = (ROOT / "docs" / "serving.md").read_text()


def commands(top: argparse.ArgumentParser, name: str = "") -> dict[str, argparse.ArgumentParser]:
    """Every command, and every action of one, by what is typed for it."""
    found = {}
    for action in top._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, below in action.choices.items():
                found |= {f"{name} {word}".strip(): below, **commands(below, f"{name} {word}".strip())}
    return found


def flags(command: argparse.ArgumentParser) -> set[str]:
    """The options that a user may type: what the program passes to its own worker is not shown in the help."""
    shown = [action for action in command._actions if action.help != argparse.SUPPRESS]
    return {word for action in shown for word in action.option_strings if word.startswith("--")} - {"--help"}


@pytest.mark.parametrize("command", ["export", "build", "engines list", "engines prune", "verify", "inspect", "doctor"])
def test_the_guide_to_engines_names_every_option(command):
    title = {"engines list": "build", "engines prune": "build"}.get(command, command)
    section = re.search(rf"^## {title}$(.*?)(?=^## )", GUIDE, re.I | re.M | re.S)
    assert section is not None
    assert not {flag for flag in flags(commands(parser())[command]) if flag not in section[1]}


def test_the_guide_to_engines_names_no_option_that_is_not_there():
    known = set().union(*map(flags, commands(parser()).values()))
    assert set(re.findall(r"--[a-z][a-z-]+", GUIDE)) <= known


def test_the_guide_to_serving_names_every_option_and_no_other():
    rows = set(re.findall(r"--[a-z][a-z-]+", "".join(re.findall(r"^\| (`--[^|]*) \|", SERVING, re.M))))
    assert rows == flags(commands(parser())["serve"])
    known = set().union(*map(flags, commands(parser()).values()))
    docker = {"--rm", "--gpus", "--user", "--build-arg", "--target", "--read-only", "--tmpfs"}
    assert set(re.findall(r"--[a-z][a-z-]+", SERVING)) <= known | docker | {"--help"}


def test_the_guide_to_bench_names_every_option_and_no_other():
    told = set(re.findall(r"--[a-z][a-z-]+", (ROOT / "docs" / "bench.md").read_text()))
    assert told == flags(commands(parser())["bench"])


def test_every_key_of_a_full_recipe_is_explained():
    for name in ("sd3", "sd35"):
        path = ROOT / "hybridstitch" / "pairs" / f"{name}.toml"
        content = tomllib.loads(path.read_text())
        assert content["name"] == name
    told = (ROOT / "hybridstitch" / "pairs" / "sd35.toml").read_text()
    for setting in SETTINGS:
        assert re.search(rf"^(# )?{setting} = .*$", told, re.M), setting


def test_every_option_of_a_build_says_which_backends_have_it():
    rows = re.findall(r"^\| `--([a-z-]+)[^`]*` \| ([^|]+) \|", GUIDE, re.M)
    told = {flag.replace("-", "_"): set(words.split(", ")) for flag, words in rows}
    told["workspace_gib"], told["compute_capabilities"] = told.pop("workspace"), told.pop("compute_capability")
    samples = {
        "workspace_gib": 1.0,
        "optimization_level": 1,
        "compute_capabilities": ("SM89",),
        "timing_cache": Path("t"),
    }
    for option in BuildOptions.__dataclass_fields__:
        sample: Any = samples.get(option, True)
        have = {backend.title for backend in BACKENDS.values() if takes(backend.name, {option: sample})}
        named = {title.title for title in BACKENDS.values() if title.name != "torch"}
        assert (named if told[option] == {"all but torch"} else told[option]) == have, option


def takes(backend: str, options: dict[str, Any]) -> bool:
    try:
        BuildOptions(**options).check(backend)
    except HybridStitchError as error:
        return "has no option" not in str(error)
    return True


def test_the_guide_to_tuning_names_every_option_and_no_other():
    text = (ROOT / "docs" / "tuning.md").read_text()
    rows = set(re.findall(r"--[a-z][a-z-]+", "".join(re.findall(r"^\| (`--[^|]*) \|", text, re.M))))
    assert rows == flags(commands(parser())["tune"])
    assert set(re.findall(r"--[a-z][a-z-]+", text)) <= set().union(*map(flags, commands(parser()).values())) | {
        "--help"
    }


def test_the_example_of_a_schedule_is_one(tmp_path):
    text = (ROOT / "docs" / "tuning.md").read_text()
    path = tmp_path / "fast.toml"
    path.write_text(re.findall(r"```toml\n(.*?)```", text, re.S)[0])
    assert Recipe.load("demo", path).scheduled is not None


def test_the_guide_to_eval_names_every_option_and_no_other():
    text = (ROOT / "docs" / "method.md").read_text()
    rows = set(re.findall(r"--[a-z][a-z-]+", "".join(re.findall(r"^\| (`--[^|]*) \|", text, re.M))))
    assert rows == flags(commands(parser())["eval"])


def test_the_guide_to_scale_names_every_option_of_capacity_and_no_other():
    text = (ROOT / "docs" / "scale.md").read_text()
    rows = set(re.findall(r"--[a-z][a-z0-9-]+", "".join(re.findall(r"^\| (`--[^|]*) \|", text, re.M))))
    assert rows == flags(commands(parser())["capacity"])


def test_the_guide_to_serving_tells_what_the_kills_measured():
    text = (ROOT / "docs" / "serving.md").read_text()
    fronts = json.loads((ROOT / "benchmarks" / "results" / "kills.json").read_text())["fronts"]
    for title, name in (("HTTP", "http"), ("C++", "cpp"), ("Triton", "triton")):
        row, found = re.findall(rf"^\| {re.escape(title)} \|.* s \|.*$", text, re.M), fronts[name]
        seconds = f"{median(found['seconds']):.1f} s | {max(found['seconds']):.1f} s"
        counts = f"{found['asked']} | {found['drawn']} | {found['asked'] - found['drawn']} | 0 |"
        assert any(f"| {seconds} | {counts}" in line for line in row), (title, seconds, counts)


def test_the_guide_to_serving_tells_every_option_of_the_service_with_its_default():
    section = SERVING[SERVING.index("| `Service.load(...)`") : SERVING.index("### How it ends")]
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", section, re.M))
    assert set(ServiceOptions.table()) <= set(rows)
    for name in ServiceOptions.table():
        if (default := ServiceOptions.default(name)) is not None:
            assert rows[name].strip("`") == str(default), name
