"""Points: one square per cell (Tian et al. 2019, FCOS, section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from densedet.core.arguments import Probability
from densedet.plugins.anchors._grid import Spacing, around, centers, check_maps


class PointAnchors:
    """One square per cell, centred on the cell and as wide as the level's stride.

    The width is always the nominal stride, since matchers and coders measure in it.

    Args:
        strides: (wired) stride of each level in input pixels.
        spacing: distance of two points in pixels: "map" image side / map side, "floor" the same rounded down
            (torchvision), "stride" the nominal stride. All three agree where the map side times the stride is
            the image side.
        offset: place of the point within its cell: 0.5 the centre, 0 the corner (torchvision's FCOS).

    Attributes:
        num_anchors: 1 for each level.
    """

    def __init__(
        self, *, strides: tuple[int, ...], spacing: Spacing = "map", offset: Probability = 0.5
    ) -> None:
        self.strides = tuple(strides)
        self.spacing: Spacing = spacing
        self.offset = offset
        self.num_anchors = (1,) * len(self.strides)

    def __call__(
        self, level_sizes: Sequence[tuple[int, int]], image_hw: tuple[int, int], device: torch.device | str
    ) -> list[Tensor]:
        """Make the anchors: float32 (h*w*1,4) xyxy per level, order y, x.

        Raises:
            PartError: where the number of maps is not that of the strides.
        """
        check_maps(level_sizes, len(self.strides))
        boxes = []
        for size, stride in zip(level_sizes, self.strides):
            points = centers(size, image_hw, stride, spacing=self.spacing, offset=self.offset, device=device)
            shape = torch.tensor([[-stride, -stride, stride, stride]], dtype=torch.float32, device=device) / 2
            boxes.append(around(points, shape))
        return boxes
