"""GET /metrics: what is counted."""

import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from hybridstitch.serving.metrics import METRICS, STAGE

URL = "/v1/images/generations"
STAR = {"prompt": "a star", "num_inference_steps": 4}


@pytest.fixture
def value(client):
    """The value of a metric by its name and labels; 0 where it has none yet."""

    def read(name: str, **labels: str) -> float:
        families = text_string_to_metric_families(client.get("/metrics").text)
        samples = [sample for family in families for sample in family.samples]
        return sum(
            sample.value for sample in samples if sample.name == name and labels.items() <= sample.labels.items()
        )

    return read


def test_every_metric_that_is_written_down_is_there(client):
    text = client.get("/metrics").text
    for metric in METRICS:
        assert f"# HELP {metric.name.removesuffix('_total')}" in text


def test_pictures_batches_and_stages_are_counted(client, value):
    client.post(URL, json={**STAR, "n": 2})
    assert value("hybridstitch_picture_seconds_count") == 2
    assert value("hybridstitch_picture_seconds_bucket", le="0.25") == 0
    assert value("hybridstitch_picture_seconds_bucket", le="0.5") == 2
    assert value("hybridstitch_batch_pictures_count") == 2
    assert value("hybridstitch_stage_seconds_sum", stage="large") == pytest.approx(0.04)


def test_refusals_and_failures_are_counted_by_kind(client, double, value):
    double.broken.add("a star")
    client.post(URL, json=STAR)
    assert value("hybridstitch_pictures_failed_total", kind="not_drawn") == 1
    double.max_queue = 0
    client.post(URL, json=STAR)
    assert value("hybridstitch_pictures_refused_total", kind="queue_full") == 1


def test_gauges_are_read_from_the_service(client, double, value):
    assert value("hybridstitch_ready") == 1
    double.problem, double.running = "broken", 3
    assert (value("hybridstitch_ready"), value("hybridstitch_pictures_running")) == (0, 3)
    assert value("hybridstitch_pictures_waiting") == 0


def test_the_stages_of_the_real_service_are_those_that_are_told(demo, service):
    import httpx2

    all_stages = {"prompt": "a star", "num_inference_steps": 12}  # fewer leave the small model none
    httpx2.post(f"{demo}{URL}", json=all_stages, timeout=60).raise_for_status()
    time.sleep(0.05)  # the worker counts once the picture is handed over
    families = text_string_to_metric_families(httpx2.get(f"{demo}/metrics").text)
    stages = {sample.labels["stage"] for family in families if family.name == STAGE.name for sample in family.samples}
    assert stages >= {"text", "large", "hybrid", "small", "decode"}
    assert all(stage in STAGE.help for stage in stages)
