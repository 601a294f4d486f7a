"""Checkpoints from the hub: exactly what is read is asked for, and a cached copy that holds that needs no network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from hybridstitch.method.errors import HybridStitchError
from hybridstitch.pairs.recipe import Recipe

COMMIT = "b940f670f0eda2d07fbb75229e779da1ad11eb80"
CLIP = {"tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt"}
T5_SHARDS = {f"text_encoder_3/model-0000{k}-of-00002.safetensors" for k in (1, 2)}
READ = {
    "model_index.json",
    "scheduler/scheduler_config.json",
    "transformer/config.json",
    "transformer/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
    *(f"text_encoder{n}/{file}" for n in ("", "_2") for file in ("config.json", "model.safetensors")),
    *(f"tokenizer{n}/{file}" for n in ("", "_2") for file in CLIP),
    "text_encoder_3/config.json",
    "text_encoder_3/model.safetensors.index.json",
    *T5_SHARDS,
    *(f"tokenizer_3/{file}" for file in ("tokenizer_config.json", "tokenizer.json", "spiece.model")),
}
UNREAD = {
    "README.md",
    "sd3_medium_incl_clips_t5xxlfp16.safetensors",
    "text_encoders/t5xxl_fp16.safetensors",
    "text_encoder/model.fp16.safetensors",
    "text_encoder_3/model.fp16-00001-of-00002.safetensors",
    "text_encoder_3/model.fp16-00002-of-00002.safetensors",
    "text_encoder_3/model.safetensors.index.fp16.json",
    "transformer/diffusion_pytorch_model.fp16.safetensors",
    "transformer/diffusion_pytorch_model.bin",
}
SMALL = {name for name in READ if name.endswith("config.json") and not name.startswith("tokenizer")}
SMALL |= {"model_index.json", "transformer/diffusion_pytorch_model.safetensors"}


def content(name: str, t5: bool = True) -> str:
    """Of a file of the made-up repository: only indexes say anything."""
    if name == "model_index.json":
        models = ("transformer", "vae", "scheduler", *(f"{kind}{n}" for kind in KINDS for n in ("", "_2")))
        third = {f"{kind}_3": ["transformers", "T5"] if t5 else [None, None] for kind in KINDS}
        return json.dumps({"_class_name": "StableDiffusion3Pipeline"} | {name: ["a", "b"] for name in models} | third)
    if name == "text_encoder_3/model.safetensors.index.json":
        return json.dumps({"weight_map": {name: Path(name).name for name in T5_SHARDS}})
    return "{}"


KINDS = ("text_encoder", "tokenizer")


class Hub:
    """A hub that has one repository, and a cache. asked: the files that were fetched from it."""

    def __init__(self, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.repository = cache / "models--some--model"
        self.names, self.asked, self.t5, self.monkeypatch = READ | UNREAD, set[str](), True, monkeypatch
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    @property
    def snapshot(self) -> Path:
        return self.repository / "snapshots" / COMMIT

    def cache(self, names: set[str]) -> None:
        """Put files where the hub's library puts them: links to blobs, under a commit that refs/main names."""
        (self.repository / "refs").mkdir(parents=True, exist_ok=True)
        (self.repository / "blobs").mkdir(exist_ok=True)
        (self.repository / "refs" / "main").write_text(COMMIT)
        for name in names:
            blob = self.repository / "blobs" / name.replace("/", "-")
            blob.write_text(content(name, self.t5))
            (self.snapshot / name).parent.mkdir(parents=True, exist_ok=True)
            (self.snapshot / name).unlink(missing_ok=True)
            (self.snapshot / name).symlink_to(blob)

    def online(self) -> None:
        def fetch(names: set[str]) -> None:
            self.asked |= names
            self.cache(names)

        def file(_: str, name: str, **__: Any) -> str:
            fetch({name})
            return str(self.snapshot / name)

        def snapshot(_: str, *, allow_patterns: list[str], **__: Any) -> str:
            fetch(set(huggingface_hub.utils.filter_repo_objects(self.names, allow_patterns=allow_patterns)))
            return str(self.snapshot)

        self.monkeypatch.setattr(huggingface_hub, "hf_hub_download", file)
        self.monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
        self.monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", lambda *_, **__: sorted(self.names))


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Hub:
    return Hub(tmp_path / "hub", monkeypatch)


