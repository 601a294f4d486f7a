"""The two transformers of the demo pair, trained by flow matching as Stable Diffusion 3 is."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
from torch import Tensor, nn
from transformers import CLIPTokenizer

from training.latents import LatentCache
from training.loop import Budget, Optimization, autocast, train
from training.text import FEATURES, TextEncoders, TextSettings, tokenize

HEAD_DIM = 32
T5_TOKENS = 256  # zero tokens that StableDiffusion3Pipeline appends by default where there is no T5


@dataclass(frozen=True)
class TransformerSettings:
    layers: int
    heads: int


@dataclass(frozen=True)
class Phase:
    """A part of a transformer's training: on pictures of 64 (64 image tokens) or of 128 (256 tokens)."""

    name: str
    picture: int
    batch: int
    optimization: Optimization
    noise_shift: float  # as in the scheduler: above 1 draws more of the noisy end
    train_text: bool = False
    empty_share: float = 0.1  # captions replaced by the empty prompt, for guidance


LARGE = TransformerSettings(layers=6, heads=6)
SMALL = TransformerSettings(layers=4, heads=3)


def build(settings: TransformerSettings) -> SD3Transformer2DModel:
    """A transformer with the start of DiT: every block is the identity, the output zero."""
    transformer = SD3Transformer2DModel(
        sample_size=32,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=settings.layers,
        attention_head_dim=HEAD_DIM,
        num_attention_heads=settings.heads,
        joint_attention_dim=FEATURES,
        caption_projection_dim=settings.heads * HEAD_DIM,
        pooled_projection_dim=TextSettings().pooled,
        pos_embed_max_size=24,
        qk_norm="rms_norm",
    )
    for name, module in transformer.named_modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
            if "norm" in name or name == "proj_out":  # the modulations of AdaLN, and the output
                nn.init.zeros_(module.weight)
    return transformer


class MergedZeroTokens:
    """Joint attention whose last text token stands for `T5_TOKENS` equal ones.

    Without a T5 the pipeline appends 256 zero tokens to the text. Text has no positions, so they stay equal through
    all layers, and as keys they weigh exactly as much as one of them with log(256) added to its logits. Training on
    25 text tokens instead of 280 is several times cheaper, and it is the same function.
    """

    def __call__(
        self, attn, hidden_states: Tensor, encoder_hidden_states: Tensor, attention_mask=None
    ) -> tuple[Tensor, Tensor]:
        images = hidden_states.shape[1]

        def split(tensor: Tensor) -> Tensor:
            return tensor.unflatten(2, (attn.heads, -1)).transpose(1, 2)

        query = torch.cat(
            [
                attn.norm_q(split(attn.to_q(hidden_states))),
                attn.norm_added_q(split(attn.add_q_proj(encoder_hidden_states))),
            ],
            dim=2,
        )
        key = torch.cat(
            [
                attn.norm_k(split(attn.to_k(hidden_states))),
                attn.norm_added_k(split(attn.add_k_proj(encoder_hidden_states))),
            ],
            dim=2,
        )
        value = torch.cat([split(attn.to_v(hidden_states)), split(attn.add_v_proj(encoder_hidden_states))], dim=2)
        bias = F.pad(query.new_zeros(key.shape[2] - 1), (0, 1), value=math.log(T5_TOKENS))
        joint = _attend(query, key, value, bias)
        joint = joint.transpose(1, 2).flatten(2)
        image, text = joint[:, :images], joint[:, images:]
        return attn.to_out[0](image), text if attn.context_pre_only else attn.to_add_out(text)


def _attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """query, key, value [B, heads, T, head_dim]; bias [T] on the logits of the keys. Returns the shape of query."""
    if query.is_cuda:
        bias = bias.to(value.dtype).expand(len(query), 1, query.shape[2], -1)
        return F.scaled_dot_product_attention(query.to(value.dtype), key.to(value.dtype), value, attn_mask=bias)
    # On a CPU without AMX plain products are up to four times faster in bfloat16 than the fused kernel.
    logits = (query * query.shape[-1] ** -0.5) @ key.transpose(2, 3) + bias
    return logits.softmax(-1) @ value


