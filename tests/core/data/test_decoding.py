import io
import struct
import warnings
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from densedet.core.data.decoding import Decoding, decode, open_image, range_notes
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
    pixels, size = decode(encoded(photograph(6, 4)), decoding=Decoding("rgb"), placement_of=own_size)
    assert pixels.shape == (3, 4, 6)
    assert pixels.dtype == torch.uint8
    assert size == (6, 4)
    assert pixels.is_contiguous()
    assert decode(encoded(photograph(6, 4)), decoding=Decoding("grey"), placement_of=own_size)[0].shape == (
        1,
        4,
        6,
    )


def test_placement_is_asked_with_the_source_size_and_obeyed():
    asked = []

    def placement_of(width, height):
        asked.append((width, height))
        return Placement(3, 5, (8, 8))

    pixels, size = decode(encoded(photograph(6, 4)), decoding=Decoding("grey"), placement_of=placement_of)
    assert asked == [(6, 4)]
    assert pixels.shape == (1, 5, 3)
    assert size == (6, 4)


@pytest.mark.parametrize(("color", "mode"), [("grey", "L"), ("rgb", "RGB")])
@pytest.mark.parametrize("target", [(128, 64), (60, 60), (320, 240)])
def test_reduced_jpeg_looks_like_a_full_decode(color, mode, target):
    jpeg = encoded(photograph(), format="JPEG", quality=90)
    pixels, size = decode(jpeg, decoding=Decoding(color), placement_of=at(*target))
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
    pixels, source = decode(corners(orientation), decoding=Decoding("grey"), placement_of=own_size)
    assert source == size
    assert pixels.shape == (1, size[1], size[0])
    assert pixels[0, white[0], white[1]] == 255
    assert pixels.sum() == 255
    assert open_image(corners(orientation)).getpixel((white[1], white[0])) == (255, 255, 255)


def test_orientation_with_a_resize_of_another_aspect():
    pixels, source = decode(corners(6), decoding=Decoding("grey"), placement_of=at(6, 2))
    assert source == (2, 4)
    assert pixels.shape == (1, 2, 6)
    assert pixels[0, 0, 3:].float().mean() > pixels[0, 0, :3].float().mean()


def test_annotation_of_the_stored_frame_leaves_the_picture_unturned():
    pixels, source = decode(corners(6), decoding=Decoding("grey"), placement_of=own_size, expected=(4, 2))
    assert source == (4, 2)
    assert pixels[0, 0, 0] == 255


