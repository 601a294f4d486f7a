"""What measures the figures of the documents."""

import json

import pytest

from benchmarks.documents import figures, measured, moving_on, tables
from benchmarks.documents.figures import FIGURES, Figure

SCRIPT = """
import json, pathlib, sys
out = pathlib.Path(sys.argv[sys.argv.index("--out") + 1])
(out / "methods").mkdir(parents=True)
(out / "methods" / "closeness.png").write_bytes(b"a plot")
(out / "methods.json").write_text(json.dumps({"about": {"command": "as it ran", "captions": 3}, "rows": []}))
"""


@pytest.fixture
def places(tmp_path, monkeypatch):
    """A checkout of its own, with an evaluation that takes no time."""
    for name in ("results", "images"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(figures, "ROOT", tmp_path)
    monkeypatch.setattr(figures, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(figures, "IMAGES", tmp_path / "images")
    (tmp_path / "quick.py").write_text(SCRIPT)
    (tmp_path / "broken.py").write_text(SCRIPT + "sys.exit(3)")
    quick = Figure("python quick.py --count 3", "eval-quick", "methods.json", images=("closeness.png",))
    broken = Figure("python broken.py", "eval-broken", "methods.json")
    monkeypatch.setattr(figures, "FIGURES", {"quick": quick, "broken": broken})
    return tmp_path


def test_a_measurement_is_kept_with_the_command_that_anyone_can_run(places, capfd):
    assert figures.main(["quick", "--core", "0", "--out", "out/here"]) == 0
    assert capfd.readouterr().out == "taskset -c 0 python quick.py --count 3 --out out/here/quick\n"
    about = json.loads((places / "results" / "eval-quick.json").read_text())["about"]
    assert about == {"command": "taskset -c 0 python quick.py --count 3", "captions": 3}
    assert (places / "images" / "closeness.png").read_bytes() == b"a plot"


def test_of_a_measurement_that_failed_nothing_is_kept_and_none_follows(places, capfd):
    assert figures.main(["broken", "quick"]) == 3
    assert capfd.readouterr().err == "broken: exit code 3; nothing of it was kept\n"
    assert not list((places / "results").iterdir())


def test_a_figure_nobody_knows_is_refused_before_anything_runs(places, capfd):
    with pytest.raises(SystemExit) as exit:
        figures.main(["quick", "slow"])
    assert exit.value.code == 2
    assert "no figure 'slow'; there are quick, broken, all" in capfd.readouterr().err
    assert not list((places / "results").iterdir())


def test_the_list_names_every_command(capsys):
    assert figures.main([]) == 0
    told = capsys.readouterr().out
    assert all(figure.command in told for figure in FIGURES.values())


def test_every_result_of_a_table_has_a_command(monkeypatch):
    asked = set()
    for module in (measured, moving_on, tables):
        monkeypatch.setattr(module, "result", lambda name, real=measured.result: asked.add(name) or real(name))
    for table in tables.TABLES.values():
        table()
    assert asked <= {figure.result for figure in FIGURES.values()}
