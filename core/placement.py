"""Where a source image lies in the network's input."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor


@dataclass(frozen=True)
class Placement:
    """A resize's answer for one image.

    width, height: the image's own size after scaling, in input pixels. canvas_wh: (width, height) of the
    tensor that holds it, image at the top left, zeros beyond. antialias: bilinear with antialiasing on uint8
    (default), or without it on float32 (exact, as torchvision's detection models do).
    """

    width: int
    height: int
    canvas_wh: tuple[int, int]
    antialias: bool = True

    def boxes_to_input(self, boxes: Tensor, source_wh: tuple[int, int]) -> Tensor:
        """Float xyxy (...,4) in pixels of a source image of (width, height) -> pixels of the input."""
        return boxes * _twice(self.width / source_wh[0], self.height / source_wh[1], boxes.dtype)

    def to_source(self, source_wh: tuple[int, int]) -> tuple[float, float, float, float]:
        """(scale x, scale y, offset x, offset y) with source = input * scale + offset, for a source image of
        (width, height)."""
        return source_wh[0] / self.width, source_wh[1] / self.height, 0.0, 0.0


@lru_cache(maxsize=1024)  # a data set has few sizes, and making a tensor takes longer than multiplying by it
def _twice(x: float, y: float, dtype: torch.dtype) -> Tensor:
    return torch.tensor([x, y, x, y], dtype=dtype)


def place(image: Tensor, canvas_wh: tuple[int, int]) -> Tensor:
    """(ch,h,w) -> (ch,H,W) of canvas_wh (width, height) = (W, H): the image at the top left, zeros beyond.
    Itself where it fills it."""
    width, height = canvas_wh
    if (image.shape[-1], image.shape[-2]) == (width, height):
        return image
    held = image.new_zeros(image.shape[0], height, width)
    held[:, : image.shape[-2], : image.shape[-1]] = image
    return held


def blank_outside(images: Tensor, sizes: Tensor) -> Tensor:
    """(B,ch,H,W) with zeros outside the valid (height, width) of each, sizes (B,2). Not in place; itself
    where all are full."""
    height, width = images.shape[-2:]
    if bool((sizes[:, 0] >= height).all()) and bool((sizes[:, 1] >= width).all()):
        return images
    rows = torch.arange(height, device=images.device) < sizes[:, 0, None]
    columns = torch.arange(width, device=images.device) < sizes[:, 1, None]
    return images * (rows[:, None, :, None] & columns[:, None, None, :]).to(images.dtype)