def test_annotation_of_another_size_is_refused(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(corners())
    with pytest.raises(
        DataError, match=r"a\.png is 4 x 2 pixels but its annotation says 200 x 200: correct width and height"
    ):
        decode(path, decoding=Decoding("grey"), placement_of=own_size, expected=(200, 200))


def test_transparency_is_laid_on_black():
    picture = Image.fromarray(np.array([[[200, 100, 50, 255], [200, 100, 50, 0]]], dtype=np.uint8))
    pixels, _ = decode(encoded(picture), decoding=Decoding("rgb"), placement_of=own_size)
    assert pixels[:, 0, 0].tolist() == [200, 100, 50]
    assert pixels[:, 0, 1].tolist() == [0, 0, 0]


def test_palette_bilevel_and_cmyk():
    palette = Image.fromarray(np.full((2, 2, 3), [250, 10, 10], dtype=np.uint8)).quantize(2)
    assert decode(encoded(palette), decoding=Decoding("rgb"), placement_of=own_size)[0][:, 0, 0].tolist() == [
        250,
        10,
        10,
    ]
    deep = Image.fromarray(np.array([[0, 256 * 77 + 3, 65535]], dtype=np.uint16))
    assert decode(encoded(deep), decoding=Decoding("grey"), placement_of=own_size)[0].tolist() == [
        [[0, 77, 255]]
    ]
    bilevel = Image.fromarray(np.array([[0, 255]], dtype=np.uint8)).convert("1")
    assert decode(encoded(bilevel), decoding=Decoding("grey"), placement_of=own_size)[0].tolist() == [
        [[0, 255]]
    ]
    cmyk = encoded(photograph(32, 32).convert("CMYK"), format="JPEG", quality=95)
    pixels, _ = decode(cmyk, decoding=Decoding("rgb"), placement_of=own_size)
    wanted = torch.from_numpy(np.array(photograph(32, 32))).permute(2, 0, 1)
    assert (pixels.float() - wanted.float()).abs().mean() < 12


def deep_png(values):
    """A PNG of 16 bits a channel; values (H,W,C): grey, with transparency, in colour, with transparency."""
    height, width, channels = values.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    pieces = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + pieces


def tiff(values, compression=None):
    return encoded(Image.fromarray(values), format="TIFF", compression=compression)


def decoded(image, color="grey", value_range=None):
    decoding = Decoding(color, value_range)
    return decode(image, decoding=decoding, placement_of=own_size, name="x.png")[0]


BYTES = np.random.default_rng(0).integers(0, 256, (4, 5, 3)).astype(np.uint8)
BYTES[0, 0], BYTES[0, 1] = 0, 255
GREY, COLOURS = BYTES[..., 0], torch.from_numpy(BYTES).permute(2, 0, 1)


@pytest.mark.parametrize(
    "factor",
    [
        1,  # 8 bits in 16
        4,  # 10 bits
        16,  # 12 bits
        256,  # the high byte
        257,  # stretched, 255 to 65535
    ],
)
def test_sixteen_bits_look_as_eight(factor):
    """Whatever the bits that the values use: v * 16 of 4095 is 255 * v * 16 / 4095 = .996 v, v or v - 1."""
    deep = BYTES.astype(np.uint16) * factor
    near = 0 if factor in (1, 257) else 1
    forms = {
        "png": deep_png(deep[..., :1]),
        "tiff": tiff(deep[..., 0]),
        "packed": tiff(deep[..., 0], "tiff_adobe_deflate"),
        "big endian": encoded(
            Image.frombytes("I;16B", (5, 4), deep[..., 0].astype(">u2").tobytes()), format="TIFF"
        ),
        "32 bits": tiff(deep[..., 0].astype(np.int32)),
    }
    for name, form in forms.items():
        found = decoded(form)[0].int()
        assert (found - torch.from_numpy(GREY).int()).abs().max() <= near, name
        assert np.array_equal(np.array(open_image(form))[..., 0], found), name
    assert (decoded(deep_png(deep), "rgb").int() - COLOURS.int()).abs().max() <= near
    # a dark picture, the largest value 60, is no brighter for that, where all values are stretched alike
    dark = (BYTES.clip(0, 60).astype(np.uint16) * factor)[..., :1]
    if factor in (1, 256, 257):
        assert (decoded(deep_png(dark))[0].int().numpy() - GREY.clip(0, 60)).max() <= near
    # the whole range is v / 257, rounded
    full = np.array([[0, 128, 129, 19715, 65535]], np.uint16)  # 128 / 257 = .498, 129 / 257 = .502
    assert decoded(deep_png(full[..., None]))[0].tolist() == [[0, 0, 1, 77, 255]]


@pytest.mark.parametrize("factor", [1, 257])
@pytest.mark.parametrize("opaque", [255, 65535])
def test_transparency_in_sixteen_bits_is_laid_on_black(factor, opaque):
    """The alpha channel has a range of its own."""
    alpha = np.full((4, 5, 1), opaque, np.uint16)
    alpha[3] = 0
    wanted = COLOURS.clone()
    wanted[:, 3] = 0
    deep = BYTES.astype(np.uint16) * factor
    assert torch.equal(decoded(deep_png(np.dstack([deep, alpha])), "rgb"), wanted)
    assert torch.equal(decoded(deep_png(np.dstack([deep[..., :1], alpha])))[0], wanted[0])


def test_floats_of_one_and_of_255_look_as_eight_bits():
    for values in (GREY.astype(np.float32), GREY / np.float32(255)):
        assert decoded(tiff(values))[0].tolist() == GREY.tolist()


def test_more_transparencies_than_colours():
    picture = Image.new("P", (2, 2))
    picture.putpalette([0, 0, 0, 255, 255, 255])
    png = encoded(picture)
    chunk = b"tRNS" + bytes(257)
    chunk = struct.pack(">I", 257) + chunk + struct.pack(">I", zlib.crc32(chunk))
    at = png.index(b"IDAT") - 4
    with pytest.raises(DataError, match=r"is damaged or cut short: replace it .*palette index out of range"):
        decoded(png[:at] + chunk + png[at:])


def test_a_range_of_values_is_obeyed():
    """A thermal camera: 7000 is black, 9000 white; 8000 is 127.5, rounded to the even 128."""
    values = np.array([[0, 7000, 8000, 9000, 60000]], np.uint16)
    for form in (deep_png(values[..., None]), tiff(values.astype(np.int32)), tiff(values.astype(np.float32))):
        assert decoded(form, value_range=(7000, 9000))[0].tolist() == [[0, 0, 128, 255, 255]]
    minus = tiff(np.array([[-10.0, 0, 10, np.nan]], np.float32))
    assert decoded(minus, value_range=(-10, 10))[0].tolist() == [[0, 128, 255, 0]]
    signalling = tiff(np.array([[0x7F800001, 0]], np.uint32).view(np.float32))
    assert decoded(signalling, value_range=(-10, 10))[0].tolist() == [[0, 128]]
    huge = tiff(np.array([[-3e38, 0, 1.5e38, 3e38]], np.float32))
    assert decoded(huge, value_range=(0, 3e38))[0].tolist() == [[0, 0, 128, 255]]
    assert decoded(huge, value_range=(-10, 10))[0].tolist() == [[0, 128, 255, 255]]
    grey = encoded(Image.fromarray(GREY))
    assert decoded(grey, value_range=(7000, 9000))[0].tolist() == GREY.tolist()  # 8 bits are left alone


def test_values_that_fit_no_range_are_refused():
    for values in (
        np.array([[-1, 5]], np.int32),
        np.array([[0, 70000]], np.int32),
        np.array([[np.inf]], np.float32),
    ):
        with pytest.raises(DataError, match=r"x.png holds values from \S+ to \S+: set data.value_range"):
            decoded(tiff(values))


def test_a_guess_is_told():
    ten, twelve = (tiff(np.array([[0, top]], np.uint16)) for top in (1022, 4094))
    assert (
        range_notes([encoded(photograph(4, 4)), b"broken", np.zeros((2, 2), np.uint8)], Decoding("grey"))
        == []
    )
    [one] = range_notes([twelve, twelve], Decoding("grey"))
    assert "black to white is 0 to 4,095 (an image, for one); set data.value_range" in one
    [both] = range_notes([twelve, ten], Decoding("grey"))
    assert "0 to 1,023 (an image, for one); 0 to 4,095 (an image, for one); they differ" in both
    assert range_notes([twelve, ten], Decoding("grey", (0, 4095))) == []


def test_first_picture_of_an_animation():
    frames = [Image.fromarray(np.full((3, 3), value, dtype=np.uint8)) for value in (10, 200)]
    gif = encoded(frames[0], format="GIF", save_all=True, append_images=frames[1:])
    assert decode(gif, decoding=Decoding("grey"), placement_of=own_size)[0].unique().tolist() == [10]


def test_arrays():
    grey = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert decode(grey, decoding=Decoding("grey"), placement_of=own_size)[0][0].tolist() == grey.tolist()
    assert decode(grey, decoding=Decoding("rgb"), placement_of=own_size)[0].shape == (3, 2, 3)
    assert decode(np.zeros((2, 3, 3), np.uint8), decoding=Decoding("grey"), placement_of=own_size)[
        0
    ].shape == (1, 2, 3)
    for wrong in (np.zeros((2, 3)), np.zeros((2, 3, 4), np.uint8), np.zeros((0, 3), np.uint8)):
        with pytest.raises(DataError, match="uint8"):
            decode(wrong, decoding=Decoding("grey"), placement_of=own_size)


def test_exact_resampling_is_float_without_antialias():
    picture = photograph(20, 14)
    pixels, _ = decode(encoded(picture), decoding=Decoding("rgb"), placement_of=at(7, 5, antialias=False))
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
            decode(tmp_path / name, decoding=Decoding("grey"), placement_of=at(32, 32))
        assert name in str(caught.value)
    with pytest.raises(DataError, match=r"missing\.jpg does not exist"):
        decode(str(tmp_path / "missing.jpg"), decoding=Decoding("grey"), placement_of=own_size)
    with pytest.raises(DataError, match="cannot be read"):
        decode(tmp_path, decoding=Decoding("grey"), placement_of=own_size)
    with pytest.raises(DataError, match="not int"):
        decode(7, decoding=Decoding("grey"), placement_of=own_size)


def lying_png(width, height):
    """A header and no pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunk = (
        struct.pack(">I", len(header)) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    )
    return (
        b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    )


@pytest.mark.parametrize(
    ("size", "limit", "sentence"),
    [
        ((13300, 13300), None, "cut short"),  # 176.9 megapixels are decoded, as far as there are pixels
        ((178, 1000000), None, "cut short"),  # a panorama
        ((60000, 60000), None, r"3,600 megapixels, more than 179 megapixels: raise data.max_megapixels"),
        ((13400, 13400), None, r"180 megapixels, more than 179 megapixels"),
        ((13400, 13400), 200, "cut short"),
        ((3000, 1000), 2, "3 megapixels, more than 2 megapixels"),
    ],
)
def test_the_greatest_size_that_is_decoded(monkeypatch, size, limit, sentence):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)  # which a larger limit raises
    decoding = Decoding("grey", max_megapixels=limit)
    with pytest.raises(DataError, match=rf"big\.png .*{sentence}"):
        decode(lying_png(*size), decoding=decoding, placement_of=at(8, 8), name="big.png")


def test_a_tiff_file_with_pixels_for_a_part_of_its_size_is_refused():
    """5 x 4 pixels in a file that claims 5 x 12,000,000 (tag 257), which would cost seconds."""
    whole = tiff(GREY.astype(np.int32))
    place = whole.index(struct.pack("<HHI", 257, 4, 1))
    lying = whole[: place + 8] + struct.pack("<I", 12_000_000) + whole[place + 12 :]
    with pytest.raises(DataError, match="x.png is damaged or cut short: it has pixels for a part"):
        decoded(lying)


def test_large_photographs_are_decoded():
    """100 megapixels, above Pillow's warning at 89, the JPEG at an eighth; without a warning."""
    for form, size in (("TIFF", (10000, 10000)), ("JPEG", (50000, 2000))):
        large = encoded(Image.new("1" if form == "TIFF" else "L", size, 1), format=form)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            pixels, source = decode(large, decoding=Decoding("grey"), placement_of=at(8, 4))
        assert source == size
        assert pixels.unique().tolist() == [255 if form == "TIFF" else 1]


@pytest.mark.filterwarnings("error")
def test_a_large_frame_of_a_small_gif():
    """Pillow looks at a GIF's frame while it opens the file, and warns there."""
    gif = bytearray(encoded(Image.new("L", (2, 2)), format="GIF"))
    frame = gif.index(b"\x2c", 13 + 3 * 2)
    gif[frame + 5 : frame + 9] = struct.pack("<HH", 12000, 9730)
    with pytest.raises(DataError, match="is damaged or cut short"):  # as far as there are pixels
        open_image(bytes(gif))
