"""From a file, bytes or an array to a uint8 tensor at the network's size.

What each kind of picture becomes:

- JPEG: decoded at 1/2, 1/4 or 1/8 when that still leaves `DRAFT_MARGIN` times the wanted size, at a fraction of the cost; grey is
  the file's own luma.
- EXIF orientation is applied; values other than 1..8 are ignored. Boxes are taken to be in the displayed frame, except where the
  annotation's width and height fit only the stored one: then the picture stays as stored (``expected``).
- transparency is laid on black, which is also what pads an image; 16-bit grey keeps its high byte; palette, CMYK and other colour
  spaces are converted by Pillow; an animation gives its first picture; float pictures are refused.
- more pixels than ``PIL.Image.MAX_IMAGE_PIXELS``, an unknown format, a truncated or damaged file: `DataError` with the file's name.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image, Jpeg2KImagePlugin, MpoImagePlugin, TgaImagePlugin, TiffImagePlugin, WebPImagePlugin
from torch import Tensor

from densedet.core.errors import DataError
from densedet.core.images import Placement

Color = Literal["grey", "rgb"]
READERS = (Jpeg2KImagePlugin, MpoImagePlugin, TgaImagePlugin, TiffImagePlugin, WebPImagePlugin)
"""Importing a reader registers it; the others of FORMATS are Pillow's preinit."""

Image.preinit()
FORMATS = tuple(f for f in ("JPEG", "MPO", "PNG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "PPM", "JPEG2000", "TGA") if f in Image.OPEN)
"""Photographs and drawings only: Pillow's other readers (some of which start programs) have no business with a training set."""

VERSION = 2
"""Raised when decoding gives other pixels than before: part of the key of cached images."""

DRAFT_MARGIN = 1
"""A reduced JPEG keeps at least this many times the wanted width and height, so that the antialiased resize still decides the result."""

ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode(
    image: Any,
    *,
    color: Color,
    placement_of: Callable[[int, int], Placement],
    expected: tuple[int, int] | None = None,
    name: str = "",
) -> tuple[Tensor, tuple[int, int]]:
    """-> (pixels (ch,h,w), (source width, source height)), with ch 1 for "grey" and 3 for "rgb", h and w those of the placement.

    image: path, encoded bytes, or uint8 array (H,W) or (H,W,3). placement_of(width, height of the displayed source). Pixels are uint8,
    or float32 0..255 where the placement says antialias=False. expected: the annotation's (width, height); another size is an error,
    since its boxes would lie elsewhere. name: for messages, when ``image`` is no path.

    Raises DataError.
    """
    name = str(image) if isinstance(image, (str, os.PathLike)) else name or "an image"
    picture, turn = _from_array(image, name) if isinstance(image, np.ndarray) else _open(image, name)
    source = _displayed(picture.size, turn)
    if expected is not None and source != expected:
        if picture.size != expected:
            raise DataError(
                f"{name} is {source[0]} x {source[1]} pixels but its annotation says {expected[0]} x {expected[1]}: "
                "correct width and height in the annotation, its boxes must lie in the image's own pixels"
            )
        turn, source = None, expected
    placement = placement_of(*source)
    stored = _displayed((placement.width, placement.height), turn)
    mode: Literal["L", "RGB"] = "L" if color == "grey" else "RGB"
    if placement.antialias:
        picture.draft(mode, (stored[0] * DRAFT_MARGIN, stored[1] * DRAFT_MARGIN))
    picture = _to_mode(_load(picture, name), mode, name)
    if placement.antialias and picture.size != stored:
        picture = picture.resize(stored, Image.Resampling.BILINEAR)
    if turn is not None:
        picture = picture.transpose(turn)
    pixels = torch.from_numpy(np.array(picture))
    pixels = pixels[None] if color == "grey" else pixels.permute(2, 0, 1).contiguous()
    if not placement.antialias:
        pixels = pixels.float()
        if pixels.shape[1:] != (placement.height, placement.width):
            size = (placement.height, placement.width)
            pixels = torch.nn.functional.interpolate(pixels[None], size=size, mode="bilinear", align_corners=False)[0]
    return pixels, source


def open_image(image: Any) -> Image.Image:
    """The whole picture, upright, as RGB; ``image`` as for `decode`. Raises DataError."""
    name = str(image) if isinstance(image, (str, os.PathLike)) else "an image"
    picture, turn = _from_array(image, name) if isinstance(image, np.ndarray) else _open(image, name)
    picture = _to_mode(_load(picture, name), "RGB", name)
    return picture if turn is None else picture.transpose(turn)


def _displayed(size: tuple[int, int], turn: Image.Transpose | None) -> tuple[int, int]:
    """(width, height) after the turn; also before it, since each is its own inverse on sizes."""
    swaps = turn in (Image.Transpose.TRANSPOSE, Image.Transpose.ROTATE_270, Image.Transpose.TRANSVERSE, Image.Transpose.ROTATE_90)
    return (size[1], size[0]) if swaps else size


def _from_array(array: np.ndarray, name: str) -> tuple[Image.Image, None]:
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3) or 0 in array.shape:
        raise DataError(f"{name}: an array must be uint8 (H,W) or (H,W,3), not {array.dtype} {tuple(array.shape)}")
    return Image.fromarray(np.ascontiguousarray(array)), None


def _open(image: Any, name: str) -> tuple[Image.Image, Image.Transpose | None]:
    """The picture, not yet decoded, and the turn that shows it upright."""
    if isinstance(image, (str, os.PathLike)):
        try:
            image = Path(image).read_bytes()
        except FileNotFoundError as error:
            raise DataError(f"image {name} does not exist: correct its file name or the folder of images") from error
        except (OSError, ValueError) as error:
            raise DataError(f"image {name} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    elif not isinstance(image, (bytes, bytearray, memoryview)):
        raise DataError(f"{name}: a source gives a path, encoded bytes or a uint8 array, not {type(image).__name__}")
    if len(image) == 0:
        raise DataError(f"image {name} is an empty file: replace it or take it out of the annotations")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(image), formats=FORMATS)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise DataError(
            f"image {name} has more than the {Image.MAX_IMAGE_PIXELS} pixels that PIL.Image.MAX_IMAGE_PIXELS allows: scale it down"
        ) from error
    except Image.UnidentifiedImageError as error:
        raise DataError(f"image {name} is in no known format: convert it to JPEG or PNG ({', '.join(FORMATS)} can be read)") from error
    except Exception as error:  # a damaged header makes Pillow's readers raise nearly anything
        raise DataError(f"image {name} cannot be opened: {type(error).__name__}: {error}") from error
    return picture, TURNS.get(_orientation(picture))


def _orientation(picture: Image.Image) -> int:
    """EXIF orientation, 1 where there is none that can be understood."""
    try:
        value = picture.getexif().get(ORIENTATION, 1)
    except Exception:  # damaged EXIF says nothing about the pixels: they are shown as they are
        return 1
    return value if isinstance(value, int) else 1


def _load(picture: Image.Image, name: str) -> Image.Image:
    try:
        picture.load()
    except Exception as error:  # as in _open: OSError, SyntaxError, struct.error, zlib.error, ... by format
        raise DataError(f"image {name} is damaged or cut short: replace it or take it out of the annotations ({error})") from error
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
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, (0, 0, 0, 255)), picture).convert("RGB")
    elif picture.mode not in ("L", "RGB", "1"):
        picture = picture.convert("RGB")
    return picture.convert(mode)
