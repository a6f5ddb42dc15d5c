"""Open a picture without decoding it: formats, EXIF orientation, the size as it is displayed.

No torch here.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import stat
import struct
import sys
import warnings
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image, PngImagePlugin, TiffImagePlugin, features

from densedet.core.errors import DataError

Image.preinit()
for reader in ("Avif", "Jpeg2K", "Mpo", "Tga", "Tiff", "WebP"):
    with contextlib.suppress(ImportError):  # an older Pillow has no AVIF
        import_module(f"PIL.{reader}ImagePlugin")  # which registers it

OPTIONAL = {"AVIF": "avif", "JPEG2000": "jpg_2000", "WEBP": "webp"}
"""{format: the name of the library that a Pillow may have been built without}."""

FORMATS = tuple(
    name
    for name in ("JPEG", "PNG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF", "TGA")
    if name in Image.OPEN and (name not in OPTIONAL or features.check(OPTIONAL[name]))
)
"""Photographs and drawings only: Pillow's other readers (some of which start programs) have no business with
a training set."""

SUFFIXES = frozenset(suffix for suffix, name in Image.EXTENSION.items() if name in FORMATS) | {".mpo"}
"""By which a file in a folder of images is taken for an image, in lower case: .jpg, .png, ..."""

UNREADABLE = (
    frozenset(
        """
        .avif .avifs .j2c .j2k .jp2 .jpc .jpf .jpx .webp .heic .heif .hif .jxl .jxr .svg .svgz .psd .psb .xcf
        .exr .hdr .ico .icns .pcx .qoi .dds .eps .ai .dcm .fits .arw .cr2 .cr3 .dng .nef .nrw .orf .pef .raf
        .raw .rw2 .srw .x3f
        """.split()
    )
    - SUFFIXES
)
"""By which a file is an image that cannot be read here: phones' HEIC, cameras' raw files, drawings, and what
this Pillow was built without."""

MAX_PIECES = 100_000
"""Chunks of a PNG file that are looked at; a large one has thousands."""

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


def displayed(size: tuple[int, int], turn: Image.Transpose | None) -> tuple[int, int]:
    """Return (width, height) after the turn; each turn is its own inverse on sizes."""
    swaps = turn in (
        Image.Transpose.TRANSPOSE,
        Image.Transpose.ROTATE_270,
        Image.Transpose.TRANSVERSE,
        Image.Transpose.ROTATE_90,
    )
    return (size[1], size[0]) if swaps else size


def open_picture(
    image: str | os.PathLike[str] | bytes, name: str, *, max_megapixels: float | None = None
) -> tuple[Image.Image, Image.Transpose | None]:
    """Open a picture without decoding it, unless its format makes that necessary.

    Args:
        image: a path or encoded bytes.
        name: for messages.
        max_megapixels: larger pictures are refused; None: Pillow's own limit, 179.

    Returns:
        The picture (with `LOW_BYTES`, where a channel in colour has 16 bits), and the turn that shows it
        upright (None: it is upright).

    Raises:
        DataError: it cannot be read, is in no known format or too large.
    """
    if max_megapixels is not None and Image.MAX_IMAGE_PIXELS is not None:
        # Some of Pillow's readers look at its limit themselves, which is twice this number.
        Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, math.ceil(max_megapixels * 1e6 / 2))
    if isinstance(image, (str, os.PathLike)):
        with _file(Path(image), name) as file:
            try:
                image = file.read()
            except OSError as error:
                raise DataError(f"image {name} cannot be read: {error.strerror or error}") from error
    elif not isinstance(image, (bytes, bytearray, memoryview)):
        raise DataError(
            f"{name}: a source gives a path, encoded bytes or a uint8 array, not {type(image).__name__}"
        )
    if len(image) == 0:
        raise DataError(f"image {name} is an empty file: replace it or take it out of the annotations")
    picture = _opened(io.BytesIO(image), name)
    _check_pixels(picture, name, max_megapixels)
    if form := _deep_colour(picture):
        picture.info[LOW_BYTES] = _low_bytes(bytes(image), form, name)
    _turned_by_pillow(picture, name)
    return picture, TURNS.get(orientation(picture))


def orientation(picture: Image.Image) -> int:
    """Return the EXIF orientation, 1 where there is none that can be understood."""
    try:
        value = picture.getexif().get(ORIENTATION, 1)
    except Exception:  # damaged EXIF says nothing about the pixels: they are shown as they are
        return 1
    return value if isinstance(value, int) else 1


def image_size(path: Path) -> tuple[int, int]:
    """Return (width, height) of an image file as it is displayed, from its header. Raises DataError."""
    with _file(path, str(path)) as file:
        if os.fstat(file.fileno()).st_size == 0:
            raise DataError(f"image {path} is an empty file: replace it or take it out of the annotations")
        picture = _opened(file, str(path))
        if isinstance(picture, PngImagePlugin.PngImageFile) and not _late_texts(file):
            # Pillow would decode a PNG file without EXIF to see whether some follows the pixels.
            turn = TURNS.get(_early_orientation(picture))
        else:
            _turned_by_pillow(picture, str(path))
            turn = TURNS.get(orientation(picture))
        return displayed(picture.size, turn)


def _file(path: Path, name: str) -> BinaryIO:
    try:
        # A pipe called x.jpg would be waited for without end.
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise DataError(f"image {name} cannot be read: it is no file")
        return open(path, "rb")
    except FileNotFoundError as error:
        raise DataError(
            f"image {name} does not exist: correct its file name or the folder of images"
        ) from error
    except (OSError, ValueError) as error:
        raise DataError(
            f"image {name} cannot be read: {getattr(error, 'strerror', None) or error}"
        ) from error


def _opened(file: BinaryIO, name: str) -> Image.Image:
    head = file.read(16)
    try:
        # As Image.open does, which warns of 90 megapixels and refuses 179 even where only the size is read.
        for factory, accept in map(Image.OPEN.__getitem__, FORMATS):
            if accept is None or accept(head):
                file.seek(0)
                with (
                    contextlib.suppress(SyntaxError, IndexError, TypeError, struct.error),
                    _without_size_warnings(),
                ):
                    return factory(file, "")
    except Image.DecompressionBombError as error:
        raise DataError(_too_large(name, "", 2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6)) from error
    except Exception as error:  # a damaged header makes Pillow's readers raise nearly anything
        raise DataError(f"image {name} cannot be opened: {type(error).__name__}: {error}") from error
    raise DataError(
        f"image {name} is in no known format: convert it to JPEG or PNG ({', '.join(FORMATS)} can be read)"
    )


def _check_pixels(picture: Image.Image, name: str, max_megapixels: float | None) -> None:
    pillow = math.inf if Image.MAX_IMAGE_PIXELS is None else 2 * Image.MAX_IMAGE_PIXELS / 1e6
    limit = pillow if max_megapixels is None else max_megapixels
    # A TIFF file may give pixels for a part of the size that it claims; Pillow leaves the rest black.
    tiles: Any = picture.tile if isinstance(picture, TiffImagePlugin.TiffImageFile) else []
    right, bottom = (max((tile[1][end] for tile in tiles), default=0) for end in (2, 3))
    if tiles and right * bottom < picture.width * picture.height:
        raise DataError(f"image {name} is damaged or cut short: it has pixels for a part of its size only")
    megapixels = picture.width * picture.height / 1e6
    if megapixels > limit:
        raise DataError(_too_large(name, f"{megapixels:,.0f} megapixels, ", limit))


def _too_large(name: str, size: str, limit: float) -> str:
    return (
        f"image {name} has {size}more than {limit:,.0f} megapixels: raise data.max_megapixels, or scale the "
        f"image down"
    )


def _turned_by_pillow(picture: Image.Image, name: str) -> None:
    """Decode a TIFF file that has an orientation: Pillow turns it then, and forgets the orientation."""
    if isinstance(picture, TiffImagePlugin.TiffImageFile) and orientation(picture) in TURNS:
        load_pixels(picture, name)


LOW_BYTES = "densedet low bytes"
"""In a picture's ``info``: a picture of the low bytes, where a channel in colour has 16 bits."""

