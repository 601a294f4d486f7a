"""All stages of the recipe, a step or two each, down to a pair on disk."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.run
from diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3 import StableDiffusion3Pipeline

from training.__main__ import STAGES, main, parser
from training.ship import check_sizes

PAIR = Path(__file__).parents[2] / "hybridstitch" / "pairs" / "demo"


def _train(monkeypatch, folder, *extra: str) -> None:
    arguments = ["--pictures", "64", "--cached", "64", "--eager", "--device", "cpu", "--folder", str(folder)]
    monkeypatch.setattr("sys.argv", ["training", *arguments, "--out", str(folder / "pair"), *extra])
    main()


@pytest.mark.slow
def test_every_stage_runs_resumes_and_ends_in_a_pair(tmp_path, monkeypatch):
    _train(monkeypatch, tmp_path)
    weights = tmp_path / "pair" / "small" / "transformer" / "diffusion_pytorch_model.safetensors"
    before = weights.read_bytes()
    for stage in STAGES:  # all are done: each finds its checkpoint and changes nothing
        _train(monkeypatch, tmp_path, "--stages", stage)
    assert weights.read_bytes() == before
    assert check_sizes([tmp_path / "pair" / size for size in ("large", "small")]) < 24_000_000
    pipeline = StableDiffusion3Pipeline.from_pretrained(
        tmp_path / "pair" / "small", text_encoder_3=None, tokenizer_3=None
    )
    output: Any = pipeline("a red star", num_inference_steps=1, generator=torch.Generator().manual_seed(0))
    image = output.images[0]
    assert image.size == (128, 128)


@pytest.mark.slow
def test_training_goes_on_from_the_shipped_pair_where_no_checkpoint_is_left(tmp_path, monkeypatch):
    _train(monkeypatch, tmp_path, "--start-from", str(PAIR), "--stages", "small-128", "large-128", "ship")
    for name in ("vae", "text_encoder", "tokenizer"):
        for shipped in (PAIR / "large" / name).iterdir():
            again = tmp_path / "pair" / "large" / name / shipped.name
            assert again.read_bytes() == shipped.read_bytes() or shipped.suffix == ".json", shipped.name


def test_torchrun_hands_over_every_option():
    """torchrun reads what begins like an option of its own as that: `--start` could be its `--start-method`."""
    options = [name for action in parser()._actions for name in action.option_strings if name.startswith("--")]
    for option in options:
        given = ["--nproc-per-node", "2", "-m", "training", option, "1"]
        assert torch.distributed.run.parse_args(given).training_script_args == [option, "1"], option


def test_an_unknown_stage_is_refused(tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        _train(monkeypatch, tmp_path, "--stages", "medium-64")
    assert "invalid choice: 'medium-64'" in capsys.readouterr().err


def test_a_pair_too_large_to_ship_is_refused(tmp_path):
    with (tmp_path / "weights").open("wb") as file:
        file.truncate(16_000_001)
    with pytest.raises(ValueError, match="has 16000001 bytes; at most 16000000 are shipped in a file"):
        check_sizes([tmp_path])
    for index in range(3):
        with (tmp_path / f"part-{index}").open("wb") as file:
            file.truncate(8_100_000)
    (tmp_path / "weights").unlink()
    with pytest.raises(ValueError, match="the pair has 24300000 bytes; at most 24000000 are shipped"):
        check_sizes([tmp_path])
