"""torchvision's sanitising, with the ignore flags kept in step."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torchvision.transforms import v2

from densedet.core.arguments import NonNegativeFloat


class SanitizeBoundingBoxes(v2.SanitizeBoundingBoxes):
    """torchvision.transforms.v2.SanitizeBoundingBoxes: drop small boxes, their labels and ignore flags.

    The dataset itself drops boxes without any area after the last transform.

    Args:
        min_size: a box with a shorter side is dropped, in pixels.
        min_area: a box with a smaller area is dropped, in square pixels.
    """

    def __init__(self, *, min_size: NonNegativeFloat = 1.0, min_area: NonNegativeFloat = 1.0) -> None:
        super().__init__(min_size, min_area, _rows)


def _rows(inputs: tuple[Any, dict[str, Any]]) -> tuple[Tensor, ...]:
    target = inputs[1]
    return tuple(target[name] for name in ("labels", "ignore", "rows") if name in target)
