"""The anchors of a detector on images: their sizes on each level, beside those of the objects."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from densedet.core.boxes import pairwise_iou
from densedet.core.report.drawing import (
    LARGE,
    auto_scale,
    class_color,
    draw_boxes,
    drawn_name,
    enlarge,
    to_image,
)
from densedet.core.showing.page import SIDE, Block, Figure, Page, table
from densedet.core.showing.subject import Subject, View
from densedet.core.types import Level, Targets

AROUND = (190, 190, 190)
"""Grey of what lies around an image."""
MARGIN = 0.6
"""Most of the image's long side that is shown around it."""
DOTS = 7
"""Pixels between cells from which on their middles are drawn."""


def level_slices(levels: Sequence[Level]) -> list[slice]:
    """Return the place of each level's anchors among all N."""
    ends = torch.tensor([level.count for level in levels]).cumsum(0).tolist()
    return [slice(end - level.count, end) for end, level in zip(ends, levels)]


def level_name(number: int, level: Level) -> str:
    """Return a level in words: "level 0, stride 8"."""
    return f"level {number}, stride {level.stride}"


def middle_cell(level: Level, valid_hw: Sequence[int]) -> int:
    """Return the cell, y * width + x, at the middle of an image of (height, width)."""
    row, column = (min(int(side / 2 / level.stride), n - 1) for side, n in zip(valid_hw, level[:2]))
    return row * level.width + column


def cell_anchors(inside: Targets, number: int, cell: int) -> Tensor:
    """Return the anchors (A,4) of a cell, y * width + x, of level ``number``."""
    start = level_slices(inside.levels)[number].start + cell * inside.levels[number].anchors
    return inside.anchors[start : start + inside.levels[number].anchors]


