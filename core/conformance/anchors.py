"""Anchors."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from densedet.core import boxes as box_ops
from densedet.core.conformance.networks import strides_for
from densedet.core.conformance.requirements import (
    Factory,
    accepted,
    check,
    check_device,
    finite,
    require,
    steady,
    wire,
)
from densedet.core.examples import level_sizes
from densedet.core.text import counted

LEVELS = (3, 1, 2, 4, 5, 6, 7)


@check("anchors")
def check_anchors(factory: Factory, **arguments: Any) -> None:
    """Check pixels, the order y, x, anchor, centres on the cells, sizes, device; on one to seven levels, two
    image sizes, wider and higher than each other. Anchors may refuse some numbers of levels.

    Args:
        factory: the class or function.
        **arguments: its arguments in a recipe.

    Raises:
        ConformanceError: with a sentence that says what was expected.
    """
    built = accepted(lambda n: wire(factory, arguments, strides=strides_for(n)), LEVELS)
    for count, part in built[:3]:
        strides = strides_for(count)
        side = 2 * max(strides)
        sizes = {(side, side * 2), (side * 2, side), (side * 4, side * 2)}
        for image_hw in sorted(sizes):
            _check_levels(part, strides, image_hw)
        shape = level_sizes(strides, (side, side * 2)), (side, side * 2)
        check_device("anchors", partial(part, *shape, torch.device("meta")))


def _check_levels(part: Any, strides: tuple[int, ...], image_hw: tuple[int, int]) -> None:
    counts: Any = getattr(part, "num_anchors", None)
    require(
        isinstance(counts, tuple) and all(isinstance(n, int) and n > 0 for n in counts),
        f"anchors have a tuple `num_anchors` of whole numbers, not {counts!r}",
    )
    require(
        len(counts) == len(strides),
        f"num_anchors={counts} should have one entry for each of {counted(len(strides), 'level')}",
    )
    sizes = level_sizes(strides, image_hw)
    levels = steady("the anchors", part, sizes, image_hw, torch.device("cpu"))
    require(
        isinstance(levels, (list, tuple)) and len(levels) == len(sizes),
        f"anchors give a list of one tensor per level, not {type(levels).__name__} of {len(levels)}",
    )
    for level, ((height, width), count, boxes) in enumerate(zip(sizes, counts, levels)):
        require(
            boxes.shape == (height * width * count, 4),
            f"{height}x{width} cells with {count} anchors need {(height * width * count, 4)}, got "
            f"{tuple(boxes.shape)}",
        )
        require(boxes.dtype == torch.float32, f"anchors are float32, not {boxes.dtype}")
        require(finite(boxes), "an anchor holds NaN or infinity")
        require(not boxes.requires_grad, "anchors need no gradient")
        require(bool((boxes[:, 2:] > boxes[:, :2]).all()), "an anchor has no area (x2 <= x1 or y2 <= y1)")
        _check_grid(boxes.view(height, width, count, 4), strides[level], image_hw, f"level {level}")
    areas = [float(box_ops.area(boxes).median()) for boxes in levels]
    require(
        areas[-1] >= 0.99 * areas[0],
        f"the median anchor of the coarsest level ({areas[-1] ** 0.5:.1f} px) is smaller than that of the "
        f"finest ({areas[0] ** 0.5:.1f} px): sizes grow with the stride",
    )


def _check_grid(grid: Tensor, stride: int, image_hw: tuple[int, int], where: str) -> None:
    """One level's anchors (h,w,A,4): centres a stride apart in the order y, x, anchor, over the image."""
    limit = torch.tensor([image_hw[1], image_hw[0]])
    # Anchors that are cut to the image have their centres moved at its border.
    cut = bool((grid[..., :2] >= 0).all() and (grid[..., 2:] <= limit).all())
    inner = ((grid[..., :2] > 0) & (grid[..., 2:] < limit)).all(-1) if cut else grid[..., 0] > -torch.inf
    centers = box_ops.centers(grid)
    for axis, name in ((1, "x"), (0, "y")):
        count = grid.shape[axis]
        step = centers.diff(dim=axis)[..., 1 - axis]
        across = centers.diff(dim=axis)[..., axis]
        both = inner.narrow(axis, 1, count - 1) & inner.narrow(axis, 0, count - 1)
        step, across = step[both], across[both]
        if len(step) == 0:
            continue
        line = "along a row" if axis == 1 else "from row to row"
        require(bool((step > 0).all()), f"{where}: anchors are ordered y, x, anchor: {name} must grow {line}")
        require(
            0.6 * stride <= float(step.median()) <= 1.6 * stride and float(step.max() - step.min()) < stride,
            f"{where}: anchors move by {float(step.median()):g} from cell to cell {line}, the stride is "
            f"{stride} pixels: boxes are in pixels of the image, not in cells or shares",
        )
        require(
            float(across.abs().median()) <= 0.75 * stride,
            f"{where}: anchors move sideways {line}: they are ordered y, x, anchor",
        )
    middle = centers[inner].view(-1, 2).mean(0) if bool(inner.any()) else limit / 2
    require(
        bool(((middle - limit / 2).abs() <= 0.8 * stride).all()),
        f"{where}: the middle of all anchors is x {float(middle[0]):.1f}, y {float(middle[1]):.1f} in an "
        f"image of (height, width) {image_hw}: each lies on its cell, offsets are shares of one cell",
    )
    sides = box_ops.area(grid).sqrt()
    require(
        float(sides.max()) >= 0.3 * stride and float(sides.min()) <= 64 * stride,
        f"{where}: anchors are {float(sides.min()):g} to {float(sides.max()):g} wide and high at stride "
        f"{stride}: boxes are in pixels of the image, not in cells or shares",
    )
    sides = (grid[..., 2:] - grid[..., :2]).clamp(min=1e-3)
    both = inner[:, 1:] & inner[:, :-1]
    # From row to row all anchors may grow alike, as objects do that come nearer.
    shares = (sides / sides[:, :, :1]).log()
    rows = inner[1:].all(-1) & inner[:-1].all(-1)
    require(
        not bool((sides.diff(dim=1).abs().amax(-1)[both] > 0.5 * stride + 1).any())
        and not bool((shares.diff(dim=0).abs().amax((-1, -2))[rows] > 0.3).any()),
        f"{where}: an anchor's shape jumps from a cell to the next: every cell has the same anchors in the "
        f"same order",
    )
