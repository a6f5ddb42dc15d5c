"""Keypoints on their way through torchvision's transforms."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional

from densedet.core.errors import PartError
from densedet.core.extras import mirrors, placed
from densedet.core.types import Extra

MARKS = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
"""Three points that go along: they tell whether the image was mirrored."""

if hasattr(tv_tensors, "KeyPoints"):

    class Points(tv_tensors.KeyPoints):
        """Points that torchvision moves as it moves boxes. Its own keypoints are mirrored as pixel indices
        (x becomes width - 1 - x), which is one pixel off for continuous coordinates."""

    def _mirrored(points: Any, axis: int) -> Any:
        flipped = points.as_subclass(Tensor).clone()
        flipped[..., axis] = points.canvas_size[1 - axis] - flipped[..., axis]
        return tv_tensors.wrap(flipped, like=points)

    functional.register_kernel(functional.horizontal_flip, Points)(lambda points: _mirrored(points, 0))
    functional.register_kernel(functional.vertical_flip, Points)(lambda points: _mirrored(points, 1))


def to_points(values: dict[str, Tensor], extras: dict[str, Extra], canvas_hw: tuple[int, int]) -> Any:
    """Return the places of all keypoints of an image, and `MARKS`, as one tensor that transforms move.

    Raises:
        PartError: this torchvision cannot move points.
    """
    if "Points" not in globals():
        raise PartError(
            "data.transforms move keypoints with torchvision 0.23 or later: update it, or use "
            "data.batch_transforms in their place"
        )
    listed = [values[n][..., :2].reshape(-1, 2) for n, extra in extras.items() if extra.kind == "keypoints"]
    return Points(torch.cat([*listed, MARKS]), canvas_size=canvas_hw)  # type: ignore[call-overload]


def from_points(
    points: Any, values: dict[str, Tensor], extras: dict[str, Extra], size_wh: Tensor
) -> dict[str, Tensor]:
    """Return ``values`` with their keypoints at the places that `to_points` gave and transforms moved.

    Args:
        points: the moved points.
        values: (G, *shape) per name, before the transforms.
        extras: declarations of the values.
        size_wh: (2,), of the image after the transforms.
    """
    xy = points.as_subclass(Tensor)
    mirrored = mirrors((xy[-2:] - xy[-3]).T)
    result, start = dict(values), 0
    for name, extra in extras.items():
        if extra.kind == "keypoints":
            shape = values[name].shape[:-1]
            places = xy[start : start + math.prod(shape)].reshape(*shape, 2)
            result[name] = placed(places, values[name][..., 2:], extra, mirrored, size_wh)
            start += math.prod(shape)
    return result
