"""Prompts to token ids, and which prompts are refused."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from unicodedata import category

import torch
from tokenizers import Tokenizer
from torch import Tensor

from hybridstitch.engines.store.manifest import Manifest
from hybridstitch.method.errors import HybridStitchError, shown

MOST_CHARACTERS = 10_000
"""Of a prompt: many times what any encoder reads. More is refused before a tokenizer works through it."""

# Thai, Lao, Burmese, Khmer, Japanese and Chinese put no spaces between words: there a cut is told as it is.
_PART_OF_A_WORD = re.compile(
    r"[^\W\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u30ff\u3400-\u9fff\U00020000-\U0003ffff]"
)


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
        loaded = [AutoTokenizer.from_pretrained(str(folder / name)) for name in names]
        self._tokenizers: list[Tokenizer] = [each.backend_tokenizer for each in loaded]
        self._whole = Tokenizer.from_str(self._tokenizers[-1].to_str())  # the last one, but it keeps every token:
        self._whole.no_truncation()  # a tokenizer.json may have been saved with either switched on
        self._whole.no_padding()
        for each, length in zip(loaded, lengths, strict=True):
            each.backend_tokenizer.enable_truncation(length)
            each.backend_tokenizer.enable_padding(length=length, pad_id=each.pad_token_id, pad_token=each.pad_token)

    def check(self, prompt: str, name: str = "prompt", *, may_be_empty: bool = False) -> None:
        """Refuse a prompt that says nothing, or whose end no encoder would read.

        Raises:
            HybridStitchError: it is no text, holds what no text does, is empty, is longer than MOST_CHARACTERS, or than
                the longest encoder's limit: what would be lost is told.
        """
        if not isinstance(prompt, str):
            raise HybridStitchError(f"the {name} must be text, not {shown(prompt, 80)}")
        if len(prompt) > MOST_CHARACTERS:
            raise HybridStitchError(
                f"the {name} has {len(prompt)} characters and the limit is {MOST_CHARACTERS}: shorten it"
            )
        if broken := next((sign for sign in prompt if "\ud800" <= sign <= "\udfff"), None):
            raise HybridStitchError(f"the {name} is not UTF-8 text: it holds {broken!r}")
        if control := next((sign for sign in prompt if category(sign) == "Cc" and sign not in "\t\n\r"), None):
            raise HybridStitchError(
                f"the {name} holds the control character {control!r}: leave it out; tabs and line ends are allowed"
            )
        if not may_be_empty and not any(sign.isprintable() and not sign.isspace() for sign in prompt):
            raise HybridStitchError(f"the {name} is empty: say what to draw")
        limit = self.lengths[-1]
        read = self._whole.encode(prompt)
        if len(read.ids) > limit:
            lost = _words_from(prompt, read.offsets[limit - 1][0])  # the last id that is read is the end's
            lost = lost if len(lost) <= 200 else f"{lost[:200]}..."
            raise HybridStitchError(
                f"the {name} is {len(read.ids)} tokens long and the limit is {limit}: {lost!r} would be cut off; "
                "shorten it"
            )

    def ids(self, index: int, prompts: Sequence[str]) -> Tensor:
        """Token ids [B, L] for the encoder of that index, padded and cut to its length, on the CPU."""
        # One by one: a batch would wake as many threads as there are cores, beside those of the engines.
        return torch.tensor([self._tokenizers[index].encode(prompt).ids for prompt in prompts])


def _words_from(prompt: str, start: int) -> str:
    """The end of a prompt as it was typed, from a character on, or from the beginning of that character's word."""
    cut = _PART_OF_A_WORD.match(prompt, start)
    while cut and start > 0 and _PART_OF_A_WORD.match(prompt, start - 1):
        start -= 1
    return prompt[start:].strip()
