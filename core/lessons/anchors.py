"""The lesson about anchors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from densedet.core.lessons.drawing import add_box, canvas, row_of_axes
from densedet.core.lessons.task import Case, Given, Lesson, Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def centers(wrong: frozenset[str], height: int, width: int, stride: int) -> Tensor:
    """Compute the middles of cells, (h*w,2), with the mistakes ``wrong``, names in `OF_CENTERS`."""
    if "sides" in wrong:
        height, width = width, height
    offset = (
        0.0 if wrong & {"corner", "half_pixel", "whole_pixels"} else 1.0 if "far_corner" in wrong else 0.5
    )
    step = 1 if "cells" in wrong else stride
    down, across = ((torch.arange(count) + offset) * step for count in (height, width))
    if "whole_pixels" in wrong:
        down, across = down + (stride - 1) / 2, across + (stride - 1) / 2
    if "half_pixel" in wrong:
        down, across = down + 0.5, across + 0.5
    y, x = torch.meshgrid(down, across, indexing="ij")
    if "columns" in wrong:
        y, x = y.t(), x.t()
    pair = (y, x) if "yx" in wrong else (x, y)
    return torch.stack(pair, dim=-1).reshape(-1, 2).float()


OF_CENTERS = {
    "corner": "its centres lie at the corner of the cell instead of its middle, off by half a stride: add "
    "0.5 to the index of row and column before multiplying by the stride",
    "half_pixel": "it adds 0.5 pixels instead of half a stride: add 0.5 before multiplying by the stride",
    "far_corner": "its centres lie at the far corner of the cell, off by half a stride: add 0.5, not 1, to "
    "the index",
    "whole_pixels": "it adds (stride - 1) / 2, as if pixels were counted: boxes are continuous, so that the "
    "middle of a cell is half a stride from its corner",
    "columns": "its order of the cells is column by column (column-major): it must be row by row, x running "
    "fastest",
    "yx": "it returns y, x instead of x, y",
    "sides": "it exchanges height and width of the map: there are `height` rows and `width` columns",
    "cells": "it counts in cells instead of pixels: multiply by the stride",
}


def sides(
    wrong: frozenset[str], stride: int, base_scale: float, octaves: int, ratios: tuple[float, ...]
) -> Tensor:
    """Compute width and height of a cell's anchors, (R*O,2), with the mistakes ``wrong``, names in
    `OF_SIDES`."""
    k = torch.arange(octaves)
    growth = {
        "linear": 1 + k / octaves,
        "whole": 2.0**k,
        "spread": 2 ** (k / max(1, octaves - 1)),
        "precedence": 2**k / octaves,
    }
    by = next((value for name, value in growth.items() if name in wrong), 2 ** (k / octaves))
    size = (
        base_scale * by * {"unscaled": 1, "twice": stride**2}.get(_first(wrong, "unscaled", "twice"), stride)
    )
    ratio = torch.tensor(ratios)[:, None]
    root = ratio if "no_root" in wrong else ratio.sqrt()
    width, height = size / root, size * root
    if "width_kept" in wrong:
        width, height = size.expand_as(width), size * ratio
    if "height_kept" in wrong:
        width, height = size / ratio, size.expand_as(height)
    if "wide" in wrong:
        width, height = size * ratio, size.expand_as(height)
    if "swapped" in wrong:
        width, height = height, width
    if "octaves_first" in wrong:
        width, height = width.t(), height.t()
    both = torch.stack([width, height], dim=-1).reshape(-1, 2)
    return both / 2 if "half" in wrong else both


def _first(wrong: frozenset[str], *names: str) -> str:
    return next((name for name in names if name in wrong), "")


OF_SIDES = {
    "swapped": "width and height are swapped: a ratio is height / width, so that a ratio of 2 is twice as "
    "high as wide",
    "no_root": "the area is not kept across ratios: it divides and multiplies by the ratio where it must be "
    "by the ratio's square root",
    "width_kept": "the area is not kept across ratios: the width stays the size while the height grows by "
    "the ratio; width is size / sqrt(ratio), height is size * sqrt(ratio)",
    "height_kept": "the area is not kept across ratios: the height stays the size while the width shrinks by "
    "the ratio; width is size / sqrt(ratio), height is size * sqrt(ratio)",
    "wide": "the area is not kept across ratios, and they are taken for width / height: width is size / "
    "sqrt(ratio), height is size * sqrt(ratio)",
    "twice": "the scale multiplies the stride twice: a size is base_scale * stride * 2^(k / octaves)",
    "unscaled": "the stride is missing in the sizes: base_scale counts in strides, so multiply by the stride",
    "linear": "the sizes grow by equal steps instead of equal factors: multiply by 2^(k / octaves)",
    "whole": "the sizes grow by a whole octave each, 2^k: divide k by the number of octaves first",
    "spread": "the sizes are spread over the octave with its end, 2^(k / (octaves - 1)): the end is the "
    "smallest size of the next level, so it is 2^(k / octaves)",
    "precedence": "it computes (2^k) / octaves: write 2 ** (k / octaves), with brackets",
    "octaves_first": "the order within a cell is wrong: first all sizes of the first ratio, then all of the "
    "second; yours has all ratios of the first size first",
    "half": "it returns half of width and height: the class halves them",
}

CENTERS_BY_HAND = (
    Case((1, 1, 8), torch.tensor([[4.0, 4.0]]), "one cell: its middle, half a stride from the corner"),
    Case(
        (2, 3, 8),
        torch.tensor([[4.0, 4], [12, 4], [20, 4], [4, 12], [12, 12], [20, 12]]),
        "2 rows of 3 columns: (0 + 0.5) * 8 = 4, 1.5 * 8 = 12, 2.5 * 8 = 20, row by row",
    ),
)
SIDES_BY_HAND = (
    Case((8, 2.0, 1, (1.0,)), torch.tensor([[16.0, 16.0]]), "a square of 2 strides: 2 * 8 = 16"),
    Case((8, 2.0, 1, (4.0,)), torch.tensor([[8.0, 32.0]]), "16 / sqrt(4) = 8 wide, 16 * sqrt(4) = 32 high"),
    Case(
        (4, 3.0, 2, (1.0, 0.25)),
        torch.tensor([[12.0, 12.0], [16.9706, 16.9706], [24.0, 6.0], [33.9411, 8.4853]]),
        "sizes 12 and 12 * 2^0.5 = 16.97, first as squares, then 1 / sqrt(0.25) = 2 times as wide",
    ),
)


def draw_map(generator: torch.Generator) -> Given:
    """Draw the size and stride of a map."""
    height, width, stride = (int(torch.randint(2, 7, (), generator=generator)) for _ in range(3))
    return height, width + height, 4 * stride


def draw_shapes(generator: torch.Generator) -> Given:
    """Draw what the anchors of a cell depend on."""
    numbers = torch.rand(3, generator=generator)
    stride, octaves = int(4 + 28 * numbers[0]), int(torch.randint(2, 5, (), generator=generator))
    return stride, 1 + 3 * float(numbers[1]), octaves, (0.5, 1.0, 2.0 + float(numbers[2]))


def picture(functions: Mapping[str, Callable[..., Any]]) -> Figure:
    """Draw the centres of a level on an image of 48 x 32 pixels, and the anchors of one cell."""
    figure, (left, right) = row_of_axes(2, columns=2, width=4.6)
    middles = functions["cell_centers"](4, 6, 8)
    canvas(left, (-12, 60), (-12, 44), "centres of 4 x 6 cells at stride 8, and their order")
    canvas(right, (-12, 60), (-12, 44), "anchors of the cell in row 1, column 3: 2 octaves, 3 ratios")
    for axis in (left, right):
        add_box(axis, (0, 0, 48, 32), 6, filled=True)
        for row in range(4):
            for column in range(6):
                add_box(axis, (8 * column, 8 * row, 8 * column + 8, 8 * row + 8), 6, width=0.5)
    left.plot(*middles.t().tolist(), ".-", linewidth=0.6, markersize=5)
    shapes = functions["anchor_sides"](8, 1.5, 2, (0.5, 1.0, 2.0))
    middle = middles[9]
    for place, side in enumerate(shapes):
        add_box(right, torch.cat([middle - side / 2, middle + side / 2]).tolist(), place // 2, width=1.4)
    right.plot(*middle.tolist(), "k.")
    return figure


LESSON = Lesson(
    name="anchors",
    kind="anchors",
    tasks=(
        Task(
            "cell_centers", ("height", "width", "stride"), centers, CENTERS_BY_HAND, (), draw_map, OF_CENTERS
        ),
        Task(
            "anchor_sides",
            ("stride", "base_scale", "octaves", "ratios"),
            sides,
            SIDES_BY_HAND,
            (),
            draw_shapes,
            OF_SIDES,
        ),
    ),
    picture=picture,
)
