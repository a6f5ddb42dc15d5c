"""Random light and colour of a batch."""

from __future__ import annotations

from dataclasses import replace

import torch

from densedet.core.arguments import NonNegativeFloat, Probability
from densedet.core.placement import blank_outside
from densedet.core.transfer import uploaded
from densedet.core.types import Batch

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue (ITU-R BT.601)."""


class BatchPhotometric:
    """Change contrast, brightness and, in colour images, saturation of each image of a batch at random.

    pixel = (pixel - mean) * contrast + mean + 255 * brightness, where mean is that of the image's whole
    tensor. Saturation multiplies the distance of colours from their luma. Boxes and the zeros outside the
    valid size stay.

    Args:
        brightness: b draws from -b..b, where 1 is the range of pixels.
        contrast: c draws from 1 - c .. 1 + c, not below 0.
        saturation: s draws from 1 - s .. 1 + s, not below 0.
        p: probability for each image.
    """

    per_image = True
    any_device = True

    def __init__(
        self,
        *,
        brightness: NonNegativeFloat = 0.15,
        contrast: NonNegativeFloat = 0.3,
        saturation: NonNegativeFloat = 0.3,
        p: Probability = 1.0,
    ) -> None:
        self.brightness = brightness
        self.contrast = contrast
        self.saturation = saturation
        self.p = p

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Transform a batch, which is not changed; random numbers come from ``generator`` alone."""
        (draw,) = uploaded([batch.draw(4, generator)], batch.images.device)
        signed = torch.where(draw[:, 3, None] < self.p, draw[:, :3] * 2 - 1, 0.0)[:, :, None, None, None]
        gain = (1 + self.contrast * signed[:, 0]).clamp(min=0)
        pixels = batch.images.to(torch.float32, copy=True)  # changed in place below
        mean = pixels.mean((1, 2, 3), keepdim=True)
        if pixels.shape[1] == 3 and self.saturation > 0:
            spread = (1 + self.saturation * signed[:, 2]).clamp(min=0)
            luma = sum(weight * pixels[:, c : c + 1] for c, weight in enumerate(LUMA))
            pixels.mul_(spread).add_(luma * (1 - spread))
        pixels.mul_(gain).add_(mean * (1 - gain) + 255 * self.brightness * signed[:, 1]).clamp_(0, 255)
        if not batch.images.is_floating_point():
            pixels = pixels.round_().to(batch.images.dtype)
        return replace(batch, images=blank_outside(pixels, batch.sizes_hw))
