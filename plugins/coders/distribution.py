"""A distribution per side (Li et al. 2020, Generalized Focal Loss, section 3)."""

from __future__ import annotations

import torch
from torch import Tensor

from densedet.core.arguments import ChannelCount, PositiveFloat
from densedet.core.contracts import Space
from densedet.plugins.coders._distances import anchor_units, from_distances, to_distances

MARGIN = 0.01
"""`encode` stays this far below the last bin, so that every target has a bin on either side."""


class DistributionCoder:
    """Distances to the four sides, each the expectation of a softmax over bins 0, 1, ..., ``bins``.

    Distances are from the anchor's centre. R = 4 * (bins + 1) channels, side by side: all of left, then top,
    right, bottom. `encode` gives distances in bin units, cut to [0, bins - 0.01]: a side further away cannot
    be reached, and neither can a side that the centre lies beyond.

    Args:
        bins: largest distance in bin units (GFL's reg_max).
        bin_size: of one bin, in anchor widths and heights. 1 suits points, where it is the stride: 16 bins
            reach 16 strides each way. On wider anchors give less, e.g. 0.25 for octave anchors of base_scale
            4, or most bins never see a target.

    Attributes:
        box_channels: R.
    """

    spaces: tuple[Space, ...] = ("bins", "deltas", "boxes")

    def __init__(self, *, bins: ChannelCount = 16, bin_size: PositiveFloat = 1.0) -> None:
        self.bins = bins
        self.bin_size = bin_size
        self.box_channels = 4 * (bins + 1)

    def encode(self, boxes: Tensor, anchors: Tensor) -> Tensor:
        """Compute left, top, right, bottom in 0 .. bins - 0.01; see `densedet.core.contracts.Coder`."""
        anchors = anchors.to(boxes.dtype)
        return (to_distances(boxes, anchors) / (anchor_units(anchors) * self.bin_size)).clamp(
            max=self.bins - MARGIN
        )

    def deltas(self, raw: Tensor) -> Tensor:
        """Compute the expected distances (...,4), in bin units, of raw outputs (..., 4*(bins+1))."""
        probabilities = raw.unflatten(-1, (4, self.bins + 1)).softmax(dim=-1)
        # A product and a sum rather than a matrix product, which autocast would round to bf16.
        return (probabilities * torch.arange(self.bins + 1, dtype=raw.dtype, device=raw.device)).sum(dim=-1)

    def decode(self, raw: Tensor, anchors: Tensor) -> Tensor:
        """See `densedet.core.contracts.Coder`."""
        anchors = anchors.to(raw.dtype)
        return from_distances(self.deltas(raw) * (anchor_units(anchors) * self.bin_size), anchors)
