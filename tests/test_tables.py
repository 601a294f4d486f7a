"""The tables of the documents are what was measured."""

import json

import pytest

from benchmarks.documents import measured, tables


@pytest.fixture
def document(tmp_path, monkeypatch):
    """A document of its own with one table, and results that can be changed."""
    results = tmp_path / "results"
    results.mkdir()
    for path in measured.RESULTS.glob("*.json"):
        (results / path.name).symlink_to(path)
    page = tmp_path / "page.md"
    page.write_text("Before.\n\n<!-- table refresh -->\n<!-- end -->\n\nAfter.\n")
    monkeypatch.setattr(tables, "ROOT", tmp_path)
    monkeypatch.setattr(measured, "RESULTS", results)
    monkeypatch.setattr(tables, "DOCUMENTS", ("page.md",))
    measured.result.cache_clear()
    yield page
    measured.result.cache_clear()


def test_every_table_of_the_documents_says_what_was_measured(capsys):
    assert tables.main(["--check"]) == 0, capsys.readouterr().out


def test_every_table_stands_in_a_document():
    named = {block[1] for name in tables.DOCUMENTS for block in tables.BLOCK.findall((tables.ROOT / name).read_text())}
    assert named == set(tables.TABLES)


def test_a_table_is_written_and_what_stands_around_it_stays(document, capsys):
    assert tables.main(["--check"]) == 1
    assert capsys.readouterr().out == "page.md: differs from what was measured\n"
    assert tables.main([]) == 0
    text = document.read_text()
    assert text.startswith("Before.\n\n<!-- table refresh -->\n| full steps among the held ones | none |")
    assert text.endswith(" |\n<!-- end -->\n\nAfter.\n")
    assert tables.main(["--check"]) == 0


def test_another_measurement_is_told(document):
    tables.main([])
    path = measured.RESULTS / "eval-demo-refresh.json"
    found = json.loads(path.read_text())
    row = next(row for row in found["rows"] if row["variant"] == "refresh every 1")
    row["means"]["psnr"]["mean"] = 12.34
    path.unlink()
    path.write_text(json.dumps(found))
    measured.result.cache_clear()
    assert tables.main(["--check"]) == 1
    tables.main([])
    assert "12.3 dB" in document.read_text()


def test_a_table_nobody_knows_is_refused(document, capsys):
    document.write_text("<!-- table prices -->\n<!-- end -->\n")
    assert tables.main([]) == 2
    assert capsys.readouterr().err.startswith("page.md: no table 'prices'; there are readme, methods,")


def test_what_was_not_measured_is_told_and_the_document_stays(document, capsys):
    path = measured.RESULTS / "eval-demo-refresh.json"
    found = json.loads(path.read_text())
    found["rows"] = [row for row in found["rows"] if row["variant"] != "refresh every 4"]
    path.unlink()
    before = document.read_text()
    assert tables.main([]) == 2
    assert capsys.readouterr().err == "page.md: benchmarks/results/eval-demo-refresh.json: No such file or directory\n"
    path.write_text(json.dumps(found))
    assert tables.main([]) == 2
    assert capsys.readouterr().err == "page.md: eval-demo-refresh.json has no variant 'refresh every 4'\n"
    assert document.read_text() == before


@pytest.mark.parametrize(
    ("interval", "text", "better"),
    [
        ({"mean": 1.25, "low": 0.75, "high": 1.75}, "+1.2 ± 0.5", True),
        ({"mean": -0.1, "low": -0.5, "high": 0.3}, "-0.1 ± 0.4", False),
        (None, "", False),
    ],
)
def test_a_difference_is_shown_with_half_of_its_interval(interval, text, better):
    assert measured.beside(interval) == text
    assert measured.better(interval) is better
