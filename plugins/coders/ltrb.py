"""Left, top, right, bottom (Tian et al. 2019, FCOS, sections 3.1 and 3.2)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from densedet.core.contracts import Space
from densedet.plugins.coders._distances import anchor_units, from_distances, to_distances

LARGEST_EXPONENT = 10.0
"""exp(10) = 22026 anchor sides: beyond any image, far from overflow."""


class LTRBCoder:
    """Four distances from the anchor's centre to the sides of the box, never negative.

    activation: what makes the raw output non-negative. "exp" as the paper (default: a fresh head starts at
    one anchor side per direction, and every side has a gradient), "relu" as FCOS's authors later and
    torchvision (a raw value below 0 is a distance of 0, without gradient), "softplus" linear for large
    distances, with a gradient everywhere.
    normalise: distances count in anchor widths and heights (on points that is the stride), as torchvision;
    false: in pixels.

    Equal to torchvision's BoxLinearCoder for centres inside the box. Where the centre lies outside, encode
    says 0 for the sides it
    lies beyond (the box is then reached only as far as the centre): finite, and safe under centre-ness's
    square root.
    """

    box_channels = 4
    spaces: tuple[Space, ...] = ("deltas", "boxes")

    def __init__(
        self, *, activation: Literal["exp", "relu", "softplus"] = "exp", normalise: bool = True
    ) -> None:
        self.activation = activation
        self.normalise = normalise

    def encode(self, boxes: Tensor, anchors: Tensor) -> Tensor:
        """Boxes (...,4) and anchors (...,4), broadcastable, xyxy -> (...,4) left, top, right, bottom, each >=
        0."""
        anchors = anchors.to(boxes.dtype)
        distances = to_distances(boxes, anchors)
        return distances / anchor_units(anchors) if self.normalise else distances

    def deltas(self, raw: Tensor) -> Tensor:
        """(...,4) -> (...,4): the raw output after its activation, which is what encode's target is compared
        with."""
        if self.activation == "exp":
            return raw.clamp(max=LARGEST_EXPONENT).exp()
        return torch.relu(raw) if self.activation == "relu" else torch.nn.functional.softplus(raw)

    def decode(self, raw: Tensor, anchors: Tensor) -> Tensor:
        """Raw outputs (...,4) and anchors (...,4) -> (...,4) xyxy, not clipped to the image."""
        anchors = anchors.to(raw.dtype)
        distances = self.deltas(raw)
        return from_distances(distances * anchor_units(anchors) if self.normalise else distances, anchors)
