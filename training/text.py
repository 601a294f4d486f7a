"""The text side of the demo pair: a CLIP tokenizer for the words of the world, and two CLIP text encoders.

Stable Diffusion 3 concatenates the features of its two CLIP encoders, and without a T5 follows them with zero tokens.
The encoders are trained as in CLIP, against an image encoder that is thrown away afterwards, and fixed from then on.
"""

import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor, nn
from tqdm import tqdm
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

from hybridstitch.evaluation.world.scenes import BACKGROUNDS, COLORS, RELATIONS, SIZES, caption, render, sample_scene
from hybridstitch.evaluation.world.shapes import SHAPES, TEXTURES
from training import workers
from training.loop import Budget, Optimization, autocast, train

LENGTH = 24  # tokens of a prompt, start and end included; the longest caption takes 20
FEATURES = 192  # joint_attention_dim: features of both encoders, zero-padded to this
START, END = "<|startoftext|>", "<|endoftext|>"
OPTIMIZATION = Optimization(rate=1e-3, decay=0.01, average=0.99)


@dataclass(frozen=True)
class EncoderSettings:
    width: int
    layers: int
    heads: int


@dataclass(frozen=True)
class TextSettings:
    first: EncoderSettings = EncoderSettings(width=96, layers=3, heads=3)
    second: EncoderSettings = EncoderSettings(width=64, layers=2, heads=2)
    batch: int = 128
    picture: int = 64

    @property
    def pooled(self) -> int:
        """Width of the two pooled projections together."""
        return self.first.width + self.second.width


def world_words() -> list[str]:
    """Every word that a caption can hold."""
    relations = {word for relation in RELATIONS for word in relation.split()}
    return sorted({"a", "on", "background", *SIZES, *TEXTURES, *COLORS, *SHAPES, *BACKGROUNDS, *relations})


