"""`--schedule`: what a file gives to `run` and `serve`, and to the same from Python."""

import json

import pytest

from hybridstitch.cli import main
from hybridstitch.pairs.recipe import Recipe
from hybridstitch.runtime.pipeline import HybridStitch
from hybridstitch.serving.http.models import describe
from hybridstitch.serving.service import Service

HEART = "a large plain green heart on a grey background"


@pytest.fixture
def fast(tmp_path):
    path = tmp_path / "fast.toml"
    path.write_text('method = "srdiffusion"\nsteps = 4\nlarge_steps = 2\n[tuned]\npair = "demo"\n')
    return str(path)


def test_run_draws_by_a_schedule_and_flags_go_before_it(demo_engines, tmp_path, fast, capsys):
    draw = ["run", "--engines", str(demo_engines), "--schedule", fast, "--prompt", HEART, "--out", str(tmp_path)]
    assert main([*draw, "--json"]) == 0
    parameters = json.loads(capsys.readouterr().out)["parameters"]
    assert (parameters["method"], parameters["steps"], parameters["large_steps"]) == ("srdiffusion", 4, 2)
    assert main([*draw, "--large-steps", "1", "--json"]) == 0
    parameters = json.loads(capsys.readouterr().out)["parameters"]
    assert (parameters["method"], parameters["steps"], parameters["large_steps"]) == ("srdiffusion", 4, 1)


def test_a_pipeline_and_a_service_draw_by_the_same_schedule(demo_engines, fast):
    with HybridStitch.load("demo", engines=demo_engines, schedule=fast) as pipe:
        parameters = pipe(HEART).pictures[0].parameters
    with Service.load("demo", engines=demo_engines, schedule=fast, warm_up=False) as service:
        assert service.resolve(HEART).parameters == parameters
    assert (parameters.method, parameters.schedule.steps) == ("srdiffusion", 4)


def test_a_server_with_a_schedule_says_so_to_whoever_asks_for_its_defaults(fast):
    told = describe(Recipe.load("demo", fast), 0)
    assert told["default_method"] == "srdiffusion"
    assert told["methods"]["srdiffusion"]["num_inference_steps"] == 4
    assert told["methods"]["large"]["num_inference_steps"] == 28


@pytest.mark.parametrize("command", [["run", "--prompt", HEART], ["serve", "--port", "0"]], ids=["run", "serve"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('method = "hybrid"\nmask_ratios = 0.3', "unknown key 'mask_ratios'; did you mean 'mask_ratio'?"),
        ('method = "hybrid"\nmask_ratio = 2', "mask ratio must be from 0 to 1, not 2"),
        ('method = "hybrid"\nsteps = "x"', "steps must be a whole number from 1 to 1000, not 'x'"),
        ("method", "is not TOML"),
        (None, "cannot be read: No such file"),
        ('method = "large"\n[tuned]\npair = "sd35"', "was tuned for pair 'sd35', not for 'demo'"),
    ],
    ids=["key", "range", "type", "TOML", "file", "pair"],
)
def test_a_wrong_schedule_gets_one_line_and_exit_code_2(capsys, tmp_path, command, content, words):
    path = tmp_path / "wrong.toml"
    if content is not None:
        path.write_text(content)
    assert main([*command, "--schedule", str(path)]) == 2
    told = capsys.readouterr().err
    assert words in told
    assert told.count("\n") == 1


def test_a_picture_to_draw_like_has_its_own_settings(capsys, fast):
    assert main(["run", "--like", "a.png", "--schedule", fast]) == 2
    assert "--like takes method and settings from the picture; leave out --schedule" in capsys.readouterr().err
