"""Points: one square per cell (Tian et al. 2019, FCOS, section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from densedet.core.arguments import Probability
from densedet.plugins.anchors._grid import Spacing, around, centers, check_maps


class PointAnchors:
    """One square per cell, as wide as the level's stride, centred on the cell: (x + 0.5) * stride, (y + 0.5)
    * stride.

    spacing: distance of two points in pixels; "map" image side / map side (default), "floor" the same rounded
    down (torchvision), "stride" the nominal stride. All three agree where the map side times the stride is
    the image side. The square's width is always the nominal stride, since matchers and coders measure in it.
    offset: of a cell, where its point lies; 0.5 the centre (default), 0 the corner (torchvision's FCOS).
    Wired: strides.

    Call: level sizes [(h,w), ...], image size (H,W), device -> per level float32 (h*w,4) xyxy, order y, x.
    PartError when the number of maps is not that of the strides.
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
        check_maps(level_sizes, len(self.strides))
        boxes = []
        for size, stride in zip(level_sizes, self.strides):
            points = centers(size, image_hw, stride, spacing=self.spacing, offset=self.offset, device=device)
            shape = torch.tensor([[-stride, -stride, stride, stride]], dtype=torch.float32, device=device) / 2
            boxes.append(around(points, shape))
        return boxes
