"""From image files to the input of an exported network: the pixels that the trained detector got."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from densedet.core.contracts import Resize
from densedet.core.data.decoding import Decoding, decode_array
from densedet.core.placement import Placement


class Picture(NamedTuple):
    """One image at the network's size.

    Attributes:
        pixels: (ch,h,w), uint8 or float32 0..255.
        placement: its place in the input.
        source_wh: (width, height) of the source image.
    """

    pixels: np.ndarray
    placement: Placement
    source_wh: tuple[int, int]


def read_picture(
    image: Any,
    *,
    decoding: Decoding,
    resize: Resize,
    expected: tuple[int, int] | None = None,
    name: str = "",
) -> Picture:
    """Decode an image and bring it to the network's size.

    Args:
        image: a path, encoded bytes, or a uint8 array (H,W) or (H,W,3).
        decoding: colour, range of values and greatest size.
        resize: the place of the image in the network's input.
        expected: (width, height) in the annotation, or None.
        name: for messages, where ``image`` is no path.

    Raises:
        DataError: the image cannot be read.
    """
    pixels, placement, source_wh = decode_array(
        image, decoding=decoding, placement_of=resize, expected=expected, name=name
    )
    if not placement.antialias:
        pixels = stretched(pixels.astype(np.float32), (placement.height, placement.width))
    return Picture(pixels, placement, source_wh)


def stretched(pixels: np.ndarray, size_hw: tuple[int, int]) -> np.ndarray:
    """Resample float32 (ch,h,w) bilinearly, without antialiasing, as torch's interpolate with
    align_corners=False does (to 1e-3 of 255 grey levels, as sums are rounded in another order)."""
    for axis, side in ((1, size_hw[0]), (2, size_hw[1])):
        cells = pixels.shape[axis]
        if cells == side:
            continue
        at = (np.arange(side, dtype=np.float32) + np.float32(0.5)) * np.float32(cells / side) - np.float32(
            0.5
        )
        at = at.clip(min=0)
        low = np.minimum(at.astype(np.int64), cells - 1)
        share = (at - low).astype(np.float32)
        share = share[:, None] if axis == 1 else share
        high = np.minimum(low + 1, cells - 1)
        pixels = pixels.take(low, axis) * (1 - share) + pixels.take(high, axis) * share
    return pixels


def input_of(
    pictures: Sequence[Picture], *, dtype: str, size_hw: tuple[int | None, int | None], pad_to: int
) -> tuple[np.ndarray, np.ndarray]:
    """Put pictures at the top left of a batch of zeros.

    Args:
        pictures: at least one.
        dtype: of the batch.
        size_hw: (height, width) of the input; None: of the largest picture, in multiples of ``pad_to``.
        pad_to: see ``size_hw``.

    Returns:
        Images (B,ch,H,W), and int64 (B,2), the (height, width) of each without padding.
    """
    canvases = np.array([picture.placement.canvas_wh[::-1] for picture in pictures])
    height, width = (
        given or int(-(-needed // pad_to) * pad_to) for given, needed in zip(size_hw, canvases.max(axis=0))
    )
    images = np.zeros((len(pictures), pictures[0].pixels.shape[0], height, width), dtype=dtype)
    valid_hw = np.array([picture.pixels.shape[1:] for picture in pictures], dtype=np.int64)
    for image, picture in zip(images, pictures):
        _, tall, wide = picture.pixels.shape
        image[:, :tall, :wide] = picture.pixels
    return images, valid_hw
