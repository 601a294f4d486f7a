"""The two transformers of the demo pair, trained by flow matching as Stable Diffusion 3 is."""

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers.models.activations import GELU
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
from torch import Tensor, nn

from training.geometry import CHANNELS, POINTS
from training.latents import LatentCache
from training.loop import Budget, Optimization, autocast, train
from training.text import FEATURES, TextSettings, Vocabulary

HEAD_DIM = 32
SAMPLER_SHIFT = 3.0  # of the scheduler that ships, as in Stable Diffusion 3
T5_TOKENS = 256  # zero tokens that StableDiffusion3Pipeline appends by default where there is no T5


@dataclass(frozen=True)
class TransformerSettings:
    layers: int
    heads: int


@dataclass(frozen=True)
class Phase:
    """A part of a transformer's training: on pictures of 64 (64 image tokens) or of 128 (256 tokens)."""

    picture: int
    budget: Budget
    optimization: Optimization
    noise_shift: float = 1.0  # as in the scheduler: above 1 draws more of the noisy end
    stepped_share: float = 0.0  # of pictures whose noise levels are drawn as evenly as the sampler's steps lie
    geometry_weight: float = 0.5  # of the loss of the geometry, beside that of the velocity
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


def gelu_by_sigmoid(gate: Tensor) -> Tensor:
    """GELU by tanh, as these transformers have it, of a tensor of any shape: (1 + tanh(z)) / 2 is sigmoid(2 z), which
    is cheaper on a CPU."""
    wide = gate.float()
    return (wide * torch.sigmoid(math.sqrt(8 / math.pi) * (wide + 0.044715 * wide**3))).to(gate.dtype)


def speed_up_gelu(transformer: SD3Transformer2DModel) -> None:
    """Let the feed-forward layers of a transformer compute GELU by a sigmoid."""
    for module in transformer.modules():
        if isinstance(module, GELU):
            module.gelu = gelu_by_sigmoid


