"""Prompts to token ids, and which prompts are refused."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from hybridstitch.engines.store.manifest import Manifest
from hybridstitch.method.errors import HybridStitchError


def encoder_length(manifest: Manifest) -> int:
    """The token ids that a text encoder's engine takes, padding included: fixed when it was exported."""
    length = manifest.inputs["input_ids"].dims[1]
    assert isinstance(length, int)
    return length


def text_tokens(manifests: Mapping[str, Manifest]) -> int:
    """T, the text tokens that a pair's encoders give the transformers."""
    t5 = manifests.get("text_encoder_3")
    return encoder_length(manifests["text_encoder"]) + (encoder_length(t5) if t5 is not None else 1)


class Tokenizers:
    """One tokenizer for each text encoder; safe from any thread.

    Args:
        folder: holds tokenizer, tokenizer_2 and perhaps tokenizer_3. lengths: the token ids that each encoder takes.
    """

    def __init__(self, folder: Path, lengths: Sequence[int]) -> None:
        from transformers import AutoTokenizer  # a slow import

        names = ["tokenizer", "tokenizer_2", "tokenizer_3"][: len(lengths)]
        self.lengths = tuple(lengths)
        self._tokenizers: list[Any] = [AutoTokenizer.from_pretrained(str(folder / name)) for name in names]
        self._lock = threading.Lock()  # a call sets padding and truncation on the tokenizer itself

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
        tokenizer, limit = self._tokenizers[-1], self.lengths[-1]
        with self._lock:
            ids = tokenizer(prompt, verbose=False).input_ids
        if len(ids) > limit:
            lost = tokenizer.decode(ids[limit - 1 :], skip_special_tokens=True).strip()
            lost = lost if len(lost) <= 200 else f"{lost[:200]}..."
            raise HybridStitchError(
                f"the {name} is {len(ids)} tokens long and the limit is {limit}: {lost!r} would be cut off; shorten it"
            )

    def ids(self, index: int, prompts: Sequence[str]) -> Tensor:
        """Token ids [B, L] for the encoder of that index, padded and cut to its length, on the CPU."""
        with self._lock:
            batch = self._tokenizers[index](
                list(prompts),
                padding="max_length",
                max_length=self.lengths[index],
                truncation=True,
                return_tensors="pt",
            )
        return batch.input_ids
