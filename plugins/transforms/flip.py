"""Mirroring of a batch."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from densedet.core.arguments import Probability
from densedet.core.extras import moved_extra
from densedet.core.types import Batch


class BatchFlip:
    """Mirror images of a batch left and right at random, each within its valid size.

    Args:
        p: probability for each image.
    """

    per_image = True

    def __init__(self, *, p: Probability = 0.5) -> None:
        self.p = p

    def __call__(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Transform a batch, which is not changed; random numbers come from ``generator`` alone."""
        chosen = batch.draw(1, generator)[:, 0] < self.p
        images = batch.images.clone()
        rows = chosen.nonzero().flatten()
        widths = batch.valid_hw[rows.to(batch.valid_hw.device), 1].tolist()
        if all(width == images.shape[-1] for width in widths):
            images[rows] = batch.images[rows].flip(-1)
        else:
            for row, width in zip(rows.tolist(), widths):
                images[row, :, :, :width] = batch.images[row, :, :, :width].flip(-1)
        width = batch.valid_hw[:, 1, None].to(batch.boxes)
        x1, y1, x2, y2 = batch.boxes.unbind(-1)
        mirrored = torch.stack([width - x2, y1, width - x1, y2], dim=-1)
        moves = chosen.to(batch.boxes.device)[:, None] & batch.valid
        boxes = torch.where(moves[..., None], mirrored, batch.boxes)
        extra = moved_extra(batch, _matrix(chosen, width)) if batch.extras else {}
        return replace(batch, images=images, boxes=boxes, extra=extra)


def _matrix(chosen: Tensor, width: Tensor) -> Tensor:
    """(B,2,3), where a point goes: x becomes width - x in the chosen images. chosen: (B,); width: (B,1)."""
    matrix = torch.eye(2, 3).to(width).repeat(len(width), 1, 1)
    matrix[chosen, 0, 0] = -1.0
    matrix[chosen, 0, 2] = width[chosen, 0]
    return matrix
