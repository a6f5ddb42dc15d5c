"""An exported file gets the pixels that the detector was trained on."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from densedet.core.data.dataset import sample_of
from densedet.core.data.decoding import Decoding
from densedet.core.data.loader import collate
from densedet.core.inference.pixels import input_of, read_picture, stretched
from densedet.plugins.resize.exact import ExactResize
from densedet.plugins.resize.letterbox import LetterboxResize


def photograph() -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (90, 130, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).resize((1300, 900), Image.Resampling.BICUBIC).save(stream, "JPEG")
    return stream.getvalue()


@pytest.mark.parametrize("color", ["grey", "rgb"])
@pytest.mark.parametrize("resize", [ExactResize, LetterboxResize])
def test_the_pixels_are_those_of_training(color, resize):
    decoding, placing = Decoding(color), resize(size_wh=(96, 64))
    image = photograph()
    batch = collate([sample_of(image, decoding=decoding, resize=placing)], pad_to=32)
    picture = read_picture(image, decoding=decoding, resize=placing)
    images, valid_hw = input_of([picture], dtype="uint8", size_hw=(64, 96), pad_to=32)
    assert np.array_equal(images, batch.images.numpy()) and images.dtype == np.uint8
    assert valid_hw.tolist() == batch.valid_hw.tolist()
    assert picture.source_wh == (1300, 900)


@pytest.mark.parametrize("size", [(7, 5), (64, 100), (33, 17)])
def test_stretching_is_torch_s_interpolation(size):
    pixels = np.random.default_rng(1).random((3, 33, 17), dtype=np.float32) * 255
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(pixels)[None], size=size, mode="bilinear", align_corners=False
    )[0]
    assert np.abs(stretched(pixels, size) - expected.numpy()).max() < 1e-3


def test_a_free_input_is_as_large_as_its_largest_picture():
    """Placed at 20 x 10 and 8 x 30 pixels, in multiples of 16: 32 wide, 32 high."""
    decoding = Decoding("grey")
    pictures = [
        read_picture(np.full((h, w), 9, np.uint8), decoding=decoding, resize=LetterboxResize(size_wh=(w, h)))
        for w, h in ((20, 10), (8, 30))
    ]
    images, valid_hw = input_of(pictures, dtype="float32", size_hw=(None, None), pad_to=16)
    assert images.shape == (2, 1, 32, 32) and images.dtype == np.float32
    assert valid_hw.tolist() == [[10, 20], [30, 8]]
    assert images.sum(axis=(1, 2, 3)).tolist() == [9 * 200, 9 * 240]
