import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from densedet.core.data.decoding import decode, open_image
from densedet.core.errors import DataError
from densedet.core.placement import Placement


def own_size(width, height):
    return Placement(width, height, (width, height))


def at(width, height, antialias=True):
    def placement_of(_width, _height):
        return Placement(width, height, (width, height), antialias)

    return placement_of


def encoded(picture, **arguments):
    stream = io.BytesIO()
    picture.save(stream, **{"format": "PNG", **arguments})
    return stream.getvalue()


def photograph(width=640, height=480):
    """Smooth, with some detail."""
    y, x = np.mgrid[0:height, 0:width]
    red = 128 + 80 * np.sin(x / 31) + 30 * np.sin(y / 3)
    return Image.fromarray(
        np.stack([red, 255 * y / height, 255 * x / width], axis=2).clip(0, 255).astype(np.uint8)
    )


def corners(orientation=None, format="PNG"):
    """A 4 x 2 grey picture, its top left pixel white; stored as given, with an EXIF orientation."""
    pixels = np.zeros((2, 4), dtype=np.uint8)
    pixels[0, 0] = 255
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    return encoded(Image.fromarray(pixels), format=format, exif=exif)


def test_grey_and_colour_at_their_own_size():
    pixels, size = decode(encoded(photograph(6, 4)), color="rgb", placement_of=own_size)
    assert pixels.shape == (3, 4, 6)
    assert pixels.dtype == torch.uint8
    assert size == (6, 4)
    assert pixels.is_contiguous()
    assert decode(encoded(photograph(6, 4)), color="grey", placement_of=own_size)[0].shape == (1, 4, 6)


def test_placement_is_asked_with_the_source_size_and_obeyed():
    asked = []

    def placement_of(width, height):
        asked.append((width, height))
        return Placement(3, 5, (8, 8))

    pixels, size = decode(encoded(photograph(6, 4)), color="grey", placement_of=placement_of)
    assert asked == [(6, 4)]
    assert pixels.shape == (1, 5, 3)
    assert size == (6, 4)


@pytest.mark.parametrize(("color", "mode"), [("grey", "L"), ("rgb", "RGB")])
@pytest.mark.parametrize("target", [(128, 64), (60, 60), (320, 240)])
def test_reduced_jpeg_looks_like_a_full_decode(color, mode, target):
    jpeg = encoded(photograph(), format="JPEG", quality=90)
    pixels, size = decode(jpeg, color=color, placement_of=at(*target))
    full = Image.open(io.BytesIO(jpeg)).convert(mode).resize(target, Image.Resampling.BILINEAR)
    reference = torch.from_numpy(np.array(full)).reshape(target[1], target[0], -1).permute(2, 0, 1)
    assert size == (640, 480)
    assert pixels.shape == reference.shape
    assert (pixels.float() - reference.float()).abs().mean() < 2


@pytest.mark.parametrize(
    (
        "orientation",
        "size",
        "white",
    ),  # where the stored top left corner is seen: EXIF 2.3, tag 274; (row, column)
    [
        (1, (4, 2), (0, 0)),
        (2, (4, 2), (0, 3)),
        (3, (4, 2), (1, 3)),
        (4, (4, 2), (1, 0)),
        (5, (2, 4), (0, 0)),
        (6, (2, 4), (0, 1)),
        (7, (2, 4), (3, 1)),
        (8, (2, 4), (3, 0)),
        (0, (4, 2), (0, 0)),
        (9, (4, 2), (0, 0)),
        (None, (4, 2), (0, 0)),
    ],
)
def test_exif_orientation(orientation, size, white):
    pixels, source = decode(corners(orientation), color="grey", placement_of=own_size)
    assert source == size
    assert pixels.shape == (1, size[1], size[0])
    assert pixels[0, white[0], white[1]] == 255
    assert pixels.sum() == 255
    assert open_image(corners(orientation)).getpixel((white[1], white[0])) == (255, 255, 255)


def test_orientation_with_a_resize_of_another_aspect():
    pixels, source = decode(corners(6), color="grey", placement_of=at(6, 2))
    assert source == (2, 4)
    assert pixels.shape == (1, 2, 6)
    assert pixels[0, 0, 3:].float().mean() > pixels[0, 0, :3].float().mean()


def test_annotation_of_the_stored_frame_leaves_the_picture_unturned():
    pixels, source = decode(corners(6), color="grey", placement_of=own_size, expected=(4, 2))
    assert source == (4, 2)
    assert pixels[0, 0, 0] == 255


