import numpy as np
import pytest

from hybridstitch.evaluation.quality.frechet import frechet_distance

RANDOM = np.random.default_rng(0)


def test_in_one_dimension_it_is_the_squared_distance_of_means_and_of_deviations():
    first, second = np.array([[-1.0], [1.0]]), np.array([[1.0], [7.0]])  # deviations of 2^1/2 and 3 * 2^1/2
    assert frechet_distance(first, second) == pytest.approx(4**2 + (3 * 2**0.5 - 2**0.5) ** 2)


def test_a_set_has_no_distance_to_itself_and_a_moved_one_that_of_its_move():
    features = RANDOM.normal(size=(50, 8))
    assert frechet_distance(features, features) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(features + 2.0, features) == pytest.approx(8 * 2.0**2)


def test_it_is_the_same_both_ways_and_in_turned_coordinates():
    first, second = RANDOM.normal(size=(40, 5)), RANDOM.normal(size=(60, 5)) * [1, 2, 3, 1, 1]
    turned = np.linalg.qr(RANDOM.normal(size=(5, 5)))[0]
    distance = frechet_distance(first, second)
    assert frechet_distance(second, first) == pytest.approx(distance)
    assert frechet_distance(first @ turned, second @ turned) == pytest.approx(distance)


def test_with_fewer_pictures_than_features_it_is_still_a_number():
    assert 0 <= frechet_distance(RANDOM.normal(size=(3, 20)), RANDOM.normal(size=(100, 20))) < 100


def test_one_picture_is_no_set():
    with pytest.raises(ValueError, match="of 2 pictures or more"):
        frechet_distance(np.zeros((1, 4)), np.zeros((5, 4)))