OTHER_BYTES = {
    ";16B": ";16L",
    ";16L": ";16B",
    ";16N": ";16B" if sys.byteorder == "little" else ";16L",
}
"""Pillow keeps the high bytes of 16-bit channels in colour; read in the other byte order, the low ones."""

GREY_AND_ALPHA = "LA;16B"
"""Has no other order; its four bytes are read as four channels."""


def _deep_colour(picture: Image.Image) -> str:
    """Return Pillow's name of 16-bit channels in colour, "" for other pictures."""
    if not isinstance(picture, (PngImagePlugin.PngImageFile, TiffImagePlugin.TiffImageFile)):
        return ""
    arguments = picture.tile[0][3] if picture.tile and not picture.mode.startswith("I") else ""
    form = arguments if isinstance(arguments, str) else str(arguments and arguments[0])
    return form if form[-4:] in OTHER_BYTES else ""


def _low_bytes(image: bytes, form: str, name: str) -> Image.Image:
    """Decode a picture in deep colour to its low bytes. Raises DataError where it is damaged."""
    low: Any = _opened(io.BytesIO(image), name)
    other = "RGBA" if form == GREY_AND_ALPHA else form[:-4] + OTHER_BYTES[form[-4:]]
    for index, tile in enumerate(low.tile):
        arguments = other if isinstance(tile[3], str) else (other, *tile[3][1:])
        low.tile[index] = (
            tile._replace(args=arguments) if hasattr(tile, "_replace") else (*tile[:3], arguments)
        )
    load_pixels(low, name)
    if form == GREY_AND_ALPHA:
        _, grey, _, alpha = low.split()
        low = Image.merge("RGBA", (grey, grey, grey, alpha))
    return low  # type: ignore[no-any-return]


