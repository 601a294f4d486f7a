"""Prompts to text embeddings, as StableDiffusion3Pipeline.encode_prompt does it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hybridstitch.engines.executors.engine import Engine
from hybridstitch.engines.store.manifest import Manifest
from hybridstitch.method.errors import HybridStitchError

from .engine_models import Around


def encoder_length(manifest: Manifest) -> int:
    """The token ids that a text encoder's engine takes, padding included: fixed when it was exported."""
    length = manifest.inputs["input_ids"].dims[1]
    assert isinstance(length, int)
    return length


def text_tokens(manifests: Mapping[str, Manifest]) -> int:
    """T, the text tokens that a pair's encoders give the transformers."""
    t5 = manifests.get("text_encoder_3")
    return encoder_length(manifests["text_encoder"]) + (encoder_length(t5) if t5 is not None else 1)


class TextEncoders:
    """Two CLIP text encoders and, where the pair has it, T5.

    Embeddings of both CLIPs stand side by side, padded with zeros to the text width; T5's tokens follow, or,
    without T5, one zero token (the large graph knows how many it stands for).
    Source: https://huggingface.co/docs/diffusers/api/pipelines/stable_diffusion/stable_diffusion_3

    Args:
        engines: text_encoder, text_encoder_2 and perhaps text_encoder_3.
        tokenizers: the folder that holds tokenizer, tokenizer_2 and perhaps tokenizer_3.
        width: E, the joint text width. zero_tokens: how many zero tokens stand in for a missing T5.
    """

    def __init__(
        self,
        engines: Sequence[Engine],
        tokenizers: Path,
        *,
        width: int,
        zero_tokens: int,
        dtype: torch.dtype,
    ) -> None:
        from transformers import AutoTokenizer  # a slow import

        self._engines = list(engines)
        self._has_t5 = len(engines) > 2
        names = ["tokenizer", "tokenizer_2", "tokenizer_3"][: len(engines)]
        self._tokenizers: list[Any] = [AutoTokenizer.from_pretrained(str(tokenizers / name)) for name in names]
        self._width, self._zero_tokens, self._dtype = width, zero_tokens, dtype

    @property
    def device(self) -> torch.device:
        return self._engines[0].device

    def check(self, prompt: str, name: str = "prompt", *, may_be_empty: bool = False) -> None:
        """Refuse a prompt that says nothing, or whose end no encoder would read.

        Raises:
            HybridStitchError: it is no text, is empty, or is longer than the longest encoder's limit; what would be
                lost is told.
        """
        if not isinstance(prompt, str):
            raise HybridStitchError(f"the {name} must be text, not {prompt!r:.80}")
        if not may_be_empty and not any(sign.isprintable() and not sign.isspace() for sign in prompt):
            raise HybridStitchError(f"the {name} is empty: say what to draw")
        if broken := [sign for sign in prompt if "\ud800" <= sign <= "\udfff"]:
            raise HybridStitchError(f"the {name} is not UTF-8 text: it holds {broken[0]!r}")
        tokenizer, limit = self._tokenizers[-1], encoder_length(self._engines[-1].manifest)
        ids = tokenizer(prompt, verbose=False).input_ids
        if len(ids) > limit:
            lost = tokenizer.decode(ids[limit - 1 :], skip_special_tokens=True).strip()
            lost = lost if len(lost) <= 200 else f"{lost[:200]}..."
            raise HybridStitchError(
                f"the {name} is {len(ids)} tokens long and the limit is {limit}: {lost!r} would be cut off; shorten it"
            )

    def encode(
        self, prompts: Sequence[str], around: Around = nullcontext, watch: Callable[[str, Tensor], None] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Text [B, T, E] and pooled [B, P] of B prompts. around, watch: as in `EngineModels`."""
        clips = [self._call(index, prompts, around, watch) for index in range(2)]
        clip = torch.cat([output["hidden"].to(self._dtype) for output in clips], dim=-1)
        pooled = torch.cat([output["pooled"].to(self._dtype) for output in clips], dim=-1)
        parts = [torch.nn.functional.pad(clip, (0, self._width - clip.shape[-1]))]
        if self._has_t5:
            parts.append(self._call(2, prompts, around, watch)["hidden"].to(self._dtype))
        elif self._zero_tokens:
            parts.append(clip.new_zeros(len(prompts), 1, self._width))
        return torch.cat(parts, dim=1), pooled

    def _call(
        self, index: int, prompts: Sequence[str], around: Around, watch: Callable[[str, Tensor], None] | None
    ) -> Mapping[str, Tensor]:
        engine, ids = self._engines[index], self.token_ids(index, prompts)
        with around(engine.manifest.component):
            outputs = engine({"input_ids": ids})
        if watch is not None:
            for name, output in outputs.items():
                watch(f"{engine.manifest.component}, {name},", output)
        return outputs

    def token_ids(self, index: int, prompts: Sequence[str]) -> Tensor:
        """Token ids [B, L] for the encoder of that index, padded and cut to its length."""
        length = encoder_length(self._engines[index].manifest)
        batch = self._tokenizers[index](
            list(prompts), padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        )
        return batch.input_ids.to(self.device)