@pytest.fixture
def recipe(tmp_path) -> Recipe:
    path = tmp_path / "mine.toml"
    path.write_text(
        'name = "mine"\nlarge.path = "some/model"\nsmall.path = "some/model"\n'
        'profiles.sizes = ["64x64"]\ndefaults.size = "64x64"\n'
    )
    return Recipe.load(path)


def test_the_hub_is_asked_for_what_is_read_and_no_more(hub, recipe):
    hub.online()
    assert recipe.checkpoint("large") == hub.snapshot
    assert hub.asked == READ


def test_of_the_small_model_the_transformer_is_fetched_and_the_configs_beside_it(hub, recipe):
    hub.online()
    assert recipe.checkpoint("small") == hub.snapshot
    assert hub.asked == SMALL


def test_without_t5_in_the_index_none_is_fetched(hub, recipe):
    hub.t5 = False
    hub.online()
    recipe.checkpoint("large")
    assert hub.asked == {name for name in READ if "_3/" not in name}


def test_a_variant_is_fetched_where_it_is_alone(hub, recipe):
    hub.names = hub.names - {"transformer/diffusion_pytorch_model.safetensors"}
    hub.online()
    recipe.checkpoint("large")
    assert {name for name in hub.asked if name.startswith("transformer/")} == {
        "transformer/config.json",
        "transformer/diffusion_pytorch_model.fp16.safetensors",
    }


def test_a_cache_that_holds_what_is_read_needs_no_network(hub, recipe):
    """As diffusers leaves it: the hub's library keeps a list of the repository's files, and most are not there."""
    hub.cache(READ)
    tree = {name: {"size": 2, "blob_id": "0"} for name in hub.names}
    (hub.repository / "trees").mkdir()
    (hub.repository / "trees" / f"{COMMIT}.json").write_text(json.dumps({"format_version": 1, "files": tree}))
    assert recipe.checkpoint("large") == hub.snapshot
    assert recipe.checkpoint("small") == hub.snapshot


def test_a_cache_that_holds_only_a_variant_is_used(hub, recipe):
    """What `from_pretrained(variant="fp16")` leaves."""
    weights = {"transformer/diffusion_pytorch_model.safetensors", "vae/diffusion_pytorch_model.safetensors"}
    hub.cache({name.replace(".safetensors", ".fp16.safetensors") if name in weights else name for name in READ})
    assert recipe.checkpoint("large") == hub.snapshot


def test_the_small_model_needs_its_transformer_alone_in_the_cache(hub, recipe):
    hub.cache({name for name in READ if name.startswith("transformer/")})
    assert recipe.checkpoint("small") == hub.snapshot


@pytest.mark.parametrize(
    ("gone", "words"),
    [
        ("transformer/diffusion_pytorch_model.safetensors", "transformer/diffusion_pytorch_model.safetensors, and"),
        ("text_encoder_3/model-00002-of-00002.safetensors", "text_encoder_3/model-00002-of-00002.safetensors, and"),
        ("tokenizer_2/merges.txt", "tokenizer_2/tokenizer.json, and"),
        ("model_index.json", "model_index.json, and"),
    ],
)
def test_what_a_cache_lacks_is_named_offline_and_fetched_online(hub, recipe, gone, words):
    hub.cache(READ - {gone})
    with pytest.raises(HybridStitchError, match=f"its copy in the hub's cache lacks {words} the hub gave: ") as caught:
        recipe.checkpoint("large")
    assert str(caught.value).startswith("the large checkpoint of pair 'mine', some/model, is no folder here, ")
    assert "\n" not in str(caught.value)
    hub.online()
    recipe.checkpoint("large")
    assert (hub.snapshot / gone).is_file()


def test_a_repository_in_another_layout_is_refused_before_anything_large_is_fetched(hub, recipe):
    hub.names = {"README.md", "sd3_medium.safetensors"}
    hub.online()
    with pytest.raises(HybridStitchError, match=r"no checkpoint in diffusers' layout .* it lacks model_index.json"):
        recipe.checkpoint("large")
    assert not hub.asked
