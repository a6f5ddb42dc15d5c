"""Mirroring of a batch."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from densedet.core.arguments import Probability
from densedet.core.extras import moved_extra
from densedet.core.transfer import uploaded
from densedet.core.types import Batch


class BatchFlip:
    """Mirror images of a batch left and right at random, each within its valid size.

    Args:
        p: probability for each image.
    """

    per_image = True
    any_device = True

    def __init__(self, *, p: Probability = 0.5) -> None:
        self.p = p

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Transform a batch, which is not changed; random numbers come from ``generator`` alone."""
        chosen = batch.draw(1, generator)[:, 0] < self.p
        images, widths = batch.images.clone(), batch.sizes_hw[:, 1]
        for width in widths[chosen].unique().tolist():
            (rows,) = uploaded([(chosen & (widths == width)).nonzero().flatten()], images.device)
            mirrored = batch.images[rows, :, :, :width].flip(-1)
            images[rows, :, :, :width] = mirrored
        (chosen,) = uploaded([chosen], images.device)
        width = batch.valid_hw[:, 1, None].to(batch.boxes)
        x1, y1, x2, y2 = batch.boxes.unbind(-1)
        mirrored = torch.stack([width - x2, y1, width - x1, y2], dim=-1)
        boxes = torch.where((chosen[:, None] & batch.valid)[..., None], mirrored, batch.boxes)
        extra = moved_extra(batch, _matrix(chosen, width)) if batch.extras else {}
        return replace(batch, images=images, boxes=boxes, extra=extra)


def _matrix(chosen: Tensor, width: Tensor) -> Tensor:
    """(B,2,3), where a point goes: x becomes width - x in the chosen images. chosen: (B,); width: (B,1)."""
    zero, one = torch.zeros_like(width), torch.ones_like(width)
    factor, shift = torch.where(chosen[:, None], -one, one), torch.where(chosen[:, None], width, zero)
    return torch.cat([factor, zero, shift, zero, one, zero], dim=1).view(-1, 2, 3)
