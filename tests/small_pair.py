"""Small SD3 transformers with random weights: real models, quick enough to test the method on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import SD3Transformer2DModel
from function_engine import FunctionEngine
from torch import Tensor

from hybridstitch.method.masks import Mask, hardest
from hybridstitch.method.parameters import SamplingParameters
from hybridstitch.method.program import Program, make_program
from hybridstitch.method.sampler import Sampler
from hybridstitch.method.sigmas import levels
from hybridstitch.method.size import Size
from hybridstitch.method.state import State
from hybridstitch.method.tokens import crop_positions, patchify
from hybridstitch.models.sd3.token_transformer import TokenTransformer
from hybridstitch.runtime.engine_models import EngineModels
from hybridstitch.runtime.specification import Shape
from hybridstitch.runtime.workspace import Workspace

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


def engine_of(module: TokenTransformer) -> FunctionEngine:
    """The module as an engine."""

    def compute(inputs: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        plain = [inputs[name] for name in ("tokens", "position", "text", "pooled", "timestep")]
        frozen = [
            [inputs[f"frozen_{kind}.{index}"] for index in range(module.attentions)] if module.keeps_keys else None
            for kind in ("key", "value")
        ]
        engine.calls.append((plain[0].shape[1], frozen[0][0].shape[2] if frozen[0] else 0))
        return dict(zip(module.output_names(), module(*plain, *frozen), strict=True))

    names = [f"frozen_{kind}.{index}" for index in range(module.attentions) for kind in ("key", "value")]
    manifest = SimpleNamespace(
        component="large" if module.keeps_keys else "small",
        geometry=module.geometry(vae_factor=4, text_tokens=TEXT_TOKENS),
        dtype="float32",
        inputs=dict.fromkeys(names if module.keeps_keys else []),
    )
    engine = FunctionEngine(manifest, compute)
    engine.calls = []
    engine.module = module
    return engine


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
            name: engine_of(TokenTransformer(model, keeps_keys=name == "large"))
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

    @property
    def size(self) -> Size:
        return Size(self.columns * 8, self.rows * 8)

    def workspace(self, masked: int | None = 0, program: Program = ()) -> Workspace:
        """With this pair's text and noise. masked: M; None: no hybrid step."""
        images, rows = len(self.noise), len(self.text)
        workspace = Workspace(
            self.engines,
            lambda: {name: self.position(name) for name in self.engines},
            Shape.of(self.size, images, rows, masked, program),
        )
        workspace.io["text"].copy_(self.text)
        workspace.io["pooled"].copy_(self.pooled)
        workspace.state.x.copy_(self.noise)
        workspace.state.guidance.fill_(self.guidance)
        workspace.state.index.fill_(0)
        return workspace

    def sampler(
        self,
        parameters: SamplingParameters,
        *,
        token_bucket: int = 1,
        sigmas: Tensor | None = None,
        choose: Callable[[Tensor, int], Mask] = hardest,
    ) -> tuple[Sampler, State]:
        masked = parameters.masked_tokens(self.noise.shape[1], token_bucket)
        workspace = self.workspace(masked, make_program(parameters))
        workspace.state.guidance.fill_(parameters.guidance)
        workspace.state.exponent.fill_(parameters.residual or 0.0)
        steps = parameters.schedule.steps
        sigmas = torch.linspace(1, 0, steps + 1) ** 0.7 if sigmas is None else sigmas
        table = levels(sigmas, sigmas[:-1] * 1000)
        return Sampler(EngineModels(workspace), workspace.state, table, parameters, choose=choose), workspace.state

    @torch.inference_mode()
    def sample(self, parameters: SamplingParameters, **options: Any) -> tuple[Tensor, Sampler]:
        """Final tokens [B, N, W], and the sampler that drew them."""
        sampler, state = self.sampler(parameters, **options)
        for _ in sampler:
            pass
        return state.x, sampler
