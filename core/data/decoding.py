"""From a file, bytes or an array to a uint8 tensor at the network's size.

How each kind of picture is treated:

- JPEG: decoded at 1/2, 1/4 or 1/8 where that still leaves `DRAFT_MARGIN` times the wanted width and height,
  at a fraction of the cost; grey is the file's own luma. The rest is mostly undoing the Huffman code, which
  no reduced scale can skip.
- EXIF orientation is applied; values other than 1..8 are ignored. Boxes are taken to be in the displayed
  frame, except where the annotation's width and height fit only the stored one: then the picture stays as
  stored (``expected``).
- Transparency is laid on black, which also pads an image; 16-bit grey keeps its high byte; palette, CMYK and
  other colour spaces are converted by Pillow; an animation gives its first picture; float pictures are
  refused.
- More pixels than ``PIL.Image.MAX_IMAGE_PIXELS``, an unknown format, a truncated or damaged file: `DataError`
  with the file's name.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageFile
from torch import Tensor

from densedet.core.annotations.image_header import displayed, load_pixels, open_picture
from densedet.core.contracts import ImageData
from densedet.core.errors import DataError
from densedet.core.placement import Placement

Color = Literal["grey", "rgb"]
VERSION = 3
"""Raised when decoding gives other pixels than before: part of the key of cached images."""

DRAFT_MARGIN = 1
"""A reduced JPEG keeps at least this many times the wanted width and height, so that the antialiased resize
still decides the result."""

WHOLE = 1 << 26
"""Bytes handed to a decoder at a time: whole files, which lie in memory anyway. Pillow's own 64 KB make
libjpeg start again at each piece, 8 % of the time of a photograph."""


def decode(
    image: ImageData | Image.Image,
    *,
    color: Color,
    placement_of: Callable[[int, int], Placement],
    expected: tuple[int, int] | None = None,
    name: str = "",
) -> tuple[Tensor, tuple[int, int]]:
    """Decode an image and resize it.

    Args:
        image: a path, encoded bytes, or a uint8 array (H,W) or (H,W,3).
        color: "grey" for one channel, "rgb" for three.
        placement_of: gives the placement for the (width, height) of the displayed source.
        expected: (width, height) in the annotation. Another size is an error, because boxes would lie
            elsewhere. None: any size.
        name: for messages, where ``image`` is no path.

    Returns:
        Pixels (ch,h,w), with h and w of the placement: uint8, or float32 0..255 where the placement says
        antialias=False. And the source's (width, height).

    Raises:
        DataError: the image cannot be read.
    """
    picture, turn, name = _opened(image, name)
    source = displayed(picture.size, turn)
    if expected is not None and source != expected:
        if picture.size != expected:
            raise DataError(
                f"{name} is {source[0]} x {source[1]} pixels but its annotation says {expected[0]} x "
                f"{expected[1]}: "
                "correct width and height in the annotation, its boxes must lie in the image's own pixels"
            )
        turn, source = None, expected
    placement = placement_of(*source)
    stored = displayed((placement.width, placement.height), turn)
    mode: Literal["L", "RGB"] = "L" if color == "grey" else "RGB"
    drafted = (
        picture.draft(mode, (stored[0] * DRAFT_MARGIN, stored[1] * DRAFT_MARGIN))
        if placement.antialias
        else None
    )
    picture = _to_mode(_load(picture, name), mode, name)
    # 427 rows at a quarter are 106.75, held in 107: that is where the picture ends
    width, height = picture.size if drafted is None else drafted[1][2:]
    if placement.antialias and (picture.size != stored or (width, height) != stored):
        picture = picture.resize(stored, Image.Resampling.BILINEAR, (0, 0, width, height))
    if turn is not None:
        picture = picture.transpose(turn)
    pixels = torch.from_numpy(np.array(picture))
    pixels = pixels[None] if color == "grey" else pixels.permute(2, 0, 1).contiguous()
    if not placement.antialias:
        pixels = pixels.float()
        if pixels.shape[1:] != (placement.height, placement.width):
            size = (placement.height, placement.width)
            pixels = torch.nn.functional.interpolate(
                pixels[None], size=size, mode="bilinear", align_corners=False
            )[0]
    return pixels, source


def open_image(image: ImageData | Image.Image) -> Image.Image:
    """Return the whole picture, upright, as RGB; ``image`` as for `decode`. Raises DataError."""
    picture, turn, name = _opened(image, "")
    picture = _to_mode(_load(picture, name), "RGB", name)
    return picture if turn is None else picture.transpose(turn)


def _opened(image: ImageData | Image.Image, name: str) -> tuple[Image.Image, Image.Transpose | None, str]:
    """Return the picture, the turn that shows it upright, and what messages call it."""
    name = str(image) if isinstance(image, (str, os.PathLike)) else name or "an image"
    if isinstance(image, np.ndarray):
        return _from_array(image, name), None, name
    if isinstance(image, Image.Image):
        return image, None, name
    return *open_picture(image, name), name


def _from_array(array: np.ndarray, name: str) -> Image.Image:
    if (
        array.dtype != np.uint8
        or array.ndim not in (2, 3)
        or (array.ndim == 3 and array.shape[2] != 3)
        or 0 in array.shape
    ):
        raise DataError(
            f"{name}: an array must be uint8 (H,W) or (H,W,3), not {array.dtype} {tuple(array.shape)}"
        )
    return Image.fromarray(np.ascontiguousarray(array))


def _load(picture: Image.Image, name: str) -> Image.Image:
    if isinstance(picture, ImageFile.ImageFile):
        picture.decodermaxblock = WHOLE
    load_pixels(picture, name)
    return picture


def _to_mode(picture: Image.Image, mode: Literal["L", "RGB"], name: str) -> Image.Image:
    if picture.mode == mode:
        return picture
    if picture.mode == "F":
        raise DataError(f"image {name} holds float pixels: convert it to 8 bits")
    if picture.mode.startswith("I"):
        values = np.asarray(picture).astype(np.int64)
        picture = Image.fromarray((values >> 8).clip(0, 255).astype(np.uint8))
    elif picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, (0, 0, 0, 255)), picture).convert(
            "RGB"
        )
    elif picture.mode not in ("L", "RGB", "1"):
        picture = picture.convert("RGB")  # LAB has no way to grey but through this
    return picture.convert(mode)
