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


def resampled(images: Tensor, height: int, width: int) -> Tensor:
    """Resample images bilinearly with antialiasing.

    Args:
        images: (B,ch,h,w), uint8 or float; need not be contiguous.
        height: rows of the result.
        width: columns of the result.

    Returns:
        (B,ch,height,width) in the dtype of ``images``.
    """
    import torch

    # Only the CPU resamples uint8.
    on_cpu = images.device.type == "cpu"
    pixels = images.float() if images.dtype == torch.uint8 and not on_cpu else images.contiguous()
    drawn = torch.nn.functional.interpolate(pixels, (height, width), mode="bilinear", antialias=True)
    return as_pixels(drawn, images.dtype)


def as_pixels(drawn: Tensor, dtype: torch.dtype) -> Tensor:
    """Round grey levels where ``dtype`` is uint8."""
    return drawn if drawn.dtype == dtype else drawn.round().clamp(0, 255).to(dtype)


def blank_outside(images: Tensor, valid_hw: Tensor) -> Tensor:
    """Zero what lies outside the valid size of each image, not in place.

    Args:
        images: (B,ch,H,W).
        valid_hw: (B,2) valid (height, width); on the CPU, e.g. `Batch.sizes_hw`, where nothing shall wait for
            images on a GPU.

    Returns:
        (B,ch,H,W); ``images`` itself where all are valid to their borders.
    """
    import torch

    from densedet.core.transfer import uploaded

    height, width = images.shape[-2:]
    if bool((valid_hw[:, 0] >= height).all()) and bool((valid_hw[:, 1] >= width).all()):
        return images
    if valid_hw.device != images.device:
        (valid_hw,) = uploaded([valid_hw], images.device)
    rows = torch.arange(height, device=images.device) < valid_hw[:, 0, None]  # (B,H)
    columns = torch.arange(width, device=images.device) < valid_hw[:, 1, None]  # (B,W)
    return images * (rows[:, None, :, None] & columns[:, None, None, :]).to(images.dtype)
