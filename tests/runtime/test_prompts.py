"""Token ids: what transformers gives, without its batches."""

import shutil
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from transformers import AutoTokenizer

import hybridstitch
from hybridstitch.method.errors import HybridStitchError
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


@pytest.fixture(scope="module")
def truncating(tmp_path_factory) -> Path:
    """The demo's tokenizers, saved with truncation and padding to 24 tokens switched on."""
    folder = tmp_path_factory.mktemp("truncating")
    for name in ("tokenizer", "tokenizer_2"):
        shutil.copytree(ASSETS / name, folder / name)
        saved = Tokenizer.from_file(str(folder / name / "tokenizer.json"))
        saved.enable_truncation(24)
        saved.enable_padding(length=24, pad_id=saved.token_to_id("<|endoftext|>"), pad_token="<|endoftext|>")
        saved.save(str(folder / name / "tokenizer.json"))
    return folder


def test_truncation_that_a_tokenizer_was_saved_with_does_not_let_an_over_long_prompt_through(truncating):
    tokenizers = Tokenizers(truncating, (24, 24))
    with pytest.raises(HybridStitchError, match=r"the prompt is 74 tokens long and the limit is 24"):
        tokenizers.check("a large red star " * 18)


@pytest.mark.parametrize("length", [12, 77])
def test_truncation_and_padding_that_a_tokenizer_was_saved_with_do_not_change_token_ids(truncating, length):
    saved, plain = Tokenizers(truncating, (length, length)), Tokenizers(ASSETS, (length, length))
    for index in (0, 1):
        assert saved.ids(index, PROMPTS).tolist() == plain.ids(index, PROMPTS).tolist()
    assert saved.ids(0, PROMPTS).shape == (len(PROMPTS), length)
