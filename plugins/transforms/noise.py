"""torchvision's noise with arguments that a recipe can write."""

from __future__ import annotations

from torchvision.transforms import v2

from densedet.core.arguments import NonNegativeFloat


class GaussianNoise(v2.GaussianNoise):
    """torchvision.transforms.v2.GaussianNoise.

    Args:
        mean: mean of the noise, for an image scaled to 0..1.
        sigma: standard deviation of the noise, for an image scaled to 0..1.
        clip: whether to clip the result to the range of pixels.
    """

    def __init__(self, *, mean: float = 0.0, sigma: NonNegativeFloat = 0.1, clip: bool = True) -> None:
        super().__init__(mean, sigma, clip)
