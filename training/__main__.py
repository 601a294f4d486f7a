"""Train the demo pair from nothing and export it: `python -m training`. See docs/demo-pair.md."""

import argparse
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel

from hybridstitch.evaluation.world.judge import accuracy_on_true_pictures
from hybridstitch.evaluation.world.scenes import caption, sample_scene
from training import vae, workers
from training.diffusion import LARGE, SMALL, Phase, build, spread_positions, train_phase
from training.judge import train_judge
from training.latents import fill_cache
from training.loop import Budget, Optimization
from training.ship import check_sizes, contact_sheet, draw, pipeline_of, ship
from training.text import TextSettings, Vocabulary, load_text, train_text

ROOT = Path(__file__).parent.parent
SAMPLE_SECONDS = 1200  # between two sheets of sample pictures
GPU_BATCH = 8  # a GPU takes this many times the batch
SHOWN = 16  # pictures of a sample sheet
HELD_OUT = 256  # pictures of the validation loss

PICTURES = {
    "vae": 32_000,
    "text": 64_000,
    "judge": 120_000,
}  # that a stage sees; those of the transformers stand in their phases
STEADY = Optimization(1e-3, muon_rate=2e-2, hold=1.0, save_seconds=300)
FALLING = Optimization(7e-4, muon_rate=1.5e-2, hold=0.4, save_seconds=300)
PHASES = {
    "large-64": Phase(64, Budget(600_000, 64), STEADY),
    "large-128": Phase(128, Budget(400_000, 32), FALLING, noise_shift=2.0, stepped_share=0.25),
    "small-64": Phase(64, Budget(300_000, 64), STEADY),
    "small-128": Phase(128, Budget(200_000, 32), FALLING, noise_shift=2.0, stepped_share=0.25),
}
STAGES = ("vae", "text", *PHASES, "judge", "ship")
MODELS = {"large": LARGE, "small": SMALL}


@dataclass(frozen=True)
class Run:
    """What all stages of one run share. `folder` holds its checkpoints and samples, `out` gets the pair; `start` is a
    shipped pair to go on from, instead of from nothing; `pictures` is what every stage sees, instead of its own
    number, and `cached` how many are encoded for the transformers."""

    folder: Path
    out: Path
    seed: int
    device: torch.device
    cached: int
    compiled: bool
    start: Path | None = None
    pictures: int | None = None

    def text(self) -> Path:
        """Where tokenizer and text encoders lie."""
        if not (self.folder / "text" / "text_encoder_2").exists() and self.start is not None:
            return self.start / "large"
        return self.folder / "text"

    def vae(self) -> AutoencoderKL:
        folder = self.folder / "vae"
        if not (folder / "vae").exists() and self.start is not None:
            folder = self.start / "large"
        return AutoencoderKL.from_pretrained(folder / "vae").to(self.device)  # pyright: ignore

    def transformer(self, stage: str) -> SD3Transformer2DModel:
        """What a stage begins with: the end of the one before, or `start`, or nothing."""
        size, picture = stage.split("-")
        before = self.folder / f"{size}-64"
        if picture == "128" and (before / "transformer").exists():
            return SD3Transformer2DModel.from_pretrained(before / "transformer")  # pyright: ignore
        if self.start is not None:
            shipped = self.start / size / "transformer"
            return SD3Transformer2DModel.from_pretrained(shipped, torch_dtype=torch.float32)  # pyright: ignore
        if picture == "128":
            raise SystemExit(f"{stage} goes on from {size}-64, which has not ended in {self.folder}")
        return build(MODELS[size])


def run_vae(run: Run) -> None:
    torch.manual_seed(run.seed)
    model = vae.build(vae.VaeSettings()) if run.start is None else run.vae().float()
    pictures = run.pictures or PICTURES["vae"]
    vae.train_vae(run.folder / "vae", model, pictures, run.seed + 1, run.device, vae.VaeSettings())
    if workers.rank() == 0:
        told = [f"{vae.reconstruction_quality(model, noise=noise):.2f} dB at noise {noise}" for noise in (0.0, 0.4)]
        print(f"vae: {', '.join(told)} on held-out pictures")


def run_text(run: Run) -> None:
    train_text(run.folder / "text", run.pictures or PICTURES["text"], run.seed + 2, run.device, TextSettings())


