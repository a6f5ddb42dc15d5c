"""From a file, bytes or an array to uint8 pixels at the network's size. Importing this does not import torch.

How each kind of picture is treated:

- JPEG: decoded at 1/2, 1/4 or 1/8 where that still leaves `DRAFT_MARGIN` times the wanted width and height,
  at a fraction of the cost; grey is the file's own luma. The rest is mostly undoing the Huffman code, which
  no reduced scale can skip.
- EXIF orientation is applied; values other than 1..8 are ignored. Boxes are taken to be in the displayed
  frame, except where the annotation's width and height fit only the stored one: then the picture stays as
  stored (``expected``).
- Transparency is laid on black, which also pads an image; palette, CMYK and other colour spaces are converted
  by Pillow; an animation gives its first picture.
- Pixels of 16 or 32 bits and floats are scaled to 8 bits, from a range that the recipe names or that the
  picture's own values suggest (`guessed_range`).
- Too many pixels, an unknown format, a truncated or damaged file: `DataError` with the file's name.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image, ImageFile

from densedet.core.annotations.image_header import (
    LOW_BYTES,
    damaged,
    displayed,
    load_pixels,
    open_picture,
)
from densedet.core.contracts import ImageData
from densedet.core.errors import DataError
from densedet.core.placement import Placement

if TYPE_CHECKING:
    from torch import Tensor

Color = Literal["grey", "rgb"]
VERSION = 4
"""Raised when decoding gives other pixels than before: part of the key of cached images."""

DRAFT_MARGIN = 1
"""A reduced JPEG keeps at least this many times the wanted width and height, so that the antialiased resize
still decides the result."""

WHOLE = 1 << 26
"""Bytes handed to a decoder at a time: whole files, which lie in memory anyway. Pillow's own 64 KB make
libjpeg start again at each piece, 8 % of the time of a photograph."""

BITS = (8, 10, 12, 14, 16)
"""Of cameras and files."""

ROWS = 256
"""Rows of float values that are scaled at a time."""


@dataclass(frozen=True)
class Decoding:
    """How encoded images become pixels.

    Attributes:
        color: "grey" for one channel, "rgb" for three.
        value_range: the two values that become 0 and 255 in pictures of more than 8 bits a channel; None
            takes those of `guessed_range` for each picture.
        max_megapixels: larger pictures are refused; None: Pillow's limit, 179.
    """

    color: Color
    value_range: tuple[float, float] | None = None
    max_megapixels: float | None = None


def decode(
    image: ImageData | Image.Image,
    *,
    decoding: Decoding,
    placement_of: Callable[[int, int], Placement],
    expected: tuple[int, int] | None = None,
    name: str = "",
) -> tuple[Tensor, tuple[int, int]]:
    """Decode an image and resize it.

    Args:
        image: a path, encoded bytes, or a uint8 array (H,W) or (H,W,3).
        decoding: colour, range of values and greatest size.
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
    import torch

    array, placement, source = decode_array(
        image, decoding=decoding, placement_of=placement_of, expected=expected, name=name
    )
    pixels = torch.from_numpy(array)
    if not placement.antialias:
        pixels = pixels.float()
        if pixels.shape[1:] != (placement.height, placement.width):
            size = (placement.height, placement.width)
            pixels = torch.nn.functional.interpolate(
                pixels[None], size=size, mode="bilinear", align_corners=False
            )[0]
    return pixels, source


def decode_array(
    image: ImageData | Image.Image,
    *,
    decoding: Decoding,
    placement_of: Callable[[int, int], Placement],
    expected: tuple[int, int] | None = None,
    name: str = "",
) -> tuple[np.ndarray, Placement, tuple[int, int]]:
    """Decode an image without torch, and resize it where its placement says antialias=True.

    Args:
        image: as for `decode`, like all others.
        decoding: colour, range of values and greatest size.
        placement_of: gives the placement for the (width, height) of the displayed source.
        expected: (width, height) in the annotation, or None.
        name: for messages, where ``image`` is no path.

    Returns:
        uint8 (ch,h,w): at the size of the placement, or of the source where antialias=False; the placement;
        and the source's (width, height).

    Raises:
        DataError: the image cannot be read.
    """
    picture, turn, source, name = _upright(image, decoding, expected, name)
    placement = placement_of(*source)
    stored = displayed((placement.width, placement.height), turn)
    mode = _mode(decoding)
    drafted = (
        picture.draft(mode, (stored[0] * DRAFT_MARGIN, stored[1] * DRAFT_MARGIN))
        if placement.antialias
        else None
    )
    picture = _to_mode(_load(picture, name), mode, name, decoding.value_range)
    # 427 rows at a quarter are 106.75, held in 107: that is where the picture ends
    width, height = picture.size if drafted is None else drafted[1][2:]
    if placement.antialias and (picture.size != stored or (width, height) != stored):
        picture = picture.resize(stored, Image.Resampling.BILINEAR, (0, 0, width, height))
    if turn is not None:
        picture = picture.transpose(turn)
    pixels = np.array(picture)
    pixels = pixels[None] if mode == "L" else np.ascontiguousarray(pixels.transpose(2, 0, 1))
    return pixels, placement, source


