"""What training reads: pictures encoded once, by as many processes as there are."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

from training import latents, workers
from training.latents import LatentCache, fill_cache

PAIR = Path(__file__).parents[2] / "hybridstitch" / "pairs" / "demo"
COUNT = 10


@pytest.fixture
def vae(monkeypatch) -> AutoencoderKL:
    monkeypatch.setattr(latents, "SHARD", 4)
    return AutoencoderKL.from_pretrained(PAIR / "small" / "vae", torch_dtype=torch.float32)


def _assert_equal(some: LatentCache, others: LatentCache) -> None:
    assert torch.equal(some.latents, others.latents)
    assert torch.equal(some.geometry, others.geometry)
    assert some.captions == others.captions


def test_two_processes_encode_half_of_the_pictures_each_and_both_get_all(tmp_path, vae, monkeypatch):
    alone = fill_cache(tmp_path / "alone", vae, COUNT, 64, seed=1)
    assert alone.latents.shape == (COUNT, 4, 16, 16)
    process = threading.local()  # two threads stand for the processes
    monkeypatch.setattr(workers, "rank", lambda: process.rank)
    monkeypatch.setattr(workers, "count", lambda: 2)
    monkeypatch.setattr(workers, "wait", threading.Barrier(2, timeout=60).wait)
    encoded: dict[int, int] = {0: 0, 1: 0}
    shard = latents._shard

    def counted(vae, scenes, picture):
        encoded[process.rank] += len(scenes)
        return shard(vae, scenes, picture)

    monkeypatch.setattr(latents, "_shard", counted)

    def run(rank: int) -> LatentCache:
        process.rank = rank
        return fill_cache(tmp_path / "shared", vae, COUNT, 64, seed=1)

    with ThreadPoolExecutor(2) as pool:
        for found in pool.map(run, range(2)):
            _assert_equal(found, alone)
    assert encoded == {0: 6, 1: 4}


def test_a_cache_goes_on_from_what_is_there_and_gives_no_more_than_asked_for(tmp_path, vae, monkeypatch):
    whole = fill_cache(tmp_path / "whole", vae, COUNT, 64, seed=1)
    fill_cache(tmp_path / "part", vae, 5, 64, seed=1)  # one shard of four, one of one picture
    _assert_equal(fill_cache(tmp_path / "part", vae, COUNT, 64, seed=1), whole)
    monkeypatch.setattr(latents, "_shard", lambda *_: pytest.fail("all is there"))
    again = fill_cache(tmp_path / "part", vae, 6, 64, seed=1)
    assert torch.equal(again.latents, whole.latents[:6])
    assert again.captions == whole.captions[:6]
