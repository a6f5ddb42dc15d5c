"""The class head's score maps as pictures: one colour per score over the image, one panel per level."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from densedet.core.report.drawing import (
    INK,
    PAPER,
    captioned,
    draw_boxes,
    enlarge,
    fit_text,
    font,
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
"""The smallest maximum of an automatic scale: an untrained head's 0.01 everywhere is not to look like a
find."""


def colorize(values: np.ndarray) -> np.ndarray:
    """(h,w) in 0..1 -> uint8 (h,w,3); what lies outside is clamped, NaN is 0."""
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
    """A map of scores over the image, which is shown in grey; cells keep their edges.

    image: (ch,H,W) 0..255 or a picture. heatmap: (h,w), 0..``maximum``, which gets the brightest colour.
    alpha: 0 the image alone, 1 the map alone. stride: pixels of the image per cell; used where ceil(H/stride)
    x ceil(W/stride) is the map's size, otherwise the map is stretched over the image. scale: the picture's
    size over the image's. bar: a colour bar with its ends at the right.
    """
    picture = to_image(image)
    width, height = picture.size
    cells = heatmap.detach().float().cpu().numpy() / max(maximum, 1e-12)
    colors = Image.fromarray(colorize(cells))
    rows, columns = cells.shape
    if stride and (rows, columns) == (-(-height // stride), -(-width // stride)):
        colors = colors.resize((columns * stride, rows * stride), Image.Resampling.NEAREST).crop(
            (0, 0, width, height)
        )
    else:
        colors = colors.resize((width, height), Image.Resampling.NEAREST)
    mixed = Image.blend(picture.convert("L").convert("RGB"), colors, alpha)
    mixed = enlarge(mixed, scale)
    return grid([mixed, color_bar(mixed.height, maximum)], columns=2, gap=6) if bar else mixed


def color_bar(height: int, maximum: float, *, size: int = 12) -> Image.Image:
    """A vertical bar from 0 to ``maximum``, with both written beside it."""
    top = f"{maximum:.2g}"
    sheet = Image.new("RGB", (12 + 5 + text_size(top, size)[0] + 2, max(height, 2 * size)), PAPER)
    ramp = np.linspace(1, 0, sheet.height, dtype=np.float32)[:, None]
    sheet.paste(Image.fromarray(colorize(ramp)).resize((12, sheet.height)), (0, 0))
    pen = ImageDraw.Draw(sheet)
    pen.text((17, size // 2 + 1), top, fill=INK, font=font(size), anchor="lm")
    pen.text((17, sheet.height - size // 2 - 1), "0", fill=INK, font=font(size), anchor="lm")
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
) -> Image.Image:
    """One class's score map of every level over the image, in a row, on one colour scale.

    image: (ch,H,W), the tensor that the network saw. maps: per level (h,w), scores in 0..1. strides: per
    level, in pixels of the image.
    size: valid (height, width), the rest is cut off. boxes: (G,4) xyxy, that class's objects, drawn dashed in
    the colour of ``label``.
    maximum: score of the brightest colour, the highest of all maps (at least 0.05) by default. side: pixels
    of a panel's long side. Under each map stand its stride and its highest score, which counts valid pixels
    only where the map has a cell per stride.
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
    row = grid([*panels, bar], columns=len(panels) + 1, gap=6)
    return captioned(row, [fit_text(f"scores of “{class_name}”", row.width - 2, 14)])


def _panel_scale(width: int, height: int, side: int) -> float:
    factor = side / max(width, height, 1)
    return max(1, round(factor)) if factor > 0.75 else factor


def _peak(heatmap: Tensor, stride: int, canvas: tuple[int, int], valid: tuple[int, int]) -> float:
    """The highest score of the cells that begin inside the valid part; the whole map's where its cells are
    not `stride` wide."""
    rows, columns = heatmap.shape
    if (rows, columns) == (-(-canvas[1] // stride), -(-canvas[0] // stride)):
        heatmap = heatmap[: -(-valid[1] // stride), : -(-valid[0] // stride)]
    return float(heatmap.detach().float().nan_to_num().max()) if heatmap.numel() else 0.0
