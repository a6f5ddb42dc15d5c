"""torchvision's turning transforms with arguments that a recipe can write."""

from __future__ import annotations

from typing import Literal

from torchvision.transforms import InterpolationMode, v2

Interpolation = Literal["nearest", "bilinear"]


class RandomAffine(v2.RandomAffine):
    """torchvision.transforms.v2.RandomAffine; a turned box becomes the upright box around it.

    degrees: d turns by -d..d, or [from, to]. translate: largest shift as a share of width and height. scale:
    [from, to].
    shear: degrees, or [from, to], or [x from, x to, y from, y to]. fill: the value outside, 0..255.
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

    degrees: d turns by -d..d, or [from, to]. expand: enlarge the image so that nothing is cut. fill: the
    value outside, 0..255.
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
