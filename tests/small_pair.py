"""Small SD3 transformers with random weights: real models, quick enough to test the method on."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from diffusers import SD3Transformer2DModel
from torch import Tensor

from hybridstitch.method.sampler import sample
from hybridstitch.method.tokens import crop_positions, patchify
from hybridstitch.models.token_transformer import TokenTransformer
from hybridstitch.runtime.engine_models import EngineModels

TEXT_TOKENS = 5


def transformer(layers: int = 2, heads: int = 2, *, dual: bool = False, qk_norm: bool = False, seed: int = 0):
    """An SD3Transformer2DModel: patch 2, 4 latent channels, head dim 16, positions for 12x12 tokens."""
    torch.manual_seed(seed)
    return SD3Transformer2DModel(
        sample_size=16,
        patch_size=2,
        in_channels=4,
        num_layers=layers,
        attention_head_dim=16,
        num_attention_heads=heads,
        joint_attention_dim=24,
        caption_projection_dim=16 * heads,
        pooled_projection_dim=12,
        out_channels=4,
        pos_embed_max_size=12,
        dual_attention_layers=(0,) if dual else (),
        qk_norm="rms_norm" if qk_norm else None,
    ).eval()


class TorchEngine:
    """The engine contract (dict in, outputs filled in) on a torch module."""

    def __init__(self, module: TokenTransformer) -> None:
        self.module = module
        self.calls: list[tuple[int, int]] = []  # computed and frozen tokens of each call

    @torch.inference_mode()
    def __call__(self, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        plain = [inputs[name] for name in ("tokens", "position", "text", "pooled", "timestep")]
        frozen = [
            [inputs[f"frozen_{kind}.{index}"] for index in range(self.module.attentions)]
            if self.module.keeps_keys
            else None
            for kind in ("key", "value")
        ]
        self.calls.append((plain[0].shape[1], frozen[0][0].shape[2] if frozen[0] else 0))
        results = dict(zip(self.module.output_names(), self.module(*plain, *frozen), strict=True))
        for name, tensor in outputs.items():
            tensor.copy_(results[name])
        return outputs


class SmallPair:
    """A pair of random models with text, positions and noise for a batch of images of rows x columns tokens."""

    def __init__(
        self, *, dual=False, qk_norm=False, rows=4, columns=6, batch=1, guidance=3.0, images: list[int] | None = None
    ) -> None:
        self.diffusers = {
            "large": transformer(3, 3, dual=dual, qk_norm=qk_norm, seed=1),
            "small": transformer(2, 2, dual=dual, qk_norm=qk_norm, seed=2),
        }
        self.engines = {
            name: TorchEngine(TokenTransformer(model, keeps_keys=name == "large"))
            for name, model in self.diffusers.items()
        }
        self.rows, self.columns, self.guidance = rows, columns, guidance
        images = list(range(batch)) if images is None else images
        halves = 2 if guidance > 1 else 1
        text = [[self._random(100 * half + image, TEXT_TOKENS, 24) for image in images] for half in range(halves)]
        pooled = [[self._random(300 + 100 * half + image, 12) for image in images] for half in range(halves)]
        self.text = torch.stack([row for half in reversed(text) for row in half])
        self.pooled = torch.stack([row for half in reversed(pooled) for row in half])
        self.latents = torch.stack([self._random(900 + image, 4, rows * 2, columns * 2) for image in images])
        self.noise = patchify(self.latents, 2)

    @staticmethod
    def _random(seed: int, *shape: int) -> Tensor:
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed))

    def position(self, name: str) -> Tensor:
        table = self.diffusers[name].get_buffer("pos_embed.pos_embed").reshape(12, 12, -1)
        return crop_positions(table, self.rows, self.columns)

    def models(self, *, keep_keys: bool = True) -> EngineModels:
        module = self.engines["large"].module
        return EngineModels(
            self.engines["large"],
            self.engines["small"],
            geometry=module.geometry(vae_factor=4, text_tokens=TEXT_TOKENS),
            large_position=self.position("large"),
            small_position=self.position("small"),
            text=self.text,
            pooled=self.pooled,
            guidance=self.guidance,
            keep_keys=keep_keys,
        )

    def sample(self, plan, **options):
        steps = plan.schedule.steps
        sigmas = torch.linspace(1, 0, steps + 1) ** 0.7
        return sample(self.models(), self.noise, sigmas, sigmas[:-1] * 1000, plan, **options)
