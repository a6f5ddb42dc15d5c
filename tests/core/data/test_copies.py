"""Copies of images: encoded anew, of another size, and pictures that are merely alike."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from densedet.core.data.copies import SIDE, copies, thumbnail


def scene(seed: int, size: tuple[int, int] = (160, 96)) -> Image.Image:
    """A smooth picture with a few blocks."""
    draw = np.random.default_rng(seed)
    small = Image.fromarray(draw.integers(0, 255, (6, 10), dtype=np.uint8))
    return small.resize(size, Image.Resampling.BICUBIC)


def encoded(image: Image.Image, factor: float, quality: int) -> Image.Image:
    size = round(image.width * factor), round(image.height * factor)
    content = io.BytesIO()
    image.resize(size, Image.Resampling.BILINEAR).save(content, "jpeg", quality=quality)
    return Image.open(content)


def small(image: Image.Image) -> np.ndarray:
    """The thumbnail of an image that was decoded at the network's size."""
    decoded = image.resize((128, 64), Image.Resampling.BILINEAR)
    return thumbnail(torch.from_numpy(np.array(decoded))[None])


@pytest.mark.parametrize(("factor", "quality"), [(1.0, 40), (0.5, 90), (0.33, 75), (2.0, 60)])
def test_an_image_that_was_encoded_anew_is_a_copy(factor: float, quality: int) -> None:
    first = np.stack([small(scene(seed)) for seed in range(8)])
    second = np.stack([small(scene(20)), small(encoded(scene(5), factor, quality))])
    [(one, other, distance)] = copies(first, second)
    assert (one, other) == (5, 1)
    assert 0 < distance < 0.08


def test_a_brighter_picture_is_a_copy_and_another_or_a_mirrored_one_is_none() -> None:
    first = np.stack([small(scene(seed)) for seed in range(8)])
    assert copies(first, first[3:4] + 20) == [(3, 0, pytest.approx(0, abs=1e-3))]
    mirrored = first.reshape(-1, SIDE, SIDE)[:, :, ::-1].reshape(8, -1)
    assert copies(first, mirrored) == []
    assert copies(first, np.stack([small(scene(seed)) for seed in range(8, 16)])) == []


def test_blank_and_missing_images_are_copies_of_nothing() -> None:
    blank = np.full((3, SIDE * SIDE), 7.0)
    missing = np.full((1, SIDE * SIDE), np.nan)
    assert copies(blank, blank) == []
    assert copies(np.concatenate([missing, blank]), missing) == []
    assert copies(np.zeros((0, SIDE * SIDE)), blank) == copies(blank, np.zeros((0, SIDE * SIDE))) == []
