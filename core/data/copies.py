"""Copies of images that are not the same byte for byte: encoded anew, or of another size."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

SIDE = 24
"""Pixels along a side of the thumbnails that are compared."""
NEAR = 0.08
"""Distance of two thumbnails below which they show the same, as a share of their contrast. JPEG of quality
40, or a third of the size, gives up to 0.05; different pictures of one place from 0.11 on."""
FLAT = 2.0
"""Contrast, the standard deviation of grey levels 0..255, below which an image shows nothing to compare."""
AT_ONCE = 2000


def thumbnail(image: Tensor) -> np.ndarray:
    """Return the grey thumbnail of an image (ch,h,w), float32 (SIDE * SIDE,)."""
    grey = image.float().mean(0, keepdim=True)
    return functional.adaptive_avg_pool2d(grey, SIDE).flatten().numpy()


def copies(first: np.ndarray, second: np.ndarray) -> list[tuple[int, int, float]]:
    """Find the images of one set that show the same as one of another.

    Args:
        first: thumbnails (I,T); NaN where an image could not be read.
        second: thumbnails (J,T).

    Returns:
        (position in first, position in second, distance) of each image of ``second`` that has a copy, with
        the nearest one.
    """
    found: list[tuple[int, int, float]] = []
    if not len(first) or not len(second):
        return found
    one, contrast = _centred(first)
    for start in range(0, len(second), AT_ONCE):
        other, own = _centred(second[start : start + AT_ONCE])
        squares = (one**2).mean(1)[:, None] + (other**2).mean(1) - 2 / one.shape[1] * (one @ other.T)
        seen = (contrast[:, None] >= FLAT) & (own >= FLAT)
        share = np.sqrt(np.maximum(squares, 0)) / np.maximum(np.maximum(contrast[:, None], own), FLAT)
        nearest = torch.from_numpy(np.where(seen, share, np.inf)).min(0)
        for place in (nearest.values < NEAR).nonzero().flatten().tolist():
            found.append((int(nearest.indices[place]), start + place, float(nearest.values[place])))
    return found


def _centred(thumbnails: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return thumbnails without their mean, and their contrast; both are 0 where an image is missing."""
    values = np.nan_to_num(thumbnails.astype(np.float64))
    values = values - values.mean(1, keepdims=True)
    return values, values.std(1)
