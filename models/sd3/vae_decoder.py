"""The VAE decoder as a plain graph: latents as the sampler leaves them in, a picture out."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from hybridstitch.method.errors import HybridStitchError


class VaeDecoder(nn.Module):
    """The decoding half of diffusers' AutoencoderKL, latents' scale and shift included.

    Raises:
        HybridStitchError: a decoder of other blocks than Stable Diffusion 3's.
    """

    def __init__(self, vae: Any) -> None:
        super().__init__()
        config = vae.config
        if others := sorted(set(config.up_block_types) - {"UpDecoderBlock2D"}):
            raise HybridStitchError(f"the VAE has decoder blocks {', '.join(others)}; only UpDecoderBlock2D is known")
        self.post_quant_conv = vae.post_quant_conv
        self.decoder = vae.decoder
        self.scaling: float = config.scaling_factor
        self.shift: float = config.shift_factor or 0.0

    def forward(self, latents: Tensor) -> Tensor:
        """Picture [B, 3, f*h, f*w] in about -1 to 1, from latents [B, C, h, w].

        The steps of diffusers' Decoder.forward, without its guards on memory layouts, which tie a trace to sizes.
        """
        decoder: Any = self.decoder
        sample = latents / self.scaling + self.shift
        if self.post_quant_conv is not None:
            sample = self.post_quant_conv(sample)
        sample = decoder.mid_block(decoder.conv_in(sample), None)
        for block in decoder.up_blocks:
            for layer in block.resnets:
                sample = layer(sample, None)
            for upsampler in block.upsamplers or ():
                sample = upsampler.conv(functional.interpolate(sample, scale_factor=2.0, mode="nearest"))
        return decoder.conv_out(decoder.conv_act(decoder.conv_norm_out(sample)))
