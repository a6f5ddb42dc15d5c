"""Images of every format that is read, changed, and opened, decoded and resized."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from mutations import changes
from PIL import Image

from densedet.core.annotations.image_header import FORMATS, image_size
from densedet.core.data.decoding import Decoding, decode, open_image
from densedet.core.errors import DataError
from densedet.core.placement import Placement

MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I", "I;16", "F", "YCbCr", "LAB")
ENDINGS = {"JPEG": "jpg", "JPEG2000": "jp2", "MPO": "mpo", "TIFF": "tif"}
OPTIONS: dict[str, tuple[dict[str, object], ...]] = {
    "JPEG": ({"quality": 80}, {"progressive": True}, {"exif": True}),
    "PNG": ({}, {"exif": True}, {"bits": 4}),
    "TIFF": (
        {},
        {"compression": "tiff_lzw"},
        {"compression": "tiff_deflate"},
        {"compression": "jpeg"},
        {"exif": True},
    ),
    "WEBP": ({"lossless": True}, {"quality": 70}, {"exif": True}),
    "GIF": ({}, {"animated": True}),
}
SIDES = (0, 1, 2, 255, 5000, 8000, 9459, 20_000, 65_535, 1 << 16, (1 << 24) + 1, (1 << 31) - 1, (1 << 32) - 1)


def pictures() -> Iterator[tuple[str, bytes]]:
    """Give (file name, content) of small images."""
    draw = np.random.default_rng(0)
    noise = Image.fromarray(draw.integers(0, 256, (24, 40, 3)).astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    for form in FORMATS:
        for number, options in enumerate(OPTIONS.get(form, ({},))):
            for mode in MODES:
                given = {key: value for key, value in options.items() if key not in ("exif", "animated")}
                if options.get("exif"):
                    given["exif"] = exif
                if options.get("animated"):
                    given |= {"save_all": True, "append_images": [noise.rotate(90), noise]}
                try:
                    if given.get("compression") == "jpeg" and mode not in ("L", "RGB"):
                        continue  # libtiff would complain on standard error
                    picture = Image.new("I;16", noise.size, 40_000) if mode == "I;16" else noise.convert(mode)
                    stream = io.BytesIO()
                    picture.save(stream, form, **given)
                except (OSError, ValueError, KeyError):
                    continue  # the format has no such pictures
                ending = ENDINGS.get(form, form.lower())
                yield f"{mode.replace(';', '')}_{number}.{ending}", stream.getvalue()


class ImageKind:
    """Images. corpus: not used, all of them are in memory."""

    def __init__(self, corpus: Path) -> None:
        self.pictures = list(pictures())
        self.contents = [content for _, content in self.pictures]

    def make(self, draw: random.Random, folder: Path) -> None:
        """Write one changed image."""
        name, content = draw.choice(self.pictures)
        kind = draw.random()
        if kind < 0.0005:
            name, content = "bomb.png", png_bomb(draw)
        elif kind < 0.5 and name.endswith(".png"):
            content = changed_png(content, draw)
        else:
            content = changes.changed_bytes(content, draw, self.contents)
        (folder / name).write_bytes(content)

    def use(self, draw: random.Random, folder: Path) -> None:
        """Open, decode at a size, and decode whole."""
        (path,) = folder.iterdir()
        color = draw.choice(("grey", "rgb"))
        antialias = draw.random() < 0.8
        wanted = draw.choice(((32, 16), (1, 1), (200, 300)))
        try:
            size = image_size(path)
            assert min(size) > 0
        except DataError:
            size = None
        pixels, source = decode(
            str(path) if draw.random() < 0.5 else path.read_bytes(),
            decoding=Decoding(color, value_range=draw.choice((None, (0.0, 1.0), (100.0, 60_000.0)))),
            placement_of=lambda width, height: Placement(*wanted, wanted, antialias),
        )
        assert pixels.shape == ({"grey": 1, "rgb": 3}[color], wanted[1], wanted[0]), pixels.shape
        assert bool(((pixels >= 0) & (pixels <= 255.01)).all())
        assert size == source, (size, source)
        assert open_image(path).mode == "RGB"


def chunks(content: bytes) -> list[tuple[bytes, bytes]]:
    """Return (kind, data) of a PNG file's pieces."""
    found, at = [], 8
    while at + 8 <= len(content):
        length, kind = struct.unpack(">I4s", content[at : at + 8])
        found.append((kind, content[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


def png(pieces: list[tuple[bytes, bytes]]) -> bytes:
    out = b"\x89PNG\r\n\x1a\n"
    for kind, data in pieces:
        out += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return out


def changed_png(content: bytes, draw: random.Random) -> bytes:
    """Change a PNG file's pieces, under check sums that fit."""
    pieces = chunks(content)
    at = draw.randrange(len(pieces))
    kind, data = pieces[at]
    if kind == b"IHDR" and draw.random() < 0.7:
        width, height, depth, colour, *rest = struct.unpack(">IIBBBBB", data)
        what = draw.randrange(4)
        width = draw.choice(SIDES) if what in (0, 1) else width
        height = draw.choice(SIDES) if what in (0, 2) else height
        depth, colour = (
            (draw.choice((1, 2, 4, 8, 16, 3)), draw.randrange(8)) if what == 3 else (depth, colour)
        )
        pieces[at] = kind, struct.pack(">IIBBBBB", width, height, depth, colour, *rest)
    elif kind == b"IDAT" and draw.random() < 0.7:
        raw = changes.changed_bytes(zlib.decompress(data), draw)
        pieces[at] = kind, zlib.compress(raw)
    elif draw.random() < 0.5:
        texts = {
            b"zTXt": b"a\0\0" + zlib.compress(bytes(draw.choice((10, 80_000_000)))),
            b"iCCP": b"a\0\0" + zlib.compress(bytes(draw.choice((10, 3_000_000)))),
            b"tRNS": bytes(draw.choice((1, 2, 6, 300))),
            b"PLTE": bytes(draw.choice((0, 1, 3, 3000))),
            b"eXIf": b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01"
            + struct.pack(">HH", draw.randrange(12), 0),
            b"acTL": struct.pack(">II", draw.choice((0, 1, 1 << 31)), 0),
            b"iTXt": b"Raw profile type exif\0\0\0\0\0" + b"exif\n 9\n" + b"zz" * 9,
        }
        pieces.insert(at, draw.choice(sorted(texts.items())))
    else:
        pieces[at] = kind, changes.changed_bytes(data, draw)
    return png(pieces)


def png_bomb(draw: random.Random) -> bytes:
    """Make a small file of very many equal pixels."""
    side, channels = draw.choice(((8000, 1), (9000, 4), (30_000, 1)))
    row = bytes(1 + side * channels)
    packer = zlib.compressobj(1)
    packed = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    head = struct.pack(">IIBBBBB", side, side, 8, {1: 0, 4: 6}[channels], 0, 0, 0)
    return png([(b"IHDR", head), (b"IDAT", packed), (b"IEND", b"")])
