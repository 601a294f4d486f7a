"""The judge of attributes, trained on true pictures: see hybridstitch.evaluation.world.judge."""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from hybridstitch.evaluation.world.judge import BATCH, Judge, accuracy_on_true_pictures, targets
from hybridstitch.evaluation.world.scenes import render, sample_scene
from training import workers
from training.loop import Budget, Optimization, autocast, train

OPTIMIZATION = Optimization(rate=1e-3, warmup=0.05, hold=0.3, average=0.995)


def train_judge(folder: Path, pictures: int, seed: int, device: torch.device) -> Judge:
    """Train on renders of the training world and save to folder/judge.safetensors."""
    torch.manual_seed(seed)
    judge = Judge().to(device)

    def loss_of(draw: int, progress: float) -> Tensor:
        first = (seed << 40) + draw * BATCH
        scenes = [sample_scene(first + index) for index in range(BATCH)]
        with autocast(device):
            logits = judge(_roughened(render(scenes, device=device), first))
        expected = targets(scenes)
        losses = [
            F.cross_entropy(values.float().flatten(0, -2), expected[name].to(device).flatten(), ignore_index=-1)
            for name, values in logits.items()
        ]
        return torch.stack(losses).sum()

    def measured() -> dict[str, float]:
        return accuracy_on_true_pictures(judge, 256)

    train(folder, judge, loss_of, Budget(pictures, BATCH), OPTIMIZATION, measured)
    with workers.first_alone() as first:
        if first:
            save_file({name: value.half() for name, value in judge.state_dict().items()}, folder / "judge.safetensors")
    return judge


def _roughened(pictures: Tensor, seed: int) -> Tensor:
    """Each picture a little blurred and grainy, by chance."""
    generator = torch.Generator().manual_seed(seed)
    blur, grain = (torch.rand(len(pictures), 1, 1, 1, generator=generator).to(pictures.device) for _ in range(2))
    smooth = F.avg_pool2d(F.pad(pictures, (2, 2, 2, 2), mode="replicate"), 5, stride=1)
    pictures = torch.lerp(pictures, smooth, blur**2)
    noise = torch.randn(pictures.shape, generator=generator).to(pictures.device)
    return pictures + 0.08 * grain**2 * noise