def test_annotation_of_another_size_is_refused(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(corners())
    with pytest.raises(
        DataError, match=r"a\.png is 4 x 2 pixels but its annotation says 200 x 200: correct width and height"
    ):
        decode(path, color="grey", placement_of=own_size, expected=(200, 200))


def test_transparency_is_laid_on_black():
    picture = Image.fromarray(np.array([[[200, 100, 50, 255], [200, 100, 50, 0]]], dtype=np.uint8))
    pixels, _ = decode(encoded(picture), color="rgb", placement_of=own_size)
    assert pixels[:, 0, 0].tolist() == [200, 100, 50]
    assert pixels[:, 0, 1].tolist() == [0, 0, 0]


def test_palette_sixteen_bit_bilevel_and_cmyk():
    palette = Image.fromarray(np.full((2, 2, 3), [250, 10, 10], dtype=np.uint8)).quantize(2)
    assert decode(encoded(palette), color="rgb", placement_of=own_size)[0][:, 0, 0].tolist() == [250, 10, 10]
    deep = Image.fromarray(np.array([[0, 256 * 77 + 3, 65535]], dtype=np.uint16))
    assert decode(encoded(deep), color="grey", placement_of=own_size)[0].tolist() == [[[0, 77, 255]]]
    bilevel = Image.fromarray(np.array([[0, 255]], dtype=np.uint8)).convert("1")
    assert decode(encoded(bilevel), color="grey", placement_of=own_size)[0].tolist() == [[[0, 255]]]
    cmyk = encoded(photograph(32, 32).convert("CMYK"), format="JPEG", quality=95)
    pixels, _ = decode(cmyk, color="rgb", placement_of=own_size)
    wanted = torch.from_numpy(np.array(photograph(32, 32))).permute(2, 0, 1)
    assert (pixels.float() - wanted.float()).abs().mean() < 12


def test_first_picture_of_an_animation():
    frames = [Image.fromarray(np.full((3, 3), value, dtype=np.uint8)) for value in (10, 200)]
    gif = encoded(frames[0], format="GIF", save_all=True, append_images=frames[1:])
    assert decode(gif, color="grey", placement_of=own_size)[0].unique().tolist() == [10]


def test_arrays():
    grey = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert decode(grey, color="grey", placement_of=own_size)[0][0].tolist() == grey.tolist()
    assert decode(grey, color="rgb", placement_of=own_size)[0].shape == (3, 2, 3)
    assert decode(np.zeros((2, 3, 3), np.uint8), color="grey", placement_of=own_size)[0].shape == (1, 2, 3)
    for wrong in (np.zeros((2, 3)), np.zeros((2, 3, 4), np.uint8), np.zeros((0, 3), np.uint8)):
        with pytest.raises(DataError, match="uint8"):
            decode(wrong, color="grey", placement_of=own_size)


def test_exact_resampling_is_float_without_antialias():
    picture = photograph(20, 14)
    pixels, _ = decode(encoded(picture), color="rgb", placement_of=at(7, 5, antialias=False))
    whole = torch.from_numpy(np.array(picture)).permute(2, 0, 1).float()
    assert pixels.dtype == torch.float32
    assert torch.equal(
        pixels, torch.nn.functional.interpolate(whole[None], (5, 7), mode="bilinear", align_corners=False)[0]
    )


def test_faulty_files_are_named(tmp_path):
    whole = encoded(photograph(), format="JPEG")
    files = {
        "text.jpg": (b"not a picture", "no known format"),
        "empty.jpg": (b"", "empty file"),
        "cut.jpg": (whole[: len(whole) // 2], "cut short"),
        "cut.png": (encoded(photograph())[:3000], "cut short"),
        "postscript.jpg": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no known format"),
    }
    for name, (content, sentence) in files.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=sentence) as caught:
            decode(tmp_path / name, color="grey", placement_of=at(32, 32))
        assert name in str(caught.value)
    with pytest.raises(DataError, match=r"missing\.jpg does not exist"):
        decode(str(tmp_path / "missing.jpg"), color="grey", placement_of=own_size)
    with pytest.raises(DataError, match="cannot be read"):
        decode(tmp_path, color="grey", placement_of=own_size)
    with pytest.raises(DataError, match="not int"):
        decode(7, color="grey", placement_of=own_size)


def test_bombs_are_refused_before_decoding():
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 0, 0, 0, 0)
    chunk = (
        struct.pack(">I", len(header)) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    )
    data = (
        b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    )
    with pytest.raises(DataError, match=r"big\.png has more than the \d+ pixels"):
        decode(data, color="grey", placement_of=own_size, name="big.png")
