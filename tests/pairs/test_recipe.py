"""Recipes: what a TOML file may say, and the line that a wrong one gets."""

import pytest

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.method.size import Size
from hybridstitch.pairs.recipe import Recipe, recipe_names

GOOD = """
name = "mine"
[large]
path = "large"
[small]
path = "small"
[profiles]
sizes = ["64x64"]
[defaults]
size = "64x64"
"""


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_that_comes_with_the_package_loads(name):
    assert Recipe.load(name).name == name


def test_a_checkpoint_is_named_relative_to_its_recipe(tmp_path):
    (tmp_path / "large").mkdir()
    (tmp_path / "mine.toml").write_text(GOOD, encoding="utf-8-sig")  # with the mark that Windows editors put first
    assert Recipe.load(tmp_path / "mine.toml").checkpoint("large") == tmp_path / "large"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("[profiles]", "colour = 3\n[profiles]"), "unknown key 'small.colour'"),
        (('sizes = ["64x64"]', ""), "key 'profiles.sizes' is missing"),
        (('sizes = ["64x64"]', 'sizes = ["64"]'), "size '64' is not WIDTHxHEIGHT"),
        (('name = "mine"', "name = "), "is not TOML"),
        (('size = "64x64"', 'size = "64x64"\nsteps = 0'), "defaults.steps"),
        (
            ('size = "64x64"', 'size = "64x64"\nsteps = true'),
            "defaults.steps: steps must be a whole number from 1 to 1000, not True",
        ),
        (('size = "64x64"', 'size = "32x32"'), "defaults.size 32x32 is none of profiles.sizes: 64x64"),
        (
            ('size = "64x64"', 'size = "64x64"\nmethod = "magic"'),
            "method: Input should be 'hybrid', .*'magic'",
        ),
        (("[defaults]", "[methods.magic]\n[defaults]"), "methods.magic: Input should be 'hybrid'"),
        (("[defaults]", "[methods.t-stitch]\nresidual = 2\n[defaults]"), "methods.t-stitch has no setting 'residual'"),
        (
            ("[defaults]", "[methods.hybrid]\nlarge_steps = 29\n[defaults]"),
            "methods.hybrid: 29 large and .* hybrid steps do not fit into 28 steps",
        ),
        (
            ("[defaults]", "[methods.hybrid]\nsteps = 10\nlarge_steps = 9\nhybrid_steps = 2\n[defaults]"),
            "methods.hybrid: 9 large and 2 hybrid steps do not fit into 10 steps",
        ),
        (
            ("[defaults]", "[methods.hybrid]\ngrid = 12\n[defaults]"),
            "methods.hybrid: grid must be 0 or at least the steps, 28, not 12",
        ),
        (("[defaults]", "[methods.hybrid]\nguidance = 2\n[defaults]"), "methods.hybrid has no setting 'guidance'"),
        (('path = "large"', 'path = ""'), "large.path: String should have at least 1 character"),
        (('name = "mine"', f"name = {'[' * 9999}"), "is not TOML: maximum recursion depth"),
        (('name = "mine"', f"name = {'9' * 9999}"), "is not TOML: Exceeds the limit"),
    ],
)
def test_a_wrong_recipe_gets_one_line_that_names_the_key(tmp_path, change, words):
    path = tmp_path / "mine.toml"
    path.write_text(GOOD.replace(*change))
    with pytest.raises(HybridStitchError, match=words) as caught:
        Recipe.load(path)
    assert "\n" not in str(caught.value)


def test_an_unknown_pair_is_told_what_there_is(tmp_path):
    with pytest.raises(HybridStitchError, match=r"unknown pair 'nope'; known: .*demo.*, or a path"):
        Recipe.load("nope")
    with pytest.raises(HybridStitchError, match="cannot be read: No such file"):
        Recipe.load(tmp_path / "none.toml")


def test_a_checkpoint_that_is_not_there_is_told(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(GOOD)
    with pytest.raises(HybridStitchError, match="the large checkpoint of pair 'mine', large, is not a folder"):
        Recipe.load(path).checkpoint("large")


def test_a_hub_id_that_cannot_be_had_is_told_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    path = tmp_path / "mine.toml"
    path.write_text(GOOD.replace('path = "large"', 'path = "nobody/nothing-at-all"'))
    with pytest.raises(HybridStitchError, match="nobody/nothing-at-all, is no folder here and the hub gave") as caught:
        Recipe.load(path).checkpoint("large")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "64", "0x64", "64x", "-8x8", "64x64x3", "64X64", "1e3x8", (64, 64), None, Size(-8, -8), Size(8, True)]
)
def test_a_size_is_two_positive_whole_numbers(text):
    with pytest.raises(HybridStitchError, match="is not WIDTHxHEIGHT in pixels"):
        Size.parse(text)
    assert Size.parse("96x160") == Size(96, 160)
