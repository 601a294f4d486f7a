"""The captions that a tuning draws."""

import pytest

from hybridstitch.evaluation.tuning.calibration import calibration_cases
from hybridstitch.evaluation.world.scenes import caption, held_out, read_caption, sample_scene
from hybridstitch.method.errors import HybridStitchError


def test_the_captions_that_come_along_were_never_trained_on_and_are_not_those_that_pairs_are_judged_by():
    prompts = [case.prompt for case in calibration_cases("demo", 64)]
    assert len(set(prompts)) == 64
    assert all(held_out(read_caption(prompt)) for prompt in prompts)
    assert not set(prompts) & {caption(sample_scene(seed, held_out_only=True)) for seed in range(5000)}


def test_a_prompts_file_is_drawn_from_the_top_each_line_with_its_own_seed(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("# mine\na\n\nb\nc\n")
    assert [(case.prompt, case.seed) for case in calibration_cases("other", 2, path)] == [("a", 2), ("b", 4)]


def test_what_there_is_not_is_told(tmp_path):
    path = tmp_path / "prompts.txt"
    path.write_text("a\n")
    with pytest.raises(
        HybridStitchError, match="no captions come along for pair 'sd35': give some with --prompts FILE"
    ):
        calibration_cases("sd35", 4)
    with pytest.raises(HybridStitchError, match="--count 65 is more than the 64 captions of what comes along"):
        calibration_cases("demo", 65)
    with pytest.raises(HybridStitchError, match=r"--count 4 is more than the 1 captions of --prompts .*prompts.txt"):
        calibration_cases("demo", 4, path)
    with pytest.raises(HybridStitchError, match=r"prompts file .*none.txt cannot be read: No such file"):
        calibration_cases("demo", 4, tmp_path / "none.txt")
    path.write_text("# nothing\n")
    with pytest.raises(HybridStitchError, match=r"prompts.txt holds no prompt"):
        calibration_cases("demo", 4, path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(HybridStitchError, match=r"prompts.txt is not UTF-8 text"):
        calibration_cases("demo", 4, path)