def load_pixels(picture: Image.Image, name: str) -> None:
    """Decode a picture. Raises DataError where it is damaged."""
    try:
        with _without_size_warnings():
            picture.load()
    except Exception as error:  # as on opening: OSError, SyntaxError, struct.error, zlib.error, ... by format
        raise damaged(name, error) from error


@contextlib.contextmanager
def _without_size_warnings() -> Iterator[None]:
    """Keep Pillow from warning of large pictures: the limit is ours, and is checked."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def damaged(name: str, error: Exception) -> DataError:
    """Return the error of a picture whose pixels cannot be had."""
    return DataError(
        f"image {name} is damaged or cut short: replace it or take it out of the annotations ({error})"
    )


def _early_orientation(picture: Image.Image) -> int:
    """Return the orientation that a PNG file gives before its pixels."""
    try:
        value = Image.Image.getexif(picture).get(ORIENTATION, 1)
    except Exception:
        return 1
    return value if isinstance(value, int) else 1


def _late_texts(file: BinaryIO) -> bool:
    """Return whether a PNG file has EXIF, or texts that can hold it, after its first pixels.

    The file's position stays as it was.
    """
    here, found, pixels = file.tell(), False, False
    file.seek(8)
    for _ in range(MAX_PIECES):
        head = file.read(8)
        if len(head) < 8 or found:
            break
        kind = head[4:]
        pixels = pixels or kind == b"IDAT"
        found = pixels and kind in (b"eXIf", b"tEXt", b"zTXt", b"iTXt")
        file.seek(int.from_bytes(head[:4], "big") + 4, os.SEEK_CUR)
    file.seek(here)
    return found
