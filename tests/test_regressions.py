"""A fresh bench is compared with a stored one by its ratios, and what got worse by more than noise is named."""

import copy
import json

import pytest

from benchmarks import regressions


def method(speedup=1.0, overhead=0.05, db=None, **parameters):
    return {
        "seconds": 1 / speedup,
        "speedup": speedup,
        "speedup_quartiles": [speedup - 0.06, speedup + 0.06],
        "overhead": overhead,
        "overhead_quartiles": [overhead - 0.004, overhead + 0.004],
        "psnr_to_large_db": db and sum(db) / len(db),
        "psnr_of_each_db": db or [],
        "parameters": parameters,
    }


@pytest.fixture
def stored():
    return {
        "machine": {"processor": "one", "cores": 2},
        "pair": "demo",
        "backend": "onnxruntime",
        "size": "128x128",
        "steps": 28,
        "guidance": 3.5,
        "cases": [{"prompt": "a star", "seed": 0}, {"prompt": "a ring", "seed": 1}],
        "methods": {
            "large": method(),
            "hybrid": method(1.9, db=[22.0, 24.0]),
            "large@14": method(1.9, db=[30.0, 34.0]),
            "large@fewer": method(1.9, db=[30.0, 34.0]),
        },
        "masked_call": [
            {"tokens": 80, "share_of_full": 0.44, "share_of_full_quartiles": [0.43, 0.45], "flops_share": 0.4}
        ],
    }


@pytest.fixture
def check(stored, tmp_path, capsys):
    def run(fresh):
        paths = [tmp_path / "stored.json", tmp_path / "fresh.json"]
        for path, found in zip(paths, (stored, fresh), strict=True):
            path.write_text(json.dumps(found))
        code = regressions.main([str(path) for path in paths])
        output = capsys.readouterr()
        return code, output.out.splitlines(), output.err.strip()

    return run


@pytest.fixture
def fresh(stored):
    return copy.deepcopy(stored)


def test_the_same_measurement_again_is_no_regression(check, fresh):
    assert check(fresh) == (0, ["ratios compared: 8; worse: 0"], "")


def test_seconds_are_never_compared(check, fresh):
    for row in fresh["methods"].values():
        row["seconds"] *= 10
    assert check(fresh)[0] == 0


def test_a_speedup_that_falls_by_more_than_noise_is_named_with_its_values(check, fresh):
    fresh["methods"]["hybrid"]["speedup"] = 1.7
    code, lines, _ = check(fresh)
    assert code == 1
    assert lines == ["hybrid: speedup: 1.7, stored 1.9; worse by 0.2, noise 0.085", "ratios compared: 8; worse: 1"]


def test_a_fall_within_the_quartiles_of_both_is_none(check, fresh):
    fresh["methods"]["hybrid"]["speedup"] = 1.82  # 0.08 less; noise is 0.06 * sqrt(2)
    assert check(fresh)[0] == 0


def test_a_very_steady_machine_still_has_the_least_noise(check, stored, fresh):
    for found in (stored, fresh):
        found["methods"]["hybrid"]["speedup_quartiles"] = [1.9, 1.9]
    fresh["methods"]["hybrid"]["speedup"] = 1.86
    assert check(fresh)[0] == 0
    fresh["methods"]["hybrid"]["speedup"] = 1.83
    assert check(fresh)[1][0] == "hybrid: speedup: 1.83, stored 1.9; worse by 0.07, noise 0.057"


def test_overhead_and_masked_calls_regress_upwards(check, fresh):
    fresh["methods"]["large"]["overhead"] = 0.07
    fresh["methods"]["hybrid"]["overhead"] = 0.01
    fresh["masked_call"][0]["share_of_full"] = 0.5
    code, lines, _ = check(fresh)
    assert code == 1
    assert lines[0] == "large: overhead: 0.07, stored 0.05; worse by 0.02, noise 0.01"
    assert lines[1] == "masked call of 80: share_of_full / flops_share: 1.25, stored 1.1; worse by 0.15, noise 0.035"
    assert len(lines) == 3


def test_closeness_is_compared_picture_by_picture(check, fresh):
    hybrid = fresh["methods"]["hybrid"]
    hybrid |= {"psnr_to_large_db": 22.8, "psnr_of_each_db": [21.8, 23.8]}  # both 0.2 dB farther
    code, lines, _ = check(fresh)
    assert code == 1
    assert lines[0] == "hybrid: psnr_to_large_db: 22.8, stored 23; worse by 0.2, noise 0.05"
    hybrid |= {"psnr_to_large_db": 22.8, "psnr_of_each_db": [20.6, 25.0]}  # one farther, one closer
    assert check(fresh)[0] == 0


def test_other_pictures_are_compared_by_their_means(check, fresh):
    fresh["cases"][0]["seed"] = 7
    fresh["methods"]["hybrid"] |= {"psnr_to_large_db": 22.8, "psnr_of_each_db": [21.8, 23.8]}
    assert check(fresh)[0] == 0


def test_a_row_that_is_missing_now_is_a_regression_but_a_control_of_other_steps_is_none(check, fresh):
    del fresh["methods"]["hybrid"]
    fresh["methods"]["large@13"] = fresh["methods"].pop("large@14")
    fresh["masked_call"] = []
    code, lines, _ = check(fresh)
    assert code == 1
    assert lines[:2] == [
        "hybrid was measured then and is missing now",
        "masked call of 80 was measured then and is missing now",
    ]
    assert lines[2] == "ratios compared: 1; worse: 2"


def test_another_machine_is_told_and_its_ratios_are_compared(check, fresh):
    fresh["machine"] = {"processor": "two", "cores": 8}
    fresh["methods"]["hybrid"]["speedup"] = 1.2
    code, lines, _ = check(fresh)
    assert code == 1
    assert lines[0] == "another machine (two, 8) than the stored one (one, 2): its ratios may differ for that alone"
    assert lines[1].startswith("hybrid: speedup: 1.2")


def test_other_settings_of_a_method_are_told(check, fresh):
    fresh["methods"]["hybrid"]["parameters"] = {"large_steps": 5}
    code, lines, _ = check(fresh)
    assert (code, lines[0]) == (0, "hybrid has other settings than the stored one")


def test_what_cannot_be_compared_is_one_line_and_exit_code_2(check, fresh, capsys, tmp_path):
    fresh["guidance"] = 5.0
    assert check(fresh) == (2, [], "regressions: guidance is 5.0 and was 3.5: the two cannot be compared")
    assert check({"methods": {}})[2].endswith("is not what `hybridstitch-trt bench --json` writes")
    (tmp_path / "text").write_text("no")
    assert regressions.main([str(tmp_path / "text")] * 2) == 2
    assert capsys.readouterr().err.strip().endswith("text is not JSON")
    assert regressions.main([str(tmp_path / "nothing")] * 2) == 2
    assert capsys.readouterr().err.strip().endswith("nothing cannot be read: No such file or directory")
