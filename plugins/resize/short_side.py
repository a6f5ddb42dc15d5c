"""torchvision's rule for RetinaNet and FCOS."""

from __future__ import annotations

import math

from densedet.core.arguments import PositiveInt
from densedet.core.placement import Placement


class ShortSideResize:
    """The short side becomes ``short`` unless the long side would exceed ``max``; aspect kept, every image
    has a size_wh of its own and a batch is padded to its largest.

    side = floor(side * min(short / short side, max / long side)), at least 1, as
    torchvision.models.detection.transform computes it (v2.Resize with max_size rounds otherwise on a tenth of
    all sizes). antialias: False resamples float32 bilinearly without antialiasing, as torchvision's models
    do. The recipe's data.size_wh is not used.
    """

    def __init__(self, *, short: PositiveInt = 800, max: PositiveInt = 1333, antialias: bool = True) -> None:
        self.short = short
        self.max = max
        self.antialias = antialias

    def __call__(self, width: int, height: int) -> Placement:
        scale = min(self.short / min(width, height), self.max / max(width, height))
        scaled = max(1, math.floor(width * scale)), max(1, math.floor(height * scale))
        return Placement(*scaled, scaled, self.antialias)
