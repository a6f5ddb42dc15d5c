"""Stretch to one size."""

from __future__ import annotations

from densedet.core.images import Placement


class Exact:
    """Every image becomes exactly ``size``; its aspect is not kept. Small images are enlarged.

    size: (width, height), wired from data.size. antialias: True resamples uint8 with antialiasing; False resamples float32 bilinearly
    without it, as torchvision's SSD and SSDlite do.
    """

    def __init__(self, *, size: tuple[int, int], antialias: bool = True) -> None:
        self.placement = Placement(size[0], size[1], (size[0], size[1]), antialias)

    def __call__(self, width: int, height: int) -> Placement:
        return self.placement
