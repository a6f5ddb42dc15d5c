"""torchvision's light and colour for SSD, with its arguments described."""

from __future__ import annotations

from torchvision.transforms import v2

from densedet.core.arguments import Probability

Range = tuple[float, float]


class RandomPhotometricDistort(v2.RandomPhotometricDistort):
    """torchvision.transforms.v2.RandomPhotometricDistort (Liu et al. 2016, SSD, section 2.2).

    Args:
        brightness: [from, to], factor on the brightness, at least 0.
        contrast: [from, to], factor on the contrast, at least 0.
        saturation: [from, to], factor on the saturation, at least 0.
        hue: [from, to], shift of the hue within -0.5..0.5, where 1 is once around the colour circle.
        p: probability of each operation.
    """

    def __init__(
        self,
        *,
        brightness: Range = (0.875, 1.125),
        contrast: Range = (0.5, 1.5),
        saturation: Range = (0.5, 1.5),
        hue: Range = (-0.05, 0.05),
        p: Probability = 0.5,
    ) -> None:
        super().__init__(brightness, contrast, saturation, hue, p)