def build_tokenizer(folder: Path) -> CLIPTokenizer:
    """A CLIP tokenizer in which each word of the world is one token and any other text falls back to bytes; its
    vocab.json and merges.txt are written to `folder` too, where older readers look for them."""
    letters = sorted(ByteLevel.alphabet())
    merges = _merges(world_words())
    symbols = [*letters, *(f"{letter}</w>" for letter in letters), *(first + second for first, second in merges)]
    vocabulary = {symbol: index for index, symbol in enumerate([*symbols, START, END])}
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=LENGTH)  # pyright: ignore
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
    lines = ["#version: 0.2", *(f"{first} {second}" for first, second in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n")
    return tokenizer


def tokenize(tokenizer: CLIPTokenizer, captions: Sequence[str]) -> Tensor:
    """Token ids [len(captions), LENGTH], as StableDiffusion3Pipeline makes them."""
    encoded = tokenizer(list(captions), padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt")
    return torch.as_tensor(encoded["input_ids"])


def build_encoder(settings: EncoderSettings, tokenizer: CLIPTokenizer) -> CLIPTextModelWithProjection:
    vocabulary = tokenizer.get_vocab()
    start, end = (vocabulary[token] for token in (START, END))
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.width,
        intermediate_size=2 * settings.width,
        projection_dim=settings.width,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        max_position_embeddings=LENGTH,
        hidden_act="gelu",
        bos_token_id=start,
        eos_token_id=end,
        pad_token_id=end,
    )
    encoder = CLIPTextModelWithProjection(config)
    embeddings = encoder.text_model.embeddings
    nn.init.normal_(embeddings.token_embedding.weight, std=0.3)  # far above CLIP's 0.02: learnt in minutes
    nn.init.normal_(embeddings.position_embedding.weight, std=0.1)
    return encoder


class TextEncoders(nn.Module):
    """Both encoders, giving what the transformer of StableDiffusion3Pipeline reads."""

    def __init__(self, first: CLIPTextModelWithProjection, second: CLIPTextModelWithProjection) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """ids [B, 24]. Returns tokens [B, 25, 192], of which the last is the zero token that stands for all of
        T5's, and the pooled projections [B, 160]."""
        outputs = [encoder(ids, output_hidden_states=True) for encoder in (self.first, self.second)]
        tokens = torch.cat([output.hidden_states[-2] for output in outputs], dim=-1)
        tokens = F.pad(tokens, (0, FEATURES - tokens.shape[-1], 0, 1))
        return tokens, torch.cat([output.text_embeds for output in outputs], dim=-1)


class Contrast(nn.Module):
    """CLIP's loss of both text encoders against one small image encoder."""

    def __init__(self, text: TextEncoders, settings: TextSettings) -> None:
        super().__init__()
        self.text = text
        self.widths = (settings.first.width, settings.second.width)
        self.image = nn.Sequential(
            nn.Conv2d(3, 32, 5, stride=2, padding=2),
            nn.GELU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(64, 128, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(128, 128, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Flatten(),
            nn.Linear(128 * (settings.picture // 16) ** 2, 256),
            nn.GELU(),
            nn.Linear(256, sum(self.widths)),
        )
        self.log_scale = nn.Parameter(torch.tensor(2.5))

    def forward(self, pictures: Tensor, ids: Tensor) -> Tensor:
        """pictures [B, 3, S, S], 0 to 1; ids [B, 24]. Returns a scalar."""
        named = self.text(ids)[1].float().split(self.widths, dim=-1)
        seen = self.image(2 * pictures - 1).float().split(self.widths, dim=-1)
        scale = self.log_scale.clamp(max=4.6).exp()
        match = torch.arange(len(ids), device=ids.device)
        loss = torch.zeros((), device=ids.device)
        for name, sight in zip(named, seen, strict=True):
            logits = scale * F.normalize(name, dim=-1) @ F.normalize(sight, dim=-1).T
            loss = loss + F.cross_entropy(logits, match) + F.cross_entropy(logits.T, match)
        return loss / 4


def train_text(folder: Path, pictures: int, seed: int, device: torch.device, settings: TextSettings) -> None:
    """Build the tokenizer, train both encoders against that many pictures, save all to `folder`."""
    torch.manual_seed(seed)
    with workers.first_alone() as first:
        if first:
            build_tokenizer(folder / "tokenizer")
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    text = TextEncoders(build_encoder(settings.first, tokenizer), build_encoder(settings.second, tokenizer)).to(device)
    module = Contrast(text, settings).to(device)

    def loss_of(draw: int, progress: float) -> Tensor:
        first = (seed << 40) + draw * settings.batch
        scenes = [sample_scene(first + index) for index in range(settings.batch)]
        ids = tokenize(tokenizer, [caption(scene) for scene in scenes]).to(device)
        with autocast(device):
            return module(render(scenes, settings.picture, device), ids)

    train(folder, module, loss_of, Budget(pictures, settings.batch), OPTIMIZATION)
    with workers.first_alone() as first:
        if first:
            text.first.save_pretrained(folder / "text_encoder")
            text.second.save_pretrained(folder / "text_encoder_2")


def load_text(folder: Path, device: torch.device) -> tuple[CLIPTokenizer, TextEncoders]:
    """Read back what `train_text` wrote."""
    encoders = [
        CLIPTextModelWithProjection.from_pretrained(folder / name, dtype=torch.float32)
        for name in ("text_encoder", "text_encoder_2")
    ]
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    return tokenizer, TextEncoders(*encoders).to(device)


class Vocabulary:
    """What the fixed encoders make of captions, computed once for each of them and of the empty prompt."""

    def __init__(self, tokenizer: CLIPTokenizer, text: TextEncoders, captions: Iterable[str]) -> None:
        names = sorted({"", *captions})
        self.row = {name: row for row, name in enumerate(names)}
        device = next(text.parameters()).device
        tokens, pooled = [], []
        with torch.no_grad():
            for first in tqdm(range(0, len(names), 512), desc="captions", mininterval=10):
                seen, whole = text(tokenize(tokenizer, names[first : first + 512]).to(device))
                tokens.append(seen.to("cpu", torch.float16))
                pooled.append(whole.to("cpu", torch.float16))
        self.tokens, self.pooled = torch.cat(tokens), torch.cat(pooled)

    def look_up(self, captions: Sequence[str], device: torch.device) -> tuple[Tensor, Tensor]:
        """tokens [B, 25, 192] and pooled [B, 160], float32."""
        rows = torch.tensor([self.row[caption] for caption in captions])
        return self.tokens[rows].to(device, torch.float32), self.pooled[rows].to(device, torch.float32)


def _merges(words: Sequence[str]) -> list[tuple[str, str]]:
    """Merge rules under which each word ends as one symbol. New rules come last, so no earlier word changes."""
    merges: list[tuple[str, str]] = []
    for word in words:
        symbols = _apply([*word[:-1], f"{word[-1]}</w>"], merges)
        while len(symbols) > 1:
            merges.append((symbols[0], symbols[1]))
            symbols = [symbols[0] + symbols[1], *symbols[2:]]
    return merges


def _apply(symbols: list[str], merges: Sequence[tuple[str, str]]) -> list[str]:
    rank = {pair: index for index, pair in enumerate(merges)}
    while len(symbols) > 1:
        pairs = list(itertools.pairwise(symbols))
        best = min(pairs, key=lambda pair: rank.get(pair, len(rank)))
        if best not in rank:
            break
        at = pairs.index(best)
        symbols = [*symbols[:at], best[0] + best[1], *symbols[at + 2 :]]
    return symbols