def open_image(image: ImageData | Image.Image, decoding: Decoding = Decoding("rgb")) -> Image.Image:
    """Return the whole picture, upright, as RGB; the arguments as for `decode`. Raises DataError."""
    picture, turn, name = _opened(image, "", decoding)
    picture = _to_mode(_load(picture, name), "RGB", name, decoding.value_range)
    return picture if turn is None else picture.transpose(turn)


def whole_image(
    image: ImageData | Image.Image,
    decoding: Decoding,
    *,
    expected: tuple[int, int] | None = None,
    name: str = "",
) -> Image.Image:
    """Return the whole picture in the colour of ``decoding``, turned as `decode` does; the arguments are
    those of `decode`.

    Raises:
        DataError: the image cannot be read.
    """
    picture, turn, _, name = _upright(image, decoding, expected, name)
    picture = _to_mode(_load(picture, name), _mode(decoding), name, decoding.value_range)
    return picture if turn is None else picture.transpose(turn)


def _mode(decoding: Decoding) -> Literal["L", "RGB"]:
    return "L" if decoding.color == "grey" else "RGB"


def _upright(
    image: ImageData | Image.Image, decoding: Decoding, expected: tuple[int, int] | None, name: str
) -> tuple[Image.Image, Image.Transpose | None, tuple[int, int], str]:
    """Return the picture, the turn that makes it as ``expected``, its (width, height) after that, and what
    messages call it. Raises DataError where no turn does."""
    picture, turn, name = _opened(image, name, decoding)
    source = displayed(picture.size, turn)
    if expected is not None and source != expected:
        if picture.size != expected:
            raise DataError(
                f"{name} is {source[0]} x {source[1]} pixels but its annotation says {expected[0]} x "
                f"{expected[1]}: "
                "correct width and height in the annotation, its boxes must lie in the image's own pixels"
            )
        turn, source = None, expected
    return picture, turn, source, name


def _opened(
    image: ImageData | Image.Image, name: str, decoding: Decoding
) -> tuple[Image.Image, Image.Transpose | None, str]:
    """Return the picture, the turn that shows it upright, and what messages call it."""
    name = str(image) if isinstance(image, (str, os.PathLike)) else name or "an image"
    if isinstance(image, np.ndarray):
        return _from_array(image, name), None, name
    if isinstance(image, Image.Image):
        return image, None, name
    return *open_picture(image, name, max_megapixels=decoding.max_megapixels), name


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


def _to_mode(
    picture: Image.Image, mode: Literal["L", "RGB"], name: str, value_range: tuple[float, float] | None
) -> Image.Image:
    if (deep := _deep_values(picture)) is not None:
        picture = _in_eight_bits(deep, picture.mode, name, value_range)
    if picture.mode == mode:
        return picture
    if picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info:
        try:
            picture = picture.convert("RGBA")
        except ValueError as error:  # more transparencies than colours in the palette
            raise damaged(name, error) from error
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, (0, 0, 0, 255)), picture).convert(
            "RGB"
        )
    elif picture.mode not in ("L", "RGB", "1"):
        picture = picture.convert("RGB")  # LAB has no way to grey but through this
    return picture.convert(mode)


# -- more than 8 bits --------------------


