"""Resampling of a window of an image, as whole pixels."""

from __future__ import annotations

import torch
from torch import Tensor


def resampled(window: Tensor, height: int, width: int) -> Tensor:
    """Resample a window bilinearly with antialiasing.

    Args:
        window: (ch,h,w), uint8 or float; need not be contiguous.
        height: rows of the result.
        width: columns of the result.

    Returns:
        (ch,height,width) in the window's dtype.
    """
    # Only the CPU resamples uint8.
    pixels = window.float() if window.dtype == torch.uint8 and window.device.type != "cpu" else window
    drawn = torch.nn.functional.interpolate(
        pixels[None].contiguous(), (height, width), mode="bilinear", antialias=True
    )[0]
    return drawn if drawn.dtype == window.dtype else drawn.round().clamp(0, 255).to(window.dtype)
