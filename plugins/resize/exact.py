"""Stretch to one size_wh."""

from __future__ import annotations

from densedet.core.placement import Placement


class ExactResize:
    """Every image becomes exactly ``size_wh``; its aspect is not kept. Small images are enlarged.

    size_wh: (width, height), wired from data.input_size_wh. antialias: True resamples uint8 with
    antialiasing; False resamples float32 bilinearly without it, as torchvision's SSD and SSDlite do.
    """

    def __init__(self, *, size_wh: tuple[int, int], antialias: bool = True) -> None:
        self.placement = Placement(size_wh[0], size_wh[1], (size_wh[0], size_wh[1]), antialias)

    def __call__(self, width: int, height: int) -> Placement:
        return self.placement
