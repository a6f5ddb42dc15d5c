"""torchvision's turning transforms with arguments that a recipe can write."""

from __future__ import annotations

from typing import Literal

from torchvision.transforms import InterpolationMode, v2

Interpolation = Literal["nearest", "bilinear"]


class RandomAffine(v2.RandomAffine):
    """torchvision.transforms.v2.RandomAffine; a turned box becomes the upright box around it.

    Args:
        degrees: d turns by -d..d degrees, or [from, to].
        translate: largest shift along [width, height] as a share of each; null: none.
        scale: [from, to], the factor by which objects grow; null: 1.
        shear: s shears along x by -s..s degrees, or [from, to], or [x from, x to, y from, y to]; null: none.
        interpolation: how pixels are resampled.
        fill: value of pixels from outside the image, 0..255.
    """

    def __init__(
        self,
        *,
        degrees: float | tuple[float, float] = 0.0,
        translate: tuple[float, float] | None = None,
        scale: tuple[float, float] | None = None,
        shear: float | tuple[float, float] | tuple[float, float, float, float] | None = None,
        interpolation: Interpolation = "bilinear",
        fill: float = 0,
    ) -> None:
        super().__init__(degrees, translate, scale, shear, InterpolationMode(interpolation), fill)


class RandomRotation(v2.RandomRotation):
    """torchvision.transforms.v2.RandomRotation; a turned box becomes the upright box around it.

    Args:
        degrees: d turns by -d..d degrees, or [from, to].
        interpolation: how pixels are resampled.
        expand: whether to enlarge the image so that nothing is cut.
        fill: value of pixels from outside the image, 0..255.
    """

    def __init__(
        self,
        *,
        degrees: float | tuple[float, float],
        interpolation: Interpolation = "bilinear",
        expand: bool = False,
        fill: float = 0,
    ) -> None:
        super().__init__(degrees, InterpolationMode(interpolation), expand, None, fill)
