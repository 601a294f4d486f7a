"""Token ids: what transformers gives, without its batches."""

import shutil
from pathlib import Path

import pytest
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

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


T5_LENGTH = 12


@pytest.fixture(scope="module")
def with_t5(tmp_path_factory) -> Path:
    """The demo's tokenizers and one as T5 has it: pieces of words with ▁ for a space, and an end."""
    folder = tmp_path_factory.mktemp("t5")
    for name in ("tokenizer", "tokenizer_2"):
        shutil.copytree(ASSETS / name, folder / name)
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces += [(sign, -5.0) for sign in "abcdefghijklmnopqrstuvwxyzLBä"] + [("▁star", -1.0), ("▁a", -1.0)]
    t5 = Tokenizer(models.Unigram(pieces, unk_id=2))
    t5.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Replace(Regex(" {2,}"), " ")])
    t5.pre_tokenizer = pre_tokenizers.Metaspace()
    t5.decoder = decoders.Metaspace()
    t5.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    PreTrainedTokenizerFast(
        tokenizer_object=t5, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder / "tokenizer_3")
    return folder


CUT = "the prompt is {} tokens long and the limit is {}: {!r} would be cut off; shorten it"


@pytest.mark.parametrize(
    ("prompt", "length", "tokens", "lost"),
    [
        ("A Large  red Star ON a\tNavy background", 8, 10, "Navy background"),
        ("a large red star with A  Bär", 8, 15, "with A  Bär"),  # the cut is in the middle of "with", which is 4 tokens
        ("a large red star on ﬁ", 8, 10, "ﬁ"),
        ("a star 🐻 a star", 6, 10, "🐻 a star"),
        ("<|endoftext|> a large red star", 6, 7, "star"),
        ("星" * 30, 24, 92, "星" * 23),
        ("a large red star " * 40, 24, 162, "red star " + "a large red star " * 11 + "a la..."),
    ],
)
def test_an_over_long_prompt_is_told_which_of_its_words_would_be_lost(prompt, length, tokens, lost):
    with pytest.raises(HybridStitchError) as told:
        Tokenizers(ASSETS, (length, length)).check(prompt)
    assert str(told.value) == CUT.format(tokens, length, lost)


@pytest.mark.parametrize(
    ("prompt", "tokens", "lost"),
    [
        ("a star a star a star a star a  star a star a Large  Bär", 24, "star a Large  Bär"),
        ("star star star star star star star star star Large star", 17, "Large star"),
    ],
)
def test_with_a_t5_the_words_are_those_that_t5_does_not_read(with_t5, prompt, tokens, lost):
    with pytest.raises(HybridStitchError) as told:
        Tokenizers(with_t5, (77, 77, T5_LENGTH)).check(prompt)
    assert str(told.value) == CUT.format(tokens, T5_LENGTH, lost)