def sides(boxes: Tensor) -> Tensor:
    """Return the root of the area of boxes (M,4): (M,)."""
    return (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(dim=1).sqrt()


def size_text(box: Tensor) -> str:
    """Return "24x31", the width and height of a box (4,)."""
    return f"{float(box[2] - box[0]):.0f}x{float(box[3] - box[1]):.0f}"


def anchors_page(subject: Subject, views: Sequence[View]) -> Page:
    """Show on each image the anchors of the cell at its middle, level by level, and the anchor that fits each
    object best."""
    inside = [subject.targets(view.batch, "anchors") for view in views]
    blocks = [_levels_block(views[0], inside[0])]
    values: dict[str, object] = {"levels": blocks[0].tables[0].plain(), "images": []}
    for view, one in zip(views, inside):
        block, rows = _image_block(view, one, subject.classes)
        blocks.append(block)
        values["images"].append({"image": view.title, "objects": rows})  # type: ignore[attr-defined]
    height, width = views[0].batch.images.shape[-2:]
    lead = [
        subject.state,
        f"The network gets images of {width}x{height} pixels; all sizes are in these pixels. It has "
        f"{len(inside[0].anchors):,} anchors on {len(inside[0].levels)} levels.",
        *subject.notes,
    ]
    return Page(f"Anchors of {subject.recipe.name}", lead, blocks, values)


def _levels_block(view: View, inside: Targets) -> Block:
    """Table the levels, with the objects' sizes beside the anchors'."""
    best = _best_anchors(view, inside)
    rows = []
    for number, (level, place) in enumerate(zip(inside.levels, level_slices(inside.levels))):
        own = cell_anchors(inside, number, middle_cell(level, view.batch.valid_hw[0].tolist()))
        roots = sides(own)
        ratios = ((own[:, 3] - own[:, 1]) / (own[:, 2] - own[:, 0])).tolist()
        here = sum(place.start <= index < place.stop for index, _ in best)
        rows.append(
            (
                f"{number}",
                level.stride,
                f"{level.width}x{level.height}",
                level.anchors,
                f"{level.count:,}",
                span(roots.min(), roots.max()),
                ", ".join(dict.fromkeys(f"{ratio:.2g}" for ratio in sorted(ratios))),
                here,
            )
        )
    head = ("level", "stride", "cells", "anchors a cell", "anchors", "side in pixels", "height / width")
    notes = [
        f"The side of a box is the root of its area. The last column counts the objects of {view.title} that "
        f"overlap an anchor of this level most."
    ]
    return Block("Levels", notes, [table((*head, "objects"), rows)])


def span(low: Tensor, high: Tensor) -> str:
    """Return "12 to 19", or one number where both are the same."""
    first, last = f"{float(low):.0f}", f"{float(high):.0f}"
    return first if first == last else f"{first} to {last}"


def _best_anchors(view: View, inside: Targets) -> list[tuple[int, float]]:
    """Return the anchor that overlaps each object most, and their IoU."""
    if not len(view.boxes):
        return []
    overlap, index = pairwise_iou(view.boxes, inside.anchors).max(dim=1)
    return list(zip(index.tolist(), overlap.tolist()))


def _image_block(
    view: View, inside: Targets, classes: Sequence[str]
) -> tuple[Block, list[dict[str, object]]]:
    best, places = _best_anchors(view, inside), level_slices(inside.levels)
    level_of = [next(n for n, p in enumerate(places) if p.start <= index < p.stop) for index, _ in best]
    rows = [
        {
            "class": drawn_name(label, classes),
            "size": size_text(box),
            "side": round(float(side), 1),
            "best anchor": size_text(inside.anchors[index]),
            "level": level,
            "IoU": round(overlap, 2),
        }
        for box, label, side, (index, overlap), level in zip(
            view.boxes, view.labels.tolist(), sides(view.boxes), best, level_of
        )
    ]
    block = Block(view.title)
    if rows:
        block.tables.append(table(tuple(rows[0]), [tuple(row.values()) for row in rows]))
    elif view.known:
        block.notes.append("No object is in this image.")
    block.notes.append(
        "The first picture shows the anchors at the image's middle, those of all levels; each of the others "
        "one level, with dots at the middles of its cells, and the objects dashed."
    )
    block.keys = [(level_name(n, level), class_color(n)) for n, level in enumerate(inside.levels)]
    picture = levels_picture(view, inside)
    block.figures.append(Figure(f"{view.name}_levels", picture, "the anchors at the middle, of all levels"))
    for number, level in enumerate(inside.levels):
        fitting = [overlap for (_, overlap), own in zip(best, level_of) if own == number]
        fits = f"; {len(fitting)} of the objects fit best here" if fitting else ""
        caption = f"{level_name(number, level)}: {level.anchors} anchors a cell{fits}"
        name = f"{view.name}_level_{number}"
        block.figures.append(Figure(name, anchors_picture(view, inside, number, classes), caption))
    return block, rows


def anchors_picture(view: View, inside: Targets, number: int, classes: Sequence[str]) -> Image.Image:
    """Draw the anchors of level ``number`` at the middle of an image, the middles of its cells, and the
    objects dashed."""
    level = inside.levels[number]
    boxes = cell_anchors(inside, number, middle_cell(level, view.image.shape[1:]))
    canvas, shift, scale = around(view.image, boxes)
    # Objects first, so that the anchors lie on top of them.
    objects = (view.boxes + shift) * scale
    picture = draw_boxes(canvas, objects, view.labels, None, classes, scale=1, style="dashed")
    pen = ImageDraw.Draw(picture)
    if level.stride * scale >= DOTS:
        middles = inside.anchors[level_slices(inside.levels)[number]][:: level.anchors]
        for x, y in (((middles[:, :2] + middles[:, 2:]) / 2 + shift[:2]) * scale).tolist():
            pen.ellipse((x - 1.5, y - 1.5, x + 1.5, y + 1.5), fill=class_color(number), outline=(0, 0, 0))
    labels = torch.full((len(boxes),), number)
    return draw_boxes(picture, (boxes + shift) * scale, labels, None, (), scale=1, names=False)


def levels_picture(view: View, inside: Targets, *, margin: int | None = None) -> Image.Image:
    """Draw the anchors at the middle of an image, those of all levels, each level in its colour; ``margin``
    as for `around`."""
    sizes = view.image.shape[1:]
    boxes = [cell_anchors(inside, n, middle_cell(one, sizes)) for n, one in enumerate(inside.levels)]
    labels = torch.cat([torch.full((len(of_level),), n) for n, of_level in enumerate(boxes)])
    canvas, shift, scale = around(view.image, torch.cat(boxes), margin=margin)
    return draw_boxes(canvas, (torch.cat(boxes) + shift) * scale, labels, None, (), scale=1, names=False)


def around(image: Tensor, boxes: Tensor, *, margin: int | None = None) -> tuple[Image.Image, Tensor, float]:
    """Enlarge an image, with so much grey around it that boxes beyond its edges are seen; where both together
    are large, they are shrunk.

    Args:
        image: (ch,h,w).
        boxes: (M,4) xyxy in its pixels.
        margin: pixels of grey on each side; None: as many as the boxes need, up to `MARGIN`.

    Returns:
        The picture; and what brings boxes onto it: (box + shift) * scale, the shift (4,).
    """
    picture = to_image(image)
    most = MARGIN * max(picture.size)
    low, high = boxes[:, :2].amin(0), boxes[:, 2:].amax(0) - torch.tensor(picture.size)
    beyond = [int(side) for side in torch.cat([-low, high]).clamp(0, most).ceil().tolist()]
    x1, y1, x2, y2 = beyond if margin is None else [margin] * 4
    wide, tall = picture.width + x1 + x2, picture.height + y1 + y2
    scale = auto_scale(*picture.size, large=SIDE)
    if max(wide, tall) > LARGE:
        scale = min(scale, LARGE / max(wide, tall))
    canvas = Image.new("RGB", (round(wide * scale), round(tall * scale)), AROUND)
    canvas.paste(enlarge(picture, scale), (round(x1 * scale), round(y1 * scale)))
    return canvas, torch.tensor([x1, y1, x1, y1]), scale
