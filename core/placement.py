"""The place of a source image in the network's input."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Placement:
    """The place that a resize gives to one image.

    Attributes:
        width: width of the scaled image, in input pixels.
        height: height of the scaled image, in input pixels.
        canvas_wh: (width, height) of the tensor that holds the image at its top left, with zeros beyond.
        antialias: True resamples uint8 bilinearly with antialiasing, False float32 without it (exact, as
            torchvision's detection models do).
    """

    width: int
    height: int
    canvas_wh: tuple[int, int]
    antialias: bool = True

    def boxes_to_input(self, boxes: Tensor, source_wh: tuple[int, int]) -> Tensor:
        """Scale boxes from source pixels to input pixels.

        Args:
            boxes: float xyxy (...,4).
            source_wh: (width, height) of the source image.

        Returns:
            Boxes of the same shape and dtype.
        """
        return boxes * _twice(self.width / source_wh[0], self.height / source_wh[1], boxes.dtype)

    def to_source(self, source_wh: tuple[int, int]) -> tuple[float, float, float, float]:
        """Compute the map from input pixels to source pixels.

        Args:
            source_wh: (width, height) of the source image.

        Returns:
            (scale x, scale y, offset x, offset y), where source = input * scale + offset.
        """
        return source_wh[0] / self.width, source_wh[1] / self.height, 0.0, 0.0


@lru_cache(maxsize=1024)  # a data set has few sizes, and making a tensor takes longer than multiplying by it
def _twice(x: float, y: float, dtype: torch.dtype) -> Tensor:
    import torch

    return torch.tensor([x, y, x, y], dtype=dtype)


def place(image: Tensor, canvas_wh: tuple[int, int]) -> Tensor:
    """Put an image at the top left of a canvas of zeros.

    Args:
        image: (ch,h,w).
        canvas_wh: (width, height) of the canvas, (W,H).

    Returns:
        (ch,H,W); ``image`` itself where it fills the canvas.
    """
    width, height = canvas_wh
    if (image.shape[-1], image.shape[-2]) == (width, height):
        return image
    held = image.new_zeros(image.shape[0], height, width)
    held[:, : image.shape[-2], : image.shape[-1]] = image
    return held


def blank_outside(images: Tensor, valid_hw: Tensor) -> Tensor:
    """Zero what lies outside the valid size of each image, not in place.

    Args:
        images: (B,ch,H,W).
        valid_hw: (B,2) valid (height, width).

    Returns:
        (B,ch,H,W); ``images`` itself where all are valid to their borders.
    """
    import torch

    height, width = images.shape[-2:]
    if bool((valid_hw[:, 0] >= height).all()) and bool((valid_hw[:, 1] >= width).all()):
        return images
    rows = torch.arange(height, device=images.device) < valid_hw[:, 0, None]  # (B,H)
    columns = torch.arange(width, device=images.device) < valid_hw[:, 1, None]  # (B,W)
    return images * (rows[:, None, :, None] & columns[:, None, None, :]).to(images.dtype)