def _deep_values(picture: Image.Image) -> np.ndarray | None:
    """Return the values (H,W) or (H,W,C) of a picture of more than 8 bits a channel, else None."""
    low = picture.info.get(LOW_BYTES)
    if low is not None:
        return (np.asarray(picture).astype(np.uint16) << 8) | np.asarray(low)
    if picture.mode[0] not in "FI":
        return None
    values = np.asarray(picture)
    fits = values.dtype.kind == "i" and values.min() >= 0 and values.max() < 1 << 16
    return values.astype(np.uint16) if fits else values


def guessed_range(values: np.ndarray) -> tuple[float, float] | None:
    """Return the two values that stand for black and white, as far as the values of one picture tell.

    Whole numbers are taken to fill the fewest of 8, 10, 12, 14 and 16 bits that hold the largest; but 16
    where all are multiples of 256 or 257, as in pictures that were stretched from 8 to 16 bits. Floats go
    from 0 to 1, 255 or 65,535.

    Args:
        values: integers or floats of any shape.

    Returns:
        (black, white), or None where there are negative, infinite or larger values.
    """
    low, high = float(values.min()), float(values.max())
    if not 0 <= low <= high <= 65535:  # not for NaN either
        return None
    if values.dtype.kind == "f":
        return 0, 1 if high <= 1 else 255 if high <= 255 else 65535
    bits = next(bits for bits in BITS if high < 1 << bits)
    if 8 < bits < 16 and any(high % unit == 0 and not (values % unit).any() for unit in (256, 257)):
        bits = 16
    return 0, (1 << bits) - 1


def _in_eight_bits(
    values: np.ndarray, mode: str, name: str, value_range: tuple[float, float] | None
) -> Image.Image:
    """Scale deep values; a channel of transparency has a range of its own. Raises DataError."""
    if values.ndim == 2:
        return Image.fromarray(_scaled(values, name, value_range))
    colours = values.shape[2] - (mode in ("LA", "RGBA"))
    parts = [_scaled(values[..., :colours], name, value_range)]
    if colours < values.shape[2]:
        parts.append(_scaled(values[..., colours:], name, None))
    channels = np.moveaxis(np.concatenate(parts, axis=2), 2, 0)
    return Image.merge(mode, [Image.fromarray(np.ascontiguousarray(channel)) for channel in channels])


def _scaled(values: np.ndarray, name: str, value_range: tuple[float, float] | None) -> np.ndarray:
    """Return uint8 values. Raises DataError where there is no range for them."""
    found = value_range or guessed_range(values)
    if found is None:
        raise DataError(
            f"image {name} holds values from {values.min()} to {values.max()}: set data.value_range to the "
            f"two that become black and white, e.g. [0, 65535]"
        )
    black, white = found
    if values.dtype.kind == "u":  # of 16 bits
        table = (np.arange(1 << 16) - black) * 255 / (white - black)
        return table.round().clip(0, 255).astype(np.uint8)[values]  # type: ignore[no-any-return]
    scaled = np.empty(values.shape, dtype=np.uint8)
    for start in range(0, len(values), ROWS):  # a photograph as a whole would take several times its memory
        with np.errstate(invalid="ignore"):  # signalling NaNs
            part = values[start : start + ROWS].astype(np.float64)
        part = (part - black) * 255 / (white - black)
        scaled[start : start + ROWS] = np.nan_to_num(part).round().clip(0, 255)
    return scaled


def range_notes(images: Iterable[Any], decoding: Decoding) -> list[str]:
    """Return a sentence where pictures of more than 8 bits are scaled by a guess, and say which.

    Args:
        images: paths or encoded bytes; others are passed over, and so are those that cannot be read.
        decoding: the range of values that is set, if any.
    """
    if decoding.value_range is not None:
        return []
    found: dict[tuple[float, float], str] = {}
    for image in images:
        if not isinstance(image, (str, os.PathLike, bytes)):
            continue
        try:
            picture, _, name = _opened(image, "", decoding)
            values = _deep_values(picture)
        except DataError:
            continue
        guess = None if values is None else guessed_range(values)
        if guess is not None:
            found.setdefault(guess, name)
    if not found:
        return []
    ranges = "; ".join(f"0 to {white:,g} ({name}, for one)" for (_, white), name in sorted(found.items()))
    advice = "set data.value_range" if len(found) == 1 else "they differ, so set data.value_range"
    return [
        f"images of more than 8 bits: by their largest values, black to white is {ranges}; {advice} to "
        f"scale all alike"
    ]
