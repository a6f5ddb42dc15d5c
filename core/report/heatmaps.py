"""The class head's score maps as pictures: one colour per score over the image, one panel per level."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from densedet.core.report.drawing import (
    PAPER,
    captioned,
    draw_boxes,
    draw_text,
    enlarge,
    fit_text,
    grid,
    text_size,
    to_image,
)

# Ten equidistant colours of matplotlib's "magma" (Smith & van der Walt, CC0): even steps of score are even
# steps to the eye, in grey print too, and 0 is black, so that the image dims where nothing is found.
MAGMA = np.array(
    [
        (0, 0, 4),
        (24, 15, 61),
        (68, 15, 118),
        (114, 31, 129),
        (158, 47, 127),
        (205, 64, 113),
        (241, 96, 93),
        (253, 150, 104),
        (254, 202, 141),
        (252, 253, 191),
    ],
    dtype=np.float32,
)
FLOOR = 0.05
"""Smallest maximum of an automatic scale, so that an untrained head's 0.01 everywhere does not look like a
find."""


def colorize(values: np.ndarray) -> np.ndarray:
    """Turn (h,w) in 0..1 into colours, uint8 (h,w,3). Values outside are clamped; NaN counts as 0."""
    place = np.nan_to_num(np.asarray(values, dtype=np.float32), nan=0.0, posinf=1.0, neginf=0.0).clip(
        0, 1
    ) * (len(MAGMA) - 1)
    low = np.minimum(place.astype(np.int64), len(MAGMA) - 2)
    share = (place - low)[..., None]
    return (MAGMA[low] * (1 - share) + MAGMA[low + 1] * share).round().astype(np.uint8)


def overlay_heatmap(
    image: Tensor | Image.Image,
    heatmap: Tensor,
    alpha: float = 0.65,
    *,
    maximum: float = 1.0,
    stride: int | None = None,
    scale: float = 1.0,
    bar: bool = True,
) -> Image.Image:
    """Lay a map of scores over the image, which is shown in grey; cells keep their edges.

    Args:
        image: (ch,H,W) 0..255, or a picture.
        heatmap: (h,w) in 0..``maximum``.
        alpha: 0 shows the image alone, 1 the map alone.
        maximum: score of the brightest colour.
        stride: pixels of the image per cell. It is used where the map has ceil(H/stride) x ceil(W/stride)
            cells; any other map is stretched over the image.
        scale: factor on the image's size.
        bar: whether a colour bar stands at the right.
    """
    picture = to_image(image)
    width, height = picture.size
    shown = enlarge(picture.convert("L"), scale).convert("RGB")
    cells = heatmap.detach().float().cpu().numpy() / max(maximum, 1e-12)
    colors = Image.fromarray(colorize(cells))
    rows, columns = cells.shape
    size = shown.size
    if stride and (rows, columns) == (-(-height // stride), -(-width // stride)):
        size = round(columns * stride * scale), round(rows * stride * scale)
    colors = colors.resize(size, Image.Resampling.NEAREST).crop((0, 0, *shown.size))
    mixed = Image.blend(shown, colors, alpha)
    return grid([mixed, color_bar(mixed.height, maximum)], columns=2, gap=6) if bar else mixed


def color_bar(height: int, maximum: float, *, size: int = 12) -> Image.Image:
    """Draw a vertical bar from 0 to ``maximum``, with both written beside it."""
    top = f"{maximum:.2g}"
    sheet = Image.new("RGB", (12 + 5 + text_size(top, size)[0] + 2, max(height, 2 * size)), PAPER)
    ramp = np.linspace(1, 0, sheet.height, dtype=np.float32)[:, None]
    sheet.paste(Image.fromarray(colorize(ramp)).resize((12, sheet.height)), (0, 0))
    pen = ImageDraw.Draw(sheet)
    draw_text(pen, (17, size // 2 + 1), top, size)
    draw_text(pen, (17, sheet.height - size // 2 - 1), "0", size)
    return sheet


def score_map_panel(
    image: Tensor | Image.Image,
    maps: Sequence[Tensor],
    class_name: str,
    *,
    strides: Sequence[int],
    size: tuple[int, int] | None = None,
    boxes: Tensor | None = None,
    label: int = 0,
    maximum: float | None = None,
    alpha: float = 0.65,
    side: int = 256,
    columns: int | None = None,
) -> Image.Image:
    """Draw one class's score map of every level over the image, in a row, on one colour scale.

    Under each map stand its stride and its highest score, in which padding does not count where the map has a
    cell per stride.

    Args:
        image: (ch,H,W) 0..255, the input of the network.
        maps: (h,w) per level, scores in 0..1.
        class_name: name of the class, for the caption.
        strides: pixels of the image per cell, one per level.
        size: valid (height, width); padding outside is cut off. None: all is valid.
        boxes: (G,4) xyxy of that class's objects, which are drawn dashed; None draws none.
        label: number of the class, 0..C-1, for the colour of the boxes.
        maximum: score of the brightest colour; None takes the highest of all maps, at least `FLOOR`.
        alpha: see `overlay_heatmap`.
        side: pixels of a panel's long side.
        columns: panels in a row; None: all of them.
    """
    picture = to_image(image)
    height, width = (int(size[0]), int(size[1])) if size is not None else (picture.height, picture.width)
    scale = _panel_scale(width, height, side)
    peaks = [_peak(m, stride, picture.size, (width, height)) for m, stride in zip(maps, strides)]
    top = max([FLOOR, *peaks]) if maximum is None else maximum
    panels = []
    for heatmap, stride, peak in zip(maps, strides, peaks):
        panel = overlay_heatmap(picture, heatmap, alpha, maximum=top, stride=stride, bar=False).crop(
            (0, 0, width, height)
        )
        panel = enlarge(panel, scale)
        if boxes is not None and len(boxes):
            labels = torch.full((len(boxes),), label, dtype=torch.int64)
            panel = draw_boxes(
                panel,
                boxes.detach().cpu() * scale,
                labels,
                None,
                [class_name],
                scale=1,
                style="dashed",
                names=False,
            )
        panels.append(captioned(panel, [f"stride {stride}", f"max {peak:.2f}"], size=13, above=False))
    bar = color_bar(max(24, round(height * scale)), top)
    row = grid([grid(panels, columns=columns or len(panels), gap=6), bar], columns=2, gap=6)
    return captioned(row, [fit_text(f"scores of “{class_name}”", row.width - 2, 14)])


def _panel_scale(width: int, height: int, side: int) -> float:
    factor = side / max(width, height, 1)
    return max(1, round(factor)) if factor > 0.75 else factor


def _peak(heatmap: Tensor, stride: int, canvas: tuple[int, int], valid: tuple[int, int]) -> float:
    """Return the highest score of the cells that begin inside the valid part, or of the whole map where its
    cells are not ``stride`` wide."""
    rows, columns = heatmap.shape
    if (rows, columns) == (-(-canvas[1] // stride), -(-canvas[0] // stride)):
        heatmap = heatmap[: -(-valid[1] // stride), : -(-valid[0] // stride)]
    return float(heatmap.detach().float().nan_to_num().max()) if heatmap.numel() else 0.0
