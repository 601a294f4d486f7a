"""Schedules: what their files may say, what goes before what, and the line that a wrong one gets."""

import os
import tomllib

import pytest

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.method.settings import METHODS, settings_from
from hybridstitch.pairs.parameters import make_parameters
from hybridstitch.pairs.recipe import Recipe
from hybridstitch.pairs.schedule_file import ScheduleFile, read_schedule, write_schedule

DEMO = Recipe.load("demo")
FAST = """
method = "srdiffusion"
steps = 14
guidance = 4
large_steps = 6
residual = "off"

[tuned]
pair = "demo"
seconds = 0.2
"""


@pytest.fixture
def schedule(tmp_path):
    """A schedule's file of some content."""

    def write(content: str = FAST):
        path = tmp_path / "fast.toml"
        path.write_text(content, encoding="utf-8-sig")  # with the mark that Windows editors put first
        return path

    return write


def own_recipe(folder, first_line):
    """The demo pair, by a recipe of one's own with one more line."""
    text = (DEMO.folder / "demo.toml").read_text().replace('"demo/', f'"{DEMO.folder}/demo/')
    path = folder / "mine.toml"
    path.write_text(f"{first_line}\n{text}")
    return path


def test_a_schedule_gives_method_and_settings_before_the_recipe(schedule):
    parameters = make_parameters(Recipe.load("demo", schedule()))
    assert (parameters.method, parameters.guidance, parameters.residual) == ("srdiffusion", 4.0, None)
    assert (parameters.schedule.steps, parameters.schedule.large_until) == (14, 6)


def test_what_a_schedule_leaves_out_is_the_recipes_scaled_to_its_steps(schedule):
    parameters = make_parameters(Recipe.load("demo", schedule('method = "hybrid"\nsteps = 14\nmask_ratio = 0.15')))
    assert parameters == make_parameters(DEMO, "hybrid", steps=14, mask_ratio=0.15)


def test_what_a_run_says_goes_before_a_schedule_whose_stages_scale_with_the_steps(schedule):
    recipe = Recipe.load("demo", schedule())
    assert make_parameters(recipe, guidance=2.0).guidance == 2.0
    assert make_parameters(recipe, steps=28).schedule.large_until == 12
    assert make_parameters(recipe, large_steps=3).schedule.large_until == 3


def test_another_method_than_the_schedules_is_the_recipes_with_its_steps(schedule):
    recipe = Recipe.load("demo", schedule())
    for method in set(METHODS) - {"srdiffusion"}:
        assert make_parameters(recipe, method) == make_parameters(DEMO, method)


def test_a_recipe_names_a_schedule_relative_to_itself_and_a_run_may_name_another(tmp_path, schedule, monkeypatch):
    path = own_recipe(tmp_path, 'schedule = "fast.toml"')
    schedule()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert make_parameters(Recipe.load(path)) == make_parameters(Recipe.load("demo", tmp_path / "fast.toml"))
    other = tmp_path / "other.toml"
    other.write_text('method = "large"\nsteps = 9')
    parameters = make_parameters(Recipe.load(path, other))
    assert (parameters.method, parameters.schedule.steps) == ("large", 9)
    assert make_parameters(Recipe.load(path, other), "srdiffusion") == make_parameters(DEMO, "srdiffusion")


def test_a_schedule_may_switch_adaptively_and_a_run_may_turn_that_off(schedule):
    recipe = Recipe.load("demo", schedule('method = "hybrid"\nsteps = 14\nadaptive = 0.2'))
    assert make_parameters(recipe).adaptive == 0.2
    assert make_parameters(recipe, adaptive="off") == make_parameters(DEMO, "hybrid", steps=14)


@pytest.mark.parametrize("method", METHODS)
def test_a_schedule_that_was_written_reads_as_the_same_plan(tmp_path, method):
    parameters = make_parameters(DEMO, method, steps=11, guidance=4.5)
    facts = {"pair": "demo", "said": 'a "quoted" \\ line\nand another', "versions": {"torch": "2.13"}, "busy": True}
    path = tmp_path / "made.toml"
    write_schedule(ScheduleFile(path, method, settings_from(parameters.as_dict()), facts), "found\nby a test")
    assert make_parameters(Recipe.load("demo", path)) == parameters
    assert read_schedule(path).tuned == facts
    assert path.read_text().startswith("# found\n# by a test\nmethod = ")
    assert os.listdir(tmp_path) == ["made.toml"]


