"""Which optimizer, rates, geometry weight and noise law train best: short runs of the large transformer at 64 tokens.

    python -m training.compare --pictures 16384

Every run sees the same pictures and starts from the same weights; the validation loss is that of the moving average, on
held-out pictures whose noise never changes. Needs a VAE and text encoders: those of --start-from, or of earlier stages.
"""

import json
from dataclasses import replace
from pathlib import Path

import torch

from training.__main__ import HELD_OUT, PHASES, Run, parser
from training.diffusion import LARGE, Phase, build, train_phase
from training.latents import fill_cache
from training.loop import Budget, Optimization
from training.text import Vocabulary, load_text


def variants(pictures: int) -> dict[str, Phase]:
    """Each law by its name."""

    def phase(rate: float, muon_rate: float, geometry: float = 0.1, shift: float = 1.5) -> Phase:
        optimization = Optimization(rate, muon_rate, warmup=0.06, average=0.99)
        base = replace(PHASES["large-64"], budget=Budget(pictures, PHASES["large-64"].budget.batch))
        return replace(base, optimization=optimization, geometry_weight=geometry, noise_shift=shift)

    return {
        "muon 0.02": phase(1e-3, 2e-2),
        "muon 0.02, no geometry": phase(1e-3, 2e-2, geometry=0.0),
        "adamw 0.001": phase(1e-3, 0.0),
        "adamw 0.003": phase(3e-3, 0.0),
        "muon 0.01": phase(1e-3, 1e-2),
        "muon 0.03": phase(1e-3, 3e-2),
        "muon 0.02, geometry 0.5": phase(1e-3, 2e-2, geometry=0.5),
        "muon 0.02, adamw 0.003": phase(3e-3, 2e-2),
        "muon 0.02, shift 1": phase(1e-3, 2e-2, shift=1.0),
        "muon 0.02, shift 2.5": phase(1e-3, 2e-2, shift=2.5),
        "adamw 0.001, no geometry": phase(1e-3, 0.0, geometry=0.0),
        "adamw 0.003, no geometry": phase(3e-3, 0.0, geometry=0.0),
    }


def compare(run: Run, phases: dict[str, Phase]) -> None:
    """Train each and print one JSON line for it; a run that is done is not done again."""
    encoder = run.vae()
    tokenizer, text = load_text(run.text(), run.device)
    latents, seed = run.folder / "latents", run.seed + 4
    cache = fill_cache(latents, encoder, run.cached, 64, seed)
    held_out = fill_cache(latents, encoder, HELD_OUT, 64, seed, held_out=True)
    vocabulary = Vocabulary(tokenizer, text, [*cache.captions, *held_out.captions])
    for name, phase in phases.items():
        torch.manual_seed(run.seed)
        folder = run.folder / "compare" / name.replace(" ", "-").replace(",", "")
        train_phase(folder, build(LARGE), vocabulary, cache, held_out, phase, run.seed + 5, run.compiled)
        print(json.dumps({"variant": name, **last_validation(folder)}), flush=True)


def last_validation(folder: Path) -> dict[str, float]:
    lines = [json.loads(line) for line in (folder / "loss.jsonl").read_text().splitlines()]
    return [line for line in lines if "validation" in line][-1]


def main() -> None:
    options = parser()
    options.add_argument("--only", nargs="+", metavar="VARIANT", help="these instead of all")
    options.set_defaults(pictures=16_384, cached=16_384)
    arguments = options.parse_args()
    torch.set_num_threads(arguments.threads)
    run = Run(
        arguments.folder,
        arguments.out,
        arguments.seed,
        torch.device(arguments.device),
        arguments.cached,
        not arguments.eager,
        arguments.start_from,
        arguments.pictures,
    )
    phases = variants(arguments.pictures)
    if unknown := set(arguments.only or []) - set(phases):
        raise SystemExit(f"no variant {', '.join(sorted(unknown))}; there are: {', '.join(phases)}")
    compare(run, {name: phase for name, phase in phases.items() if name in (arguments.only or phases)})


if __name__ == "__main__":
    main()
