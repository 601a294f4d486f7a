"""Train the demo pair from nothing and export it: `python -m training`. See docs/demo-pair.md."""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel

from training import workers
from training.diffusion import LARGE, SMALL, Phase, TransformerSettings, build, train_phase
from training.latents import LatentCache, fill_cache
from training.loop import Budget, Optimization
from training.ship import check_sizes, contact_sheet, draw, pipeline_of, ship
from training.text import TextSettings, load_text, save_encoders, train_text
from training.vae import VaeSettings, reconstruction_quality, train_vae
from training.world import caption, sample_scene

ROOT = Path(__file__).parent.parent
SAMPLE_SECONDS = 400  # between two sheets of sample pictures
GPU_BATCH = 8  # a GPU takes this many times the batch

# Minutes of each stage, as the shipped pair took them on two busy CPU cores; `--minutes` stretches them all.
MINUTES = {
    "vae": 14.0,
    "text": 5.0,
    "large-64": 38.0,
    "large-128": 39.0,
    "small-64": 12.0,
    "small-128": 13.0,
}
CACHED = {64: 24576, 128: 24576}  # pictures encoded for the phases of that size
PHASES = {
    "large-64": Phase("large-64", 64, 32, Optimization(rate=1e-3, warmup=300, final=0.3), 1.5, train_text=True),
    "large-128": Phase("large-128", 128, 16, Optimization(rate=7e-4, warmup=200), 2.0),
    "small-64": Phase("small-64", 64, 32, Optimization(rate=1.5e-3, warmup=300, final=0.3), 1.5),
    "small-128": Phase("small-128", 128, 16, Optimization(rate=1e-3, warmup=200), 2.0),
}
STAGES = (*MINUTES, "ship")


@dataclass(frozen=True)
class Run:
    """What all stages of one run share. `folder` holds its checkpoints and samples, `out` gets the pair."""

    folder: Path
    out: Path
    seed: int
    device: torch.device
    minutes: dict[str, float]
    steps: int | None
    cached: dict[int, int]
    compiled: bool

    def budget(self, stage: str) -> Budget:
        return Budget(None if self.steps else self.minutes[stage], self.steps)


def run_vae(run: Run) -> None:
    vae = train_vae(run.folder / "vae", run.budget("vae"), run.seed, run.device, VaeSettings())
    if workers.rank() == 0:
        print(f"vae: {reconstruction_quality(vae):.2f} dB on held-out pictures")


def run_text(run: Run) -> None:
    train_text(run.folder / "text", run.budget("text"), run.seed + 1, run.device, TextSettings())


def run_transformer(run: Run, stage: str) -> None:
    """One phase of one transformer. The 64 phase of the large one also finishes the text encoders."""
    size, picture = stage.split("-")
    phase = PHASES[stage]
    if run.device.type == "cuda":
        phase = replace(phase, batch=GPU_BATCH * phase.batch)
    torch.manual_seed(run.seed + 2)
    vae = load_vae(run)
    text_folder = run.folder / ("text" if phase.train_text else "large-64")
    tokenizer, text = load_text(text_folder, run.device, run.folder / "text" / "tokenizer")
    start = None if picture == "64" else run.folder / f"{size}-64"
    transformer = load_transformer(LARGE if size == "large" else SMALL, start).to(run.device)  # pyright: ignore
    with workers.first_alone() as first:
        if first:
            load_cache(run, vae, phase.picture)
    cache = load_cache(run, vae, phase.picture)
    folder = run.folder / stage
    pipeline = pipeline_of(transformer, vae, tokenizer, text)
    captions = [caption(sample_scene(seed, held_out_only=True)) for seed in range(16)]
    last = time.monotonic()

    def sample() -> None:
        nonlocal last
        if time.monotonic() - last < SAMPLE_SECONDS:
            return
        sheet = contact_sheet(draw(pipeline, captions, phase.picture, 20, zero_tokens=1), 8)
        sheet.save(folder / f"samples-{int(time.time())}.png")
        last = time.monotonic()

    train_phase(
        folder,
        transformer,
        tokenizer,
        text,
        cache,
        phase,
        run.budget(stage),
        run.seed + 3,
        run.compiled,
        sample,
    )
    with workers.first_alone() as first:
        if first:
            transformer.save_pretrained(folder / "transformer")
        if first and phase.train_text:
            save_encoders(text, folder)


def run_ship(run: Run) -> None:
    """Write both folders from the newest weights there are."""
    if workers.rank() > 0:
        return
    tokenizer = run.folder / "text" / "tokenizer"
    _, text = load_text(run.folder / "large-64", torch.device("cpu"), tokenizer)
    for size in ("large", "small"):
        transformer = load_transformer(None, run.folder / f"{size}-128")
        ship(run.out / size, transformer, load_vae(run).cpu(), text, tokenizer)
    total = check_sizes([run.out / "large", run.out / "small"])
    print(f"shipped {total / 1e6:.2f} MB to {run.out}")


def load_vae(run: Run) -> AutoencoderKL:
    return AutoencoderKL.from_pretrained(run.folder / "vae" / "vae").to(run.device)  # pyright: ignore


def load_transformer(settings: TransformerSettings | None, folder: Path | None) -> SD3Transformer2DModel:
    if folder is None:
        assert settings is not None
        return build(settings)
    return SD3Transformer2DModel.from_pretrained(folder / "transformer")  # pyright: ignore


def load_cache(run: Run, vae: AutoencoderKL, picture: int) -> LatentCache:
    return fill_cache(run.folder / "latents", vae, run.cached[picture], picture, run.seed + 4)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    parser.add_argument(
        "--stages",
        nargs="+",
        choices=STAGES,
        default=STAGES,
        metavar="STAGE",
        help=f"only these, in this order: {' '.join(STAGES)} (default: all)",
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=sum(MINUTES.values()),
        help="of training, shared out over all stages (default: %(default)g)",
    )
    parser.add_argument("--steps", type=int, help="steps of every stage, instead of minutes")
    parser.add_argument("--cached", type=int, help="pictures encoded per size (default: 24576)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--folder",
        type=Path,
        default=ROOT / "training" / "runs" / "demo",
        help="checkpoints and sample pictures; a run that was stopped goes on from here",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=ROOT / "training" / "runs" / "demo" / "pair",
        help="where the pair is written (default: %(default)s)",
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--eager", action="store_true", help="without torch.compile")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    stretch = arguments.minutes / sum(MINUTES.values())
    run = Run(
        folder=arguments.folder,
        out=arguments.out,
        seed=arguments.seed,
        device=torch.device(arguments.device),
        minutes={stage: stretch * minutes for stage, minutes in MINUTES.items()},
        steps=arguments.steps,
        cached={picture: arguments.cached or count for picture, count in CACHED.items()},
        compiled=not arguments.eager,
    )
    workers.join(run.device)
    actions: dict[str, Callable[[Run], None]] = {"vae": run_vae, "text": run_text, "ship": run_ship}
    for stage in arguments.stages:
        if stage in actions:
            actions[stage](run)
        else:
            run_transformer(run, stage)


if __name__ == "__main__":
    main()
