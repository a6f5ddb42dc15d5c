"""torchvision's rule for RetinaNet and FCOS."""

from __future__ import annotations

import math

from densedet.core.arguments import Side
from densedet.core.placement import Placement


class ShortSideResize:
    """Scale the short side to a length unless the long side would exceed its limit; aspect kept.

    Every image has a size of its own, and a batch is padded to its largest; data.input_size_wh is not used.
    side = floor(side * min(short / short side, max / long side)), at least 1, as
    torchvision.models.detection.transform computes it (v2.Resize with max_size rounds differently for a tenth
    of all sizes).

    Args:
        short: length of the short side in pixels.
        max: largest length of the long side in pixels.
        antialias: true resamples uint8 with antialiasing; false resamples float32 bilinearly without it, as
            torchvision's detection models do.
    """

    def __init__(self, *, short: Side = 800, max: Side = 1333, antialias: bool = True) -> None:
        self.short = short
        self.max = max
        self.antialias = antialias

    def __call__(self, width: int, height: int) -> Placement:
        """Place an image of width x height source pixels, both at least 1."""
        scale = min(self.short / min(width, height), self.max / max(width, height))
        scaled = max(1, math.floor(width * scale)), max(1, math.floor(height * scale))
        return Placement(*scaled, scaled, self.antialias)
