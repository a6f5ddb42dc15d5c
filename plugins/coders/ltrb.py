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
    """Distances from the anchor's centre to the four sides of the box, never negative.

    For centres inside of the box it is equal to torchvision's BoxLinearCoder. A side that the centre lies
    beyond has distance 0, and the box is then reached only as far as the centre; so all targets are finite,
    and safe under centre-ness's square root. For example, the anchor (0, 0, 8, 8) has centre (4, 4) and
    stride 8, and the box (0, -4, 20, 12) distances 4, 8, 16, 8 px, which is (0.5, 1, 2, 1) normalised.

    Args:
        activation: how a raw output becomes non-negative. "exp" as the paper: a fresh head starts at one
            anchor side per direction, and every side has a gradient; "relu" as FCOS's authors later and
            torchvision: a raw value below 0 is a distance of 0, without gradient; "softplus": linear for
            large distances, with a gradient everywhere.
        normalise: true: distances count in anchor widths and heights (on points that is the stride), as
            torchvision; false: in pixels.
    """

    box_channels = 4
    spaces: tuple[Space, ...] = ("deltas", "boxes")

    def __init__(
        self, *, activation: Literal["exp", "relu", "softplus"] = "exp", normalise: bool = True
    ) -> None:
        self.activation = activation
        self.normalise = normalise

    def encode(self, boxes: Tensor, anchors: Tensor) -> Tensor:
        """Compute left, top, right, bottom, each at least 0; see `densedet.core.contracts.Coder`."""
        anchors = anchors.to(boxes.dtype)
        distances = to_distances(boxes, anchors)
        return distances / anchor_units(anchors) if self.normalise else distances

    def deltas(self, raw: Tensor) -> Tensor:
        """Apply the activation to raw outputs (...,4)."""
        if self.activation == "exp":
            return raw.clamp(max=LARGEST_EXPONENT).exp()
        return torch.relu(raw) if self.activation == "relu" else torch.nn.functional.softplus(raw)

    def decode(self, raw: Tensor, anchors: Tensor) -> Tensor:
        """See `densedet.core.contracts.Coder`."""
        anchors = anchors.to(raw.dtype)
        distances = self.deltas(raw)
        return from_distances(distances * anchor_units(anchors) if self.normalise else distances, anchors)
