"""Where a source image lies in the network's input."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Placement:
    """A resize's answer for one image.

    width, height: the image's own size after scaling, in input pixels. canvas: (width, height) of the tensor that holds it, image at
    the top left, zeros beyond. antialias: bilinear with antialiasing on uint8 (default), or without it on float32 (exact, as torchvision's
    detection models do).
    """

    width: int
    height: int
    canvas: tuple[int, int]
    antialias: bool = True
