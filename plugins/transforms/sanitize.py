"""torchvision's sanitising, with the ignore flags kept in step."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torchvision.transforms import v2

from densedet.core.arguments import NonNegativeFloat


class SanitizeBoundingBoxes(v2.SanitizeBoundingBoxes):
    """torchvision.transforms.v2.SanitizeBoundingBoxes: drops boxes with a side below min_size or an area
    below min_area, in pixels, and their labels and ignore flags. The dataset itself drops boxes without any
    area at the end."""

    def __init__(self, *, min_size: NonNegativeFloat = 1.0, min_area: NonNegativeFloat = 1.0) -> None:
        super().__init__(min_size, min_area, _rows)


def _rows(inputs: tuple[Any, dict[str, Any]]) -> tuple[Tensor, ...]:
    target = inputs[1]
    return target["labels"], target["ignore"]
