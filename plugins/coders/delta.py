"""Centre shift and log scale (Girshick et al. 2014, appendix C; SSD section 2.2; RetinaNet)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from densedet.core.arguments import PositiveFloat
from densedet.core.contracts import Space
from densedet.plugins.coders._distances import SMALLEST

LARGEST_GROWTH = math.log(1000.0 / 16)


class DeltaCoder:
    """dx, dy: shift of the centre in anchor widths and heights; dw, dh: log of the ratio of the sides; each
    times its weight.

    weights: of dx, dy, dw, dh. (1, 1, 1, 1) as RetinaNet (default), (10, 10, 5, 5) as SSD, which balances the
    four for a smooth L1.
    clamp: largest dw and dh (weights taken off) that decode believes, so that a wild output does not overflow
    exp: log(1000/16) lets a side grow 62.5-fold. Shrinking is not limited.

    Equal to torchvision's BoxCoder. Sides below 0.001 px, of anchors and boxes, count as 0.001 px, so that
    zero-size ones encode to finite numbers.
    """

    box_channels = 4
    spaces: tuple[Space, ...] = ("deltas", "boxes")

    def __init__(
        self,
        *,
        weights: tuple[PositiveFloat, PositiveFloat, PositiveFloat, PositiveFloat] = (1.0, 1.0, 1.0, 1.0),
        clamp: PositiveFloat = LARGEST_GROWTH,
    ) -> None:
        self.weights = weights
        self.clamp = clamp

    def encode(self, boxes: Tensor, anchors: Tensor) -> Tensor:
        """Boxes (...,4) and anchors (...,4), broadcastable, xyxy -> (...,4) dx, dy, dw, dh."""
        anchors = anchors.to(boxes.dtype)
        center, sides = _center_and_sides(boxes)
        anchor_center, anchor_sides = _center_and_sides(anchors)
        weights = boxes.new_tensor(self.weights)
        shift = weights[:2] * (center - anchor_center) / anchor_sides
        scale = weights[2:] * torch.log(sides / anchor_sides)
        return torch.cat(torch.broadcast_tensors(shift, scale), dim=-1)

    def deltas(self, raw: Tensor) -> Tensor:
        """Identity: the raw output (...,4) is in the target's space."""
        return raw

    def decode(self, raw: Tensor, anchors: Tensor) -> Tensor:
        """Raw outputs (...,4) and anchors (...,4) -> (...,4) xyxy, not clipped to the image."""
        anchor_center, anchor_sides = _center_and_sides(anchors.to(raw.dtype))
        unweighted = raw / raw.new_tensor(self.weights)
        center = unweighted[..., :2] * anchor_sides + anchor_center
        half = 0.5 * (torch.exp(unweighted[..., 2:].clamp(max=self.clamp)) * anchor_sides)
        return torch.cat((center - half, center + half), dim=-1)


def _center_and_sides(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """(...,4) -> (...,2) centre x, y and (...,2) width, height; in torchvision's order of operations, to
    agree to the last bit."""
    sides = boxes[..., 2:] - boxes[..., :2]
    return boxes[..., :2] + 0.5 * sides, sides.clamp(min=SMALLEST)
