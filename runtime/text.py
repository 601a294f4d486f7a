"""Prompts to text embeddings, as StableDiffusion3Pipeline.encode_prompt does it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor

from hybridstitch.engines.executors.engine import BoundCall, Engine, Session
from hybridstitch.engines.executors.scratch_arena import ScratchArena

from .engine_models import Around
from .prompts import Tokenizers

Watch = Callable[[str, Tensor], None]


class TextEncoders:
    """Two CLIP text encoders and, where the pair has it, T5. The calls of each number of prompts are bound once.

    Embeddings of both CLIPs stand side by side, padded with zeros to the text width; T5's tokens follow, or,
    without T5, one zero token (the large graph knows how many it stands for).
    Source: https://huggingface.co/docs/diffusers/api/pipelines/stable_diffusion/stable_diffusion_3

    Args:
        engines: text_encoder, text_encoder_2 and perhaps text_encoder_3. tokenizers: one for each.
        width: E, the joint text width. zero_tokens: how many zero tokens stand in for a missing T5.
        scratch: see `Engine.session`.
    """

    def __init__(
        self,
        engines: Sequence[Engine],
        tokenizers: Tokenizers,
        *,
        width: int,
        zero_tokens: int,
        dtype: torch.dtype,
        scratch: ScratchArena | None = None,
    ) -> None:
        self._tokenizers = tokenizers
        self._sessions = [engine.session(scratch) for engine in engines]
        self._has_t5 = len(engines) > 2
        self._width, self._zero_tokens, self._dtype = width, zero_tokens, dtype
        self._calls: dict[int, list[tuple[Tensor, BoundCall]]] = {}  # token ids and call, by number of prompts

    def encode(
        self, prompts: Sequence[str], around: Around = nullcontext, watch: Watch = lambda _name, _output: None
    ) -> tuple[Tensor, Tensor]:
        """Text [B, T, E] and pooled [B, P] of B prompts.

        Args:
            around: as in `EngineModels`. watch: called with a name and each output (NaN checks).
        """
        outputs = [self._run(index, prompts, around, watch) for index in range(len(self._sessions))]
        clip = torch.cat([output["hidden"].to(self._dtype) for output in outputs[:2]], dim=-1)
        pooled = torch.cat([output["pooled"].to(self._dtype) for output in outputs[:2]], dim=-1)
        parts = [torch.nn.functional.pad(clip, (0, self._width - clip.shape[-1]))]
        if self._has_t5:
            parts.append(outputs[2]["hidden"].to(self._dtype))
        elif self._zero_tokens:
            parts.append(clip.new_zeros(len(prompts), 1, self._width))
        return torch.cat(parts, dim=1), pooled

    def _run(self, index: int, prompts: Sequence[str], around: Around, watch: Watch) -> Mapping[str, Tensor]:
        ids, call = self._bound(len(prompts))[index]
        ids.copy_(self._tokenizers.ids(index, prompts))
        component = self._sessions[index].engine.manifest.component
        with around(component):
            call.run()
        for name, output in call.outputs.items():
            watch(f"{component}, {name},", output)
        return call.outputs

    def _bound(self, count: int) -> list[tuple[Tensor, BoundCall]]:
        if count not in self._calls:
            self._calls[count] = [
                self._bind(session, count, length)
                for session, length in zip(self._sessions, self._tokenizers.lengths, strict=True)
            ]
        return self._calls[count]

    @staticmethod
    def _bind(session: Session, count: int, length: int) -> tuple[Tensor, BoundCall]:
        ids = torch.zeros(count, length, dtype=torch.int64, device=session.engine.device)
        return ids, session.bind({"input_ids": ids})