def merge_zero_tokens(transformer: SD3Transformer2DModel) -> None:
    """Make a transformer take one zero token for the 256 of the pipeline."""
    for block in transformer.transformer_blocks:
        block.attn.set_processor(MergedZeroTokens())  # pyright: ignore


def spread_positions(transformer: SD3Transformer2DModel, picture: int) -> None:
    """Give the tokens of a picture smaller than 128 the positions that they cover in one of 128, so that what is
    learnt at 64 holds at 128. For 128 itself nothing changes."""
    embed, side = transformer.pos_embed, picture // 8
    table = type(embed).cropped_pos_embed(embed, 32, 32).unflatten(1, (16, 16)).permute(0, 3, 1, 2)
    table = F.avg_pool2d(table, 16 // side).flatten(2).transpose(1, 2).contiguous()
    embed.cropped_pos_embed = lambda height, width: table  # pyright: ignore


class Denoising(nn.Module):
    """The flow-matching loss: x_t = (1 - sigma) x_0 + sigma noise, and the velocity noise - x_0 is to be told."""

    def __init__(self, transformer: SD3Transformer2DModel, text: TextEncoders, compiled: bool) -> None:
        super().__init__()
        self.transformer, self.text = transformer, text
        velocity: Callable = torch.compile(transformer) if compiled else transformer
        object.__setattr__(self, "velocity", velocity)  # not a submodule: its weights are the transformer's

    def forward(self, latents: Tensor, ids: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        """latents, noise [B, 4, H, W]; ids [B, 24]; sigma [B], 0 to 1. Returns the loss, a scalar."""
        tokens, pooled = self.text(ids)
        mix = sigma[:, None, None, None]
        velocity = self.__dict__["velocity"](
            hidden_states=(1 - mix) * latents + mix * noise,
            encoder_hidden_states=tokens,
            pooled_projections=pooled,
            timestep=1000 * sigma,
            return_dict=False,
        )[0]
        return F.mse_loss(velocity.float(), noise - latents)


def draw_sigmas(count: int, shift: float, generator: torch.Generator) -> Tensor:
    """Noise levels [count] by the logit-normal law of Stable Diffusion 3, shifted towards noise."""
    sigma = torch.sigmoid(torch.randn(count, generator=generator))
    return shift * sigma / (1 + (shift - 1) * sigma)


def train_phase(
    folder: Path,
    transformer: SD3Transformer2DModel,
    tokenizer: CLIPTokenizer,
    text: TextEncoders,
    cache: LatentCache,
    phase: Phase,
    budget: Budget,
    seed: int,
    compiled: bool = True,
    on_save: Callable[[], None] | None = None,
) -> None:
    """Train the transformer in place (and the text encoders where the phase says so); `cache` holds normalised
    latents of pictures of the phase's size with their captions."""
    device = transformer.device
    merge_zero_tokens(transformer)
    spread_positions(transformer, phase.picture)
    text.requires_grad_(phase.train_text)
    module = Denoising(transformer, text, compiled)
    empty = tokenize(tokenizer, [""]).to(device)
    ids = tokenize(tokenizer, cache.captions).to(device)

    def loss_of(step: int, progress: float) -> Tensor:
        generator = torch.Generator().manual_seed((seed << 32) + step)
        rows = cache.rows(step, phase.batch, seed)
        latents = cache.latents[rows].to(device, torch.float32)
        noise = torch.randn(latents.shape, generator=generator).to(device)
        sigma = draw_sigmas(len(rows), phase.noise_shift, generator).to(device)
        dropped = torch.rand(len(rows), 1, generator=generator) < phase.empty_share
        with autocast(device):
            return module(latents, torch.where(dropped.to(device), empty, ids[rows.to(device)]), noise, sigma)

    def saved(_: nn.Module) -> None:
        if on_save is not None:
            on_save()

    train(folder, module, loss_of, budget, phase.optimization, saved)


def parameter_count(modules: Sequence[nn.Module]) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())
