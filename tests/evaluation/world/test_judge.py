"""The judge as it is kept: it may judge only while it is right about true pictures."""

from hybridstitch.evaluation.world.judge import accuracy_on_true_pictures, load_judge


def test_the_judge_is_right_about_true_pictures_that_it_was_not_trained_on():
    accuracy = accuracy_on_true_pictures(load_judge(), 400)
    assert all(share >= 0.97 for name, share in accuracy.items() if name != "all"), accuracy  # 0.98 on 1,000
