"""Functions on boxes as NumPy arrays, for what runs without torch: float xyxy, absolute pixels."""

from __future__ import annotations

import numpy as np


def area(boxes: np.ndarray) -> np.ndarray:
    """Compute width * height of boxes (...,4): (...), 0 for an inverted box."""
    sides: np.ndarray = (boxes[..., 2:] - boxes[..., :2]).clip(min=0)
    return sides.prod(-1)


def pairwise_iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Compute intersection over union of every pair.

    Args:
        first: (G,4); G may be 0.
        second: (N,4); N may be 0.

    Returns:
        (G,N) in 0..1; 0 where both boxes are empty.
    """
    one, other = first[:, None], second[None]
    corner = np.minimum(one[..., 2:], other[..., 2:]) - np.maximum(one[..., :2], other[..., :2])
    shared = corner.clip(min=0).prod(-1)
    union = area(one) + area(other) - shared
    return shared / np.maximum(union, np.finfo(union.dtype).tiny)