def run_transformer(run: Run, stage: str) -> None:
    """One phase of one transformer."""
    phase = PHASES[stage]
    batch = phase.budget.batch * (GPU_BATCH if run.device.type == "cuda" else 1)
    phase = replace(phase, budget=Budget(run.pictures or phase.budget.pictures, batch))
    torch.manual_seed(run.seed + 3)
    transformer = run.transformer(stage).to(run.device)  # pyright: ignore
    encoder = run.vae()
    tokenizer, text = load_text(run.text(), run.device)
    latents, seed = run.folder / "latents", run.seed + 4
    cache = fill_cache(latents, encoder, run.cached, phase.picture, seed)
    held_out = fill_cache(latents, encoder, HELD_OUT, phase.picture, seed, held_out=True)
    vocabulary = Vocabulary(tokenizer, text, [*cache.captions, *held_out.captions])
    folder = run.folder / stage
    pipeline = pipeline_of(transformer, encoder, tokenizer, text)
    captions = [caption(sample_scene(seed, held_out_only=True)) for seed in range(SHOWN)]
    last = time.monotonic()

    def keep() -> None:
        """The averaged weights as they are, for `ship`, and now and then what they draw."""
        nonlocal last
        transformer.save_pretrained(folder / "average")
        if time.monotonic() - last > SAMPLE_SECONDS:
            with spread_positions(transformer, phase.picture):
                images = draw(pipeline, captions, phase.picture, 20, zero_tokens=1)
            contact_sheet(images, 8).save(folder / f"samples-{int(time.time())}.png")
            last = time.monotonic()

    train_phase(folder, transformer, vocabulary, cache, held_out, phase, run.seed + 5, run.compiled, keep)
    with workers.first_alone() as first:
        if first:
            transformer.save_pretrained(folder / "transformer")


def run_judge(run: Run) -> None:
    judge = train_judge(run.folder / "judge", run.pictures or PICTURES["judge"], run.seed + 6, run.device)
    if workers.rank() == 0:
        print(f"judge: {accuracy_on_true_pictures(judge)} on held-out pictures")


def run_ship(run: Run) -> None:
    """Write both folders from the newest weights there are."""
    if workers.rank() > 0:
        return
    tokenizer, text = load_text(run.text(), torch.device("cpu"))
    for size in MODELS:
        newest = run.folder / f"{size}-128" / "average"
        transformer = SD3Transformer2DModel.from_pretrained(newest)
        ship(run.out / size, transformer, run.vae().cpu(), text, tokenizer, run.text() / "tokenizer")  # pyright: ignore
    judge = run.folder / "judge" / "judge.safetensors"
    if judge.exists():
        shutil.copyfile(judge, run.out / "judge.safetensors")
    total = check_sizes([run.out / size for size in MODELS])
    print(f"shipped {total / 1e6:.2f} MB to {run.out}")


def parser() -> argparse.ArgumentParser:
    flags = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    flags.add_argument(
        "--stages",
        nargs="+",
        choices=STAGES,
        default=STAGES,
        metavar="STAGE",
        help=f"only these, in this order: {' '.join(STAGES)} (default: all)",
    )
    flags.add_argument(
        "--start-from",
        type=Path,
        metavar="PAIR",
        help="go on from a pair, e.g. hybridstitch/pairs/demo, where no checkpoint of a stage before is left",
    )
    flags.add_argument("--pictures", type=int, help="that every stage sees, instead of its own number")
    flags.add_argument("--cached", type=int, default=49_152, help="pictures encoded per size (default: %(default)s)")
    flags.add_argument("--seed", type=int, default=0)
    runs = ROOT / "training" / "runs" / "demo"
    flags.add_argument(
        "--folder",
        type=Path,
        default=runs,
        help="checkpoints and sample pictures; a run that was stopped goes on from here",
    )
    flags.add_argument(
        "--out", type=Path, default=runs / "pair", help="where the pair is written (default: %(default)s)"
    )
    flags.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    flags.add_argument("--threads", type=int, default=torch.get_num_threads())
    flags.add_argument("--eager", action="store_true", help="without torch.compile")
    return flags


def main() -> None:
    arguments = parser().parse_args()
    torch.set_num_threads(arguments.threads)
    run = Run(
        folder=arguments.folder,
        out=arguments.out,
        seed=arguments.seed,
        device=torch.device(arguments.device),
        cached=arguments.cached,
        compiled=not arguments.eager,
        start=arguments.start_from,
        pictures=arguments.pictures,
    )
    workers.join(run.device)
    actions: dict[str, Callable[[Run], None]] = {
        "vae": run_vae,
        "text": run_text,
        "judge": run_judge,
        "ship": run_ship,
    }
    for stage in arguments.stages:
        try:
            if stage in actions:
                actions[stage](run)
            else:
                run_transformer(run, stage)
        except KeyboardInterrupt:
            raise SystemExit(f"{stage}: stopped; the same command goes on") from None


if __name__ == "__main__":
    main()
