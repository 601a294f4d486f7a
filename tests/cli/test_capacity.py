"""`hybridstitch-trt capacity`: what it says and refuses."""

import json

import pytest

from hybridstitch.cli import capacity, main

TIMES = {"kinds": {"quick": {"seconds": [0.2, 0.25, 0.3]}, "slow": {"seconds": [1.0, 1.2]}}}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with service times and a mix, which it is run in."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "times.json").write_text(json.dumps(TIMES))
    (tmp_path / "mix.toml").write_text("quick = 0.8\nslow = 0.2\n")
    return tmp_path


def called(capsys, *arguments: str) -> tuple[int | str | None, str, str]:
    try:
        code = main(["capacity", *arguments])
    except SystemExit as stop:
        code = stop.code
    told = capsys.readouterr()
    return code, told.out, told.err


def test_a_table_has_model_and_simulation_side_by_side_and_a_sentence_has_the_answer(capsys, here):
    code, stdout, _ = called(capsys, "--rate", "10", "--p95", "1.5", "--service-times", "times.json")
    assert code == 0
    assert "A picture of this mix alone takes 0.675 s on average and 1.2 s at p95 (times.json)." in stdout
    for word in ("replicas", "utilisation", "model", "simulated", "*"):
        assert word in stdout
    assert "10 requests a second with a p95 of 1.5 s take " in stdout.splitlines()[-1]


@pytest.mark.parametrize("mix", [("--mix", "mix.toml"), ("--share", "quick=0.8", "--share", "slow=0.2")])
def test_shares_are_taken_from_a_file_or_from_the_command_line(capsys, here, mix):
    fixed = ("--rate", "10", "--p95", "1.5", "--service-times", "times.json", "--json")
    report = json.loads(called(capsys, *fixed, *mix)[1])
    assert report["mix"] == {"quick": 0.8, "slow": 0.2}
    assert report["service"]["mean"] == pytest.approx(0.42)
    assert report["replicas"] == max(report["by_model"], report["by_simulation"])
    assert report["replicas"] < json.loads(called(capsys, *fixed)[1])["replicas"]


def test_in_a_checkout_the_demo_pairs_measured_times_are_the_default(capsys):
    report = json.loads(called(capsys, "--rate", "20", "--p95", "10", "--json")[1])
    assert "python -m benchmarks.service_times" in report["service_times"]["command"]
    assert "hybrid-128x128" in report["mix"]


def test_without_measured_times_it_says_how_to_get_some(capsys, here, monkeypatch):
    monkeypatch.setattr(capacity, "MEASURED", here / "none.json")
    code, _, stderr = called(capsys, "--rate", "20", "--p95", "3")
    assert code == 2
    assert "no service times come along: give some with --service-times FILE" in stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--p95", "3"], "the following arguments are required: --rate"),
        (["--rate", "0", "--p95", "3"], "rate must be over 0 and at most 100000, not 0"),
        (["--rate", "many", "--p95", "3"], "rate must be a number, not 'many'"),
        (["--rate", "1", "--p95", "nan"], "p95 must be a number, not nan"),
        (["--rate", "1", "--p95", "0.1"], "no number of replicas gives a p95 of 0.1 s"),
        (["--rate", "99999", "--p95", "3"], "it takes at least 67500 replicas; at most 10000"),
        (["--rate", "1", "--p95", "3", "--share", "quick"], "a share is NAME=0.3, not 'quick'"),
        (["--rate", "1", "--p95", "3", "--share", "quick=much"], "a share is NAME=0.3, not 'quick=much'"),
        (["--rate", "1", "--p95", "3", "--share", "quick=0.5"], "the shares add up to 0.5, not to 1"),
        (["--rate", "1", "--p95", "3", "--share", "quick=-1"], "share quick must be over 0, not -1"),
        (["--rate", "1", "--p95", "3", "--share", "quick=nan"], "share quick must be a number, not nan"),
        (["--rate", "1", "--p95", "3", "--share", "qick=1"], "no service times of 'qick'; did you mean 'quick'?"),
        (["--rate", "1", "--p95", "3", "--share", "a=1", "--share", "a=1"], "--share a is given more than once"),
        (["--rate", "1", "--p95", "3", "--share", "a=1", "--mix", "m"], "argument --mix: not allowed with"),
        (["--rate", "1", "--p95", "3", "--mix", "none.toml"], "mix none.toml cannot be read: No such file"),
        (["--rate", "1", "--p95", "3", "--mix", "times.json"], "mix times.json is not TOML"),
        (["--rate", "1", "--p95", "3", "--mix", "text.toml"], "mix text.toml: share quick must be a number, not 'all'"),
        (["--rate", "1", "--p95", "3", "--mix", "empty.toml"], "mix empty.toml: a mix has at least one share"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_gets_one_line_and_exit_code_2(capsys, here, arguments, words):
    (here / "text.toml").write_text('quick = "all"')
    (here / "empty.toml").write_text("")
    code, stdout, stderr = called(capsys, *arguments, "--service-times", "times.json")
    assert (code, stdout) == (2, "")
    assert words in stderr
    assert stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "are not JSON"),
        ("[]", 'expected {"kinds": {NAME: {"seconds": [...]}}}'),
        ('{"kinds": {}}', 'expected {"kinds"'),
        ('{"kinds": {"a": [1]}}', "'a' has no list of seconds"),
        ('{"kinds": {"a": {"seconds": []}}}', "'a' has no list of seconds"),
        ('{"kinds": {"a": {"seconds": ["1"]}}}', "'a': seconds must be a number, not '1'"),
        ('{"kinds": {"a": {"seconds": [NaN]}}}', "'a': seconds must be a number, not nan"),
        ('{"kinds": {"a": {"seconds": [1, 0]}}}', "'a': seconds must be over 0, not 0"),
    ],
)
def test_service_times_of_another_form_are_refused_by_file_and_kind(capsys, here, text, words):
    (here / "bad.json").write_text(text)
    code, _, stderr = called(capsys, "--rate", "1", "--p95", "3", "--service-times", "bad.json")
    assert code == 2
    assert stderr.startswith("hybridstitch-trt capacity: service times bad.json")
    assert words in stderr
    assert stderr.count("\n") == 1
