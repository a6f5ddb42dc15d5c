"""Stretch to one size."""

from __future__ import annotations

from densedet.core.placement import Placement


class ExactResize:
    """Stretch every image to exactly one size; its aspect is not kept, and small images are enlarged.

    Args:
        size_wh: (wired) [width, height] of the network's input.
        antialias: true resamples uint8 with antialiasing; false resamples float32 bilinearly without it, as
            torchvision's detection models do.
    """

    def __init__(self, *, size_wh: tuple[int, int], antialias: bool = True) -> None:
        self.placement = Placement(size_wh[0], size_wh[1], (size_wh[0], size_wh[1]), antialias)

    def __call__(self, width: int, height: int) -> Placement:
        """Place an image of width x height source pixels, both at least 1."""
        return self.placement
