"""Token ids: what transformers gives, without its batches."""

from pathlib import Path

import pytest
from transformers import AutoTokenizer

import hybridstitch
from hybridstitch.runtime.prompts import Tokenizers

ASSETS = Path(hybridstitch.__file__).parent / "pairs" / "demo" / "large"
PROMPTS = [
    "",
    "a large red star on a navy background",
    "  two   spaces,\tand a\nline ",
    "<|endoftext|> as text",
    "ein Bär 🐻 on a sky background",
    "a large red star " * 12,
]


@pytest.mark.parametrize("length", [24, 77])
def test_token_ids_are_those_of_transformers_padded_and_cut_to_each_encoders_length(length):
    tokenizers = Tokenizers(ASSETS, (length, length))
    for index, name in enumerate(("tokenizer", "tokenizer_2")):
        theirs = AutoTokenizer.from_pretrained(ASSETS / name)
        wanted = theirs(PROMPTS, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        assert tokenizers.ids(index, PROMPTS).tolist() == wanted.input_ids.tolist()
