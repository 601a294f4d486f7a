"""What is built, listed; what is out of date, removed; what is anybody else's, left alone."""

import json
import shutil

import pytest

from hybridstitch.cli import main
from hybridstitch.engines.store.inventory import inventory, prune
from hybridstitch.method.errors import HybridStitchError


@pytest.fixture
def built(demo_engines, tmp_path):
    """A copy of the demo engines in which the small one is of an older backend."""
    folder = tmp_path / "build" / "demo" / "onnxruntime"
    shutil.copytree(demo_engines, folder)
    manifest = folder / "small" / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "backend_version": "0.1"}))
    return tmp_path / "build"


def test_every_engine_is_listed_with_what_is_wrong_with_it(built):
    entries = {entry.component: entry for entry in inventory(built)}
    assert set(entries) == {"large", "small", "text_encoder", "text_encoder_2", "vae_decoder"}
    assert entries["large"].problems == ()
    assert entries["large"].bytes > 1e6
    assert "0.1" in entries["small"].problems[0]


def test_prune_removes_what_must_be_built_again_and_nothing_else(built):
    stranger = built / "site" / "manifest.json"
    stranger.parent.mkdir()
    stranger.write_text("{}")
    note = built / "demo" / "onnxruntime" / "small" / "note.txt"
    note.write_text("mine")
    assert [entry.component for entry in prune(built, dry_run=True)] == ["small"]
    assert len(list((built / "demo" / "onnxruntime" / "small").iterdir())) > 1
    assert [entry.component for entry in prune(built)] == ["small"]
    assert stranger.exists()
    assert [path.name for path in note.parent.iterdir()] == ["note.txt"]
    assert "small" not in {entry.component for entry in inventory(built) if entry.manifest}
    assert prune(built) == []


def test_prune_leaves_what_a_build_made_anew_while_it_waited(built, monkeypatch):
    seen = inventory(built)
    fresh = built / "demo" / "onnxruntime" / "small" / "manifest.json"
    version = json.loads((fresh.parent.parent / "large" / "manifest.json").read_text())["backend_version"]
    fresh.write_text(json.dumps({**json.loads(fresh.read_text()), "backend_version": version}))
    monkeypatch.setattr("hybridstitch.engines.store.inventory.inventory", lambda root: seen)
    assert prune(built) == []
    assert fresh.exists()


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(HybridStitchError, match=r"there is no folder .*none"):
        inventory(tmp_path / "none")


def test_the_command_lists_and_prunes(built, capsys):
    assert main(["engines", "list", "--dir", str(built)]) == 0
    assert "vae_decoder" in capsys.readouterr().out
    assert main(["engines", "prune", "--dir", str(built), "--dry-run", "--json"]) == 0
    assert [entry["component"] for entry in json.loads(capsys.readouterr().out)] == ["small"]
    assert main(["engines", "prune", "--dir", str(built)]) == 0
    assert "1 engine removed" in capsys.readouterr().out
    assert main(["engines", "list", "--dir", str(built / "none")]) == 2