def positions(transformer: SD3Transformer2DModel, picture: int) -> Tensor:
    """Positions [1, tokens, width] for a picture of up to 128: its tokens get those that they cover in one of 128, so
    that what is learnt at 64 holds at 128. For 128 these are the transformer's own."""
    embed, side = transformer.pos_embed, picture // 8
    table = embed.cropped_pos_embed(32, 32).unflatten(1, (16, 16)).permute(0, 3, 1, 2)
    return F.avg_pool2d(table, 16 // side).flatten(2).transpose(1, 2).contiguous()


@contextlib.contextmanager
def spread_positions(transformer: SD3Transformer2DModel, picture: int) -> Iterator[None]:
    """Let a transformer draw small pictures with the positions that it was trained with."""
    embed, table = transformer.pos_embed, positions(transformer, picture)
    whole = embed.cropped_pos_embed
    embed.cropped_pos_embed = lambda height, width: table
    try:
        yield
    finally:
        embed.cropped_pos_embed = whole


class Denoising(nn.Module):
    """The flow-matching loss: x_t = (1 - sigma) x_0 + sigma noise, and the velocity noise - x_0 is to be told.

    Beside it the tokens between two blocks, half-way through, are asked for the scene's geometry by a linear head that
    is not shipped. As in REPA (arXiv 2410.06940), where a pretrained encoder's features are asked for, a denoiser that
    has to understand the picture early draws it better; a rendered world knows its geometry.
    """

    def __init__(self, transformer: SD3Transformer2DModel) -> None:
        super().__init__()
        self.transformer = transformer
        self.head = nn.Linear(transformer.inner_dim, CHANNELS * POINTS**2)

    def forward(
        self,
        latents: Tensor,
        noise: Tensor,
        sigma: Tensor,
        text: Tensor,
        pooled: Tensor,
        positions: Tensor,
        geometry: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """latents, noise [B, 4, H, W]; sigma [B], 0 to 1; text [B, 25, 192]; pooled [B, 160]; positions [1, tokens,
        width]; geometry [B, tokens, 16]. Returns the squared error of each picture's velocity [B] and the loss of the
        geometry, a scalar."""
        mix = sigma[:, None, None, None]
        velocity, told = self.predict((1 - mix) * latents + mix * noise, text, pooled, 1000 * sigma, positions)
        error = ((velocity.float() - (noise - latents)) ** 2).mean((1, 2, 3))
        return error, F.smooth_l1_loss(told.float(), geometry.float())

    def predict(
        self, latents: Tensor, text: Tensor, pooled: Tensor, timestep: Tensor, positions: Tensor
    ) -> tuple[Tensor, Tensor]:
        """SD3Transformer2DModel.forward with positions of our own, and the head. Returns velocity and geometry."""
        model = self.transformer
        image = (model.pos_embed.proj(latents).flatten(2).transpose(1, 2) + positions).contiguous()
        condition = model.time_text_embed(timestep, pooled)
        text = model.context_embedder(text)
        blocks, told = list(model.transformer_blocks), image
        for number, block in enumerate(blocks, 1):
            text, image = block(hidden_states=image, encoder_hidden_states=text, temb=condition)
            if number == len(blocks) // 2:
                told = self.head(F.layer_norm(image, image.shape[-1:]))
        patches = model.proj_out(model.norm_out(image, condition))
        height, width = (length // 2 for length in latents.shape[-2:])
        patches = patches.unflatten(2, (2, 2, -1)).unflatten(1, (height, width))
        return patches.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3), told


def draw_sigmas(count: int, shift: float, stepped: float, generator: torch.Generator) -> Tensor:
    """Noise levels [count] by the logit-normal law of Stable Diffusion 3, shifted towards noise; a share `stepped` of
    them as the sampler's steps lie. The first of those, at levels above 0.95, decide where the objects
    stand, and the law has them one time in a hundred even with shift 2."""
    usual = _shifted(torch.sigmoid(torch.randn(count, generator=generator)), shift)
    steps = _shifted(torch.rand(count, generator=generator), SAMPLER_SHIFT)
    return torch.where(torch.rand(count, generator=generator) < stepped, steps, usual)


def _shifted(sigma: Tensor, shift: float) -> Tensor:
    return shift * sigma / (1 + (shift - 1) * sigma)


def train_phase(
    folder: Path,
    transformer: SD3Transformer2DModel,
    vocabulary: Vocabulary,
    cache: LatentCache,
    held_out: LatentCache,
    phase: Phase,
    seed: int,
    compiled: bool = True,
    on_save: Callable[[], None] | None = None,
) -> None:
    """Train the transformer in place on `cache`; the validation loss is that of the pictures of `held_out`, each with
    noise and a noise level that never change."""
    device = transformer.device
    merge_zero_tokens(transformer)
    speed_up_gelu(transformer)
    module = Denoising(transformer).to(device)
    losses: Callable[..., tuple[Tensor, Tensor]] = torch.compile(module, dynamic=False) if compiled else module
    table = positions(transformer, phase.picture).to(device)
    batch = phase.budget.batch

    def evaluate(data: LatentCache, rows: Tensor, noise: Tensor, sigma: Tensor, captions: list[str]) -> tuple:
        text, pooled = vocabulary.look_up(captions, device)
        latents, geometry = (values[rows].to(device, torch.float32) for values in (data.latents, data.geometry))
        with autocast(device):
            return losses(latents, noise.to(device), sigma.to(device), text, pooled, table, geometry)

    def loss_of(draw: int, progress: float) -> Tensor:
        generator = torch.Generator().manual_seed((seed << 32) + draw)
        rows = cache.rows(draw, batch, seed)
        noise = torch.randn(cache.latents[rows].shape, generator=generator)
        sigma = draw_sigmas(len(rows), phase.noise_shift, phase.stepped_share, generator)
        empty = torch.rand(len(rows), generator=generator) < phase.empty_share
        captions = ["" if drop else cache.captions[row] for row, drop in zip(rows.tolist(), empty, strict=True)]
        velocity, geometry = evaluate(cache, rows, noise, sigma, captions)
        return velocity.mean() + phase.geometry_weight * geometry

    def measured() -> dict[str, float]:
        """The validation loss. Gradients stay on, though nobody asks for them: without, all would compile anew."""
        generator = torch.Generator().manual_seed(0)
        count = len(held_out.captions) // batch * batch
        noise = torch.randn(held_out.latents[:count].shape, generator=generator)
        sigma = ((torch.arange(count) + 0.5) / count)[torch.randperm(count, generator=generator)]
        errors, told = [], []
        for rows in torch.arange(count).split(batch):
            captions = [held_out.captions[row] for row in rows]
            velocity, geometry = evaluate(held_out, rows, noise[rows], sigma[rows], captions)
            errors.append(velocity.detach())
            told.append(geometry.detach())
        if on_save is not None:
            on_save()
        return {"validation": float(torch.cat(errors).mean()), "geometry": float(torch.stack(told).mean())}

    train(folder, module, loss_of, phase.budget, phase.optimization, measured, block_matrices(transformer))


def block_matrices(transformer: SD3Transformer2DModel) -> list[Tensor]:
    """The weights that Muon trains: the matrices of attention and feed-forward, not those of the modulations."""
    return [
        weight
        for name, weight in transformer.transformer_blocks.named_parameters()
        if weight.ndim == 2 and "norm" not in name
    ]
