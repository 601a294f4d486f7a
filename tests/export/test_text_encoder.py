"""Text encoders give what transformers gives, however the end of a text is marked."""

from __future__ import annotations

import onnx_ir as ir
import pytest
import torch
from torch.testing import assert_close

from hybridstitch.export.external import place_weights, point
from hybridstitch.export.trace import trace
from hybridstitch.method.progress import silent
from hybridstitch.models.load import find_weights
from hybridstitch.models.sd3.components import t5_text_encoder, text_shape
from hybridstitch.models.sd3.text_encoder import ClipTextEncoder, T5TextEncoder

from ..models.checkpoints import CLIP_TOKENS, END, clip, save_checkpoint, t5_encoder
from .running import run_onnx


@pytest.mark.parametrize("eos", [2, END, 7])
def test_clip_pools_at_the_end_of_text(eos):
    model = clip(8, eos)
    ids = torch.randint(8, END - 1, (4, CLIP_TOKENS), generator=torch.Generator().manual_seed(1))
    end = END if eos == 2 else eos  # old configs say 2 and mean the largest id
    for row, place in enumerate([0, 3, 6, CLIP_TOKENS - 1]):
        ids[row, place:] = end
    hidden, pooled = ClipTextEncoder(model)(ids)
    expected = model(ids, output_hidden_states=True)
    assert_close(hidden, expected.hidden_states[-2], atol=1e-5, rtol=1e-5)
    assert_close(pooled, expected.text_embeds, atol=1e-5, rtol=1e-5)


def test_t5_is_exported_at_the_recipe_s_length(tmp_path):
    checkpoint = save_checkpoint(tmp_path / "checkpoint", t5=True)
    text = text_shape(checkpoint, 24)
    assert (text.t5_tokens, text.zero_tokens, text.tokens) == (24, 0, CLIP_TOKENS + 24)
    ids = torch.randint(0, 50, (2, 24), generator=torch.Generator().manual_seed(0))
    expected = t5_encoder()(ids)[0]
    assert_close(T5TextEncoder(t5_encoder())(ids), expected, atol=1e-5, rtol=1e-5)

    component = t5_text_encoder(checkpoint, "text_encoder_3", text, torch.float32)
    model = trace(component)
    point(model, place_weights(component, find_weights(component), tmp_path, silent))
    ir.save(model, tmp_path / "model.onnx")
    outputs = run_onnx(tmp_path, {"input_ids": ids})
    assert_close(outputs["hidden"], expected, atol=1e-5, rtol=1e-5)
