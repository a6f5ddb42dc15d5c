import os
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from densedet.core.annotations.image_header import SUFFIXES, displayed, image_size, open_picture
from densedet.core.errors import DataError


def picture(width=20, height=10, mode="RGB"):
    return Image.fromarray(np.zeros((height, width, 3), np.uint8)).convert(mode)


def turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def chunk(kind, data):
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "gif", "webp", "tif", "ppm", "tga"])
def test_size_of_each_format(tmp_path, suffix):
    picture().save(tmp_path / f"a.{suffix}")
    assert image_size(tmp_path / f"a.{suffix}") == (20, 10)
    assert f".{suffix}" in SUFFIXES


@pytest.mark.parametrize(
    ("orientation", "size"), [(1, (20, 10)), (3, (20, 10)), (6, (10, 20)), (8, (10, 20)), (9, (20, 10))]
)
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_orientation_is_applied(tmp_path, suffix, orientation, size):
    picture().save(tmp_path / f"a.{suffix}", exif=turned(orientation))
    assert image_size(tmp_path / f"a.{suffix}") == size
    stored, turn = open_picture(tmp_path / f"a.{suffix}", "a")
    assert displayed(stored.size, turn) == size
    if suffix != "tif":  # those Pillow turns itself
        assert stored.size == (20, 10)
        assert (turn is None) == (orientation in (1, 9))


def test_a_turned_tiff_is_turned_once(tmp_path):
    """The left quarter white; orientation 6 is shown turned clockwise: the upper quarter."""
    pixels = np.zeros((10, 20), np.uint8)
    pixels[:, :5] = 255
    Image.fromarray(pixels).save(tmp_path / "a.tif", exif=turned(6))
    stored, turn = open_picture(tmp_path / "a.tif", "a")
    shown = np.array(stored if turn is None else stored.transpose(turn))
    assert shown.shape == (20, 10)
    assert (shown[:5] == 255).all()
    assert (shown[5:] == 0).all()


def test_png_orientation_after_the_pixels(tmp_path):
    """Such files are rare, but image_size must say what decoding will."""
    picture().save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    end = content.rindex(b"IEND") - 4
    exif = turned(6).tobytes().removeprefix(b"Exif\0\0")
    (tmp_path / "a.png").write_bytes(content[:end] + chunk(b"eXIf", exif) + content[end:])
    assert image_size(tmp_path / "a.png") == (10, 20)


def test_the_pixels_are_not_read(tmp_path):
    """A file that ends in the middle of its pixels has a size."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    for suffix in ("jpg", "png"):
        noise.save(tmp_path / f"a.{suffix}")
        content = (tmp_path / f"a.{suffix}").read_bytes()
        (tmp_path / f"a.{suffix}").write_bytes(content[: len(content) // 2])
        assert image_size(tmp_path / f"a.{suffix}") == (64, 64)


def test_broken_files_are_sentences(tmp_path):
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("no picture")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "short.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0")
    for name, sentence in [
        ("none.jpg", "does not exist"),
        ("empty.jpg", "empty file"),
        ("text.jpg", "no known format"),
        ("folder.jpg", "is no file"),
        ("short.png", "short.png (cannot be opened|is in no known format)"),
        ("nul\0.jpg", "cannot be read"),
    ]:
        for look in (image_size, lambda path: open_picture(path, str(path))):
            with pytest.raises(DataError, match=sentence):
                look(tmp_path / name)


def test_the_size_is_read_however_large(tmp_path, monkeypatch):
    """800 pixels, where Pillow warns of 100 and refuses 200; decoding them needs a larger limit."""
    picture(40, 20).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert image_size(tmp_path / "a.png") == (40, 20)
    with pytest.raises(DataError, match="megapixels, more than 0 megapixels: raise data.max_megapixels"):
        open_picture(tmp_path / "a.png", "a")
    assert open_picture(tmp_path / "a.png", "a", max_megapixels=0.001)[0].size == (40, 20)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.jpg")
    with pytest.raises(DataError, match="is no file"):
        image_size(tmp_path / "a.jpg")


def test_no_torch():
    code = (
        "import sys, densedet.core.annotations.image_header, densedet.core.annotations.folders; "
        "print('torch' in sys.modules)"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "False"
    )
