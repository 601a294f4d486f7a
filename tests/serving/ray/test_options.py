"""Options of an application on Ray, and what Ray is told before it starts: no Ray is needed for either."""

import os

import pytest

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.pairs.recipe import Recipe
from hybridstitch.serving.ray import environment
from hybridstitch.serving.ray.environment import prepare_own_ray
from hybridstitch.serving.ray.options import ApplicationOptions, schedule_config, scheduled_recipe


def test_paths_become_absolute_since_replicas_run_in_folders_of_their_own(demo_engines, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fast.toml").write_text('method = "small"\n')
    settled = ApplicationOptions(
        engines=os.path.relpath(demo_engines), schedule="fast.toml", api_key_file="keys"
    ).settled()
    assert settled.engines == str(demo_engines)
    assert (settled.schedule, settled.api_key_file) == (str(tmp_path / "fast.toml"), str(tmp_path / "keys"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"min_replicas": 2}, r"max replicas \(1\) are fewer than min \(2\)"),
        ({"pair": "nope"}, "unknown pair 'nope'"),
        ({"engines": "/nowhere"}, "/nowhere"),
        ({"schedule": "/nowhere.toml"}, "schedule /nowhere.toml cannot be read"),
    ],
)
def test_options_that_cannot_be_are_refused_before_anything_starts(options, words):
    with pytest.raises(HybridStitchError, match=words):
        ApplicationOptions(**options).settled()


def test_a_schedule_goes_to_the_door_by_its_content(tmp_path):
    path = tmp_path / "fast.toml"
    path.write_text('method = "small"\nsteps = 3\n')
    config = schedule_config(str(path))
    path.unlink()
    assert scheduled_recipe(ApplicationOptions(), config).scheduled is not None
    assert scheduled_recipe(ApplicationOptions(), schedule_config(None)) == Recipe.load("demo")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home folder, and an environment that says nothing of Ray."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in [*environment.SETTINGS, "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"]:
        monkeypatch.setenv(name, "")  # so that it is put back afterwards
        monkeypatch.delenv(name)
    return tmp_path


def test_a_ray_of_its_own_asks_for_a_token_that_others_cannot_read(home):
    prepare_own_ray()
    token = home / ".ray" / "auth_token"
    assert os.environ["RAY_AUTH_MODE"] == "token"
    assert (len(token.read_text()), token.stat().st_mode & 0o777) == (64, 0o600)
    before = token.read_text()
    token.chmod(0o644)  # as Ray writes it
    prepare_own_ray()
    assert (token.read_text(), token.stat().st_mode & 0o777) == (before, 0o600)


def test_what_the_user_has_told_ray_stays(home, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    prepare_own_ray()
    assert os.environ["RAY_AUTH_MODE"] == "disabled"
    assert not (home / ".ray").exists()
