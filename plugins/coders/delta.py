"""Centre shift and log scale (Girshick et al. 2014, appendix C; SSD section 2.2; RetinaNet)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from densedet.core.arguments import PositiveFloat
from densedet.core.contracts import Space
from densedet.core.transfer import uploaded
from densedet.plugins.coders._distances import SMALLEST

LARGEST_GROWTH = math.log(1000.0 / 16)


class DeltaCoder:
    """Shift of the centre and log scale of the sides, relative to the anchor.

    It is equal to torchvision's BoxCoder. dx, dy are the shift in anchor widths and heights, dw, dh the log
    of the ratio of the sides, each times its weight. For example, with weights 1 the anchor (0, 0, 10, 10)
    and the box (5, 0, 25, 10) have centres (5, 5) and (15, 5), so dx = 1, dy = 0, dw = log(20 / 10) = 0.693,
    dh = 0. Sides below 0.001 px, of anchors and boxes, count as 0.001 px, so that zero-size ones encode to
    finite numbers.

    Args:
        weights: of dx, dy, dw, dh: (1, 1, 1, 1) as RetinaNet, (10, 10, 5, 5) as SSD, which balances the four
            for a smooth L1.
        clamp: largest dw and dh, weights taken off, that `decode` uses, so that a wild output does not
            overflow exp. log(1000/16), the default, lets a side grow 62.5-fold; shrinking is not limited.
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
        """Compute dx, dy, dw, dh; see `densedet.core.contracts.Coder`."""
        anchors = anchors.to(boxes.dtype)
        center, sides = _center_and_sides(boxes)
        anchor_center, anchor_sides = _center_and_sides(anchors)
        (weights,) = uploaded([torch.tensor(self.weights, dtype=boxes.dtype)], boxes.device)
        shift = weights[:2] * (center - anchor_center) / anchor_sides
        scale = weights[2:] * torch.log(sides / anchor_sides)
        return torch.cat(torch.broadcast_tensors(shift, scale), dim=-1)

    def deltas(self, raw: Tensor) -> Tensor:
        """Return ``raw`` (...,4), which is in the target's space already."""
        return raw

    def decode(self, raw: Tensor, anchors: Tensor) -> Tensor:
        """See `densedet.core.contracts.Coder`."""
        anchor_center, anchor_sides = _center_and_sides(anchors.to(raw.dtype))
        (weights,) = uploaded([torch.tensor(self.weights, dtype=raw.dtype)], raw.device)
        unweighted = raw / weights
        center = unweighted[..., :2] * anchor_sides + anchor_center
        half = 0.5 * (torch.exp(unweighted[..., 2:].clamp(max=self.clamp)) * anchor_sides)
        return torch.cat((center - half, center + half), dim=-1)


def _center_and_sides(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Centre x, y and width, height of boxes (...,4), computed in torchvision's order, to the last bit."""
    sides = boxes[..., 2:] - boxes[..., :2]
    return boxes[..., :2] + 0.5 * sides, sides.clamp(min=SMALLEST)
