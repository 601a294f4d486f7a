"""How many replicas a rate takes: the model against what is known exactly, and the simulation against both."""

import numpy as np
import pytest

from hybridstitch.evaluation.capacity.model import erlang_c, plan_capacity, predict
from hybridstitch.evaluation.capacity.service_times import Workload, mixed
from hybridstitch.evaluation.capacity.simulation import simulate, waits
from hybridstitch.method.errors import HybridStitchError

CONSTANT = mixed({"a": (2.0,)})
TWO_KINDS = mixed({"quick": (0.2, 0.25, 0.3), "slow": (1.0, 1.2)}, {"quick": 0.8, "slow": 0.2})
STEPS = -np.log(1 - (np.arange(2000) + 0.5) / 2000)
EXPONENTIAL = Workload(STEPS, np.full(2000, 1 / 2000))


@pytest.mark.parametrize(("replicas", "load", "share"), [(1, 0.6, 0.6), (2, 1.0, 1 / 3), (3, 2.0, 4 / 9)])
def test_erlang_c_is_the_textbooks(replicas, load, share):
    assert erlang_c(replicas, load) == pytest.approx(share)


def test_erlang_c_stays_a_share_with_ten_thousand_replicas():
    assert 0 < erlang_c(10_000, 9_950) < 1


def test_one_replica_of_constant_times_waits_as_pollaczek_and_khinchine_say():
    assert predict(CONSTANT, 0.4, 1).wait == pytest.approx(0.8 * 2 / (2 * 0.2))


def test_the_p95_of_exponential_times_at_one_replica_is_the_exact_one():
    exact = np.log(20) / (1 - 0.7)  # the time in an M/M/1 is exponential
    assert predict(EXPONENTIAL, 0.7, 1).p95 == pytest.approx(exact, rel=0.02)


@pytest.mark.parametrize("work", [CONSTANT, TWO_KINDS, EXPONENTIAL], ids=["constant", "two kinds", "exponential"])
@pytest.mark.parametrize(("replicas", "utilisation"), [(1, 0.7), (4, 0.7), (12, 0.85)])
def test_model_and_simulation_agree(work, replicas, utilisation):
    rate = utilisation * replicas / work.mean
    model, found = predict(work, rate, replicas), simulate(work, rate, replicas)
    assert found.p95 == pytest.approx(model.p95, rel=0.1)
    assert found.wait == pytest.approx(model.wait, rel=0.2)


def test_a_request_waits_for_the_replica_that_is_free_first():
    arrivals, services = np.array([0.0, 1.0, 2.0, 3.0, 20.0]), np.array([5.0, 1.0, 4.0, 1.0, 1.0])
    assert waits(arrivals, services, 1).tolist() == [0, 4, 4, 7, 0]
    assert waits(arrivals, services, 2).tolist() == [0, 0, 0, 2, 0]


def test_a_seed_gives_the_same_simulation_again_and_another_seed_another():
    first = simulate(TWO_KINDS, 2, 2, requests=2000)
    assert simulate(TWO_KINDS, 2, 2, requests=2000) == first
    assert simulate(TWO_KINDS, 2, 2, requests=2000, seed=1) != first


@pytest.mark.parametrize("p95", [1.25, 1.5, 3.0])
def test_the_answer_is_the_least_number_that_keeps_the_p95(p95):
    found = plan_capacity(TWO_KINDS, 10, p95)
    assert predict(TWO_KINDS, 10, found.by_model).p95 <= p95
    assert simulate(TWO_KINDS, 10, found.by_simulation).p95 <= p95
    least = int(10 * TWO_KINDS.mean) + 1
    assert found.by_model == least or predict(TWO_KINDS, 10, found.by_model - 1).p95 > p95
    assert found.by_simulation == least or simulate(TWO_KINDS, 10, found.by_simulation - 1).p95 > p95
    assert found.replicas in [row.replicas for row in found.rows]
    assert all(row.utilisation < 1 for row in found.rows)


def test_a_p95_that_no_number_of_replicas_gives_is_refused():
    with pytest.raises(HybridStitchError, match=r"no number of replicas gives a p95 of 1 s: .* alone take 1\.2 s"):
        plan_capacity(TWO_KINDS, 10, 1)


def test_a_rate_beyond_all_bounds_is_refused():
    with pytest.raises(HybridStitchError, match="at least 20001 replicas; at most 10000 are reckoned with"):
        plan_capacity(CONSTANT, 10_000, 3)


def test_a_mix_weighs_kinds_by_their_shares_and_not_by_how_often_they_were_measured():
    assert TWO_KINDS.mean == pytest.approx(0.8 * 0.25 + 0.2 * 1.1)
    assert mixed({"a": (1.0,) * 9, "b": (3.0,)}).mean == pytest.approx(2)
    assert TWO_KINDS.quantile(0.5) == 0.25
    assert TWO_KINDS.quantile(0.95) == 1.2
    assert EXPONENTIAL.variation == pytest.approx(1, rel=0.02)
