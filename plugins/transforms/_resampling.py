"""Resampling of windows of a batch, as whole pixels."""

from __future__ import annotations

import torch
from torch import Tensor


def resampled_windows(images: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """Resample a window of each image by two matrix products.

    That is `densedet.core.placement.resampled` up to rounding. On a GPU the windows of a batch take no longer
    than one window does by itself.

    Args:
        images: (M,ch,H,W), uint8 or float.
        source: int64 (M,2,2), (start, length) of the window along y and x.
        target: the same of the pixels that it fills.

    Returns:
        float32 (M,ch,H,W), 0 outside of the targets; see
        `densedet.core.placement.as_pixels`.
    """
    height, width = images.shape[-2:]
    rows, columns = (_weights(source[:, a], target[:, a], n) for a, n in ((0, height), (1, width)))
    return rows[:, None] @ images.float() @ columns[:, None].mT


def _weights(source: Tensor, target: Tensor, size: int) -> Tensor:
    """Weights of the pixels of a line in each pixel of the resampled line, float32 (M,size,size), for the
    (start, length) of windows, (M,2)."""
    start, length = source.float()[..., None, None].unbind(1)
    first, filled = target.float()[..., None, None].unbind(1)
    pixel = torch.arange(size, device=source.device, dtype=torch.float32)
    place, pixel = pixel[:, None] - first, pixel - start  # (M,size,1), (M,1,size)
    growth = length / filled
    weights = (1 - (pixel + 0.5 - growth * (place + 0.5)).abs() / growth.clamp(min=1)).clamp(min=0)
    weights = weights * ((pixel >= 0) & (pixel < length))
    weights = weights / weights.sum(-1, keepdim=True).clamp(min=1e-6)
    return weights * ((place >= 0) & (place < filled))


def inside(windows: Tensor, height: int, width: int) -> Tensor:
    """bool (M,1,height,width), the pixels of windows int64 (M,2,2), (start, length) along y and x."""
    rows, columns = (
        (place >= windows[:, axis, :1]) & (place < windows[:, axis].sum(-1, keepdim=True))
        for axis, place in enumerate(torch.arange(n, device=windows.device) for n in (height, width))
    )
    return rows[:, None, :, None] & columns[:, None, None, :]