def test_every_setting_that_a_schedule_writes_is_one_that_it_reads(tmp_path):
    parameters = make_parameters(DEMO, "hybrid", score="change", residual=2.5, refresh_every=3)
    path = tmp_path / "made.toml"
    write_schedule(ScheduleFile(path, "hybrid", settings_from(parameters.as_dict())))
    assert tomllib.loads(path.read_text()) == {"method": "hybrid", **settings_from(parameters.as_dict())}


def test_a_schedule_that_cannot_be_written_is_told_and_leaves_nothing(tmp_path):
    with pytest.raises(HybridStitchError, match=r"cannot write .*none/fast.toml: No such file"):
        write_schedule(ScheduleFile(tmp_path / "none" / "fast.toml", "large", {}))
    (tmp_path / "fast.toml").mkdir()
    with pytest.raises(HybridStitchError, match=r"cannot write .*fast.toml: Is a directory"):
        write_schedule(ScheduleFile(tmp_path / "fast.toml", "large", {}))
    assert os.listdir(tmp_path) == ["fast.toml"]


WRONG = [
    ('method = "hybrid"\nlarge_step = 3', "unknown key 'large_step'; did you mean 'large_steps'?"),
    ('method = "hybrid"\ncolour = 3', "unknown key 'colour'; known: method, steps, guidance, large_steps"),
    ("steps = 3", "key 'method' is missing; one of hybrid, large, small"),
    ('method = "magic"', "unknown method 'magic'; known: hybrid, large"),
    ("method = [1]", r"unknown method \[1\]; known: hybrid"),
    ('method = "large"\nsteps = "9"', "fast.toml: steps must be a whole number from 1 to 1000, not '9'"),
    ('method = "large"\nsteps = 0', "fast.toml: steps must be a whole number from 1 to 1000, not 0"),
    ('method = "large"\nguidance = true', "fast.toml: guidance must be a number, not True"),
    ('method = "hybrid"\nmask_ratio = 1.5', "fast.toml: mask ratio must be from 0 to 1, not 1.5"),
    ('method = "hybrid"\nscore = "luck"', "fast.toml: unknown score 'luck'; known: gap, change"),
    ('method = "large"\nmask_ratio = 0.5', "fast.toml: method 'large' has no setting 'mask_ratio'"),
    (
        'method = "hybrid"\nsteps = 9\nlarge_steps = 5\nhybrid_steps = 5',
        "fast.toml: 5 large and 5 hybrid steps do not fit into 9 steps",
    ),
    ('method = "hybrid"\nadaptive = 0.1\nlarge_steps = 3', "fast.toml: adaptive switching finds the stage ends itself"),
    ('method = "large"\ntuned = 3', r"tuned must be a table of facts, \[tuned\], not 3"),
    (
        'method = "large"\n[tuned]\npair = "sd35"',
        "was tuned for pair 'sd35', not for 'demo'; tune one for it: hybridstitch-trt tune --pair demo",
    ),
    ("method = ", "fast.toml is not TOML: "),
    (f"method = {'[' * 9999}", "fast.toml is not TOML: maximum recursion depth"),
]


@pytest.mark.parametrize(("content", "words"), WRONG, ids=[words[:40] for _, words in WRONG])
def test_a_wrong_schedule_gets_one_line_that_names_file_and_key(schedule, content, words):
    with pytest.raises(HybridStitchError, match=words) as caught:
        Recipe.load("demo", schedule(content))
    assert "\n" not in str(caught.value)
    assert "fast.toml" in str(caught.value)


def test_a_schedule_that_cannot_be_read_is_told(tmp_path):
    with pytest.raises(HybridStitchError, match=r"schedule .*none.toml cannot be read: No such file"):
        Recipe.load("demo", tmp_path / "none.toml")
    with pytest.raises(HybridStitchError, match=r"cannot be read: Is a directory"):
        Recipe.load("demo", tmp_path)
    with pytest.raises(HybridStitchError, match=r"schedule .*gone.toml cannot be read"):
        Recipe.load(own_recipe(tmp_path, 'schedule = "gone.toml"'))
    (tmp_path / "picture.toml").write_bytes(b"\x89PNG\xff")
    with pytest.raises(HybridStitchError, match=r"picture.toml is not TOML: 'utf-8'"):
        Recipe.load("demo", tmp_path / "picture.toml")
