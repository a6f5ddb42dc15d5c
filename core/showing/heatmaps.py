"""The class head's scores over images, level by level and class by class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from densedet.core.errors import UsageError
from densedet.core.report.drawing import auto_scale, draw_boxes, drawn_name
from densedet.core.report.heatmaps import FLOOR, MAGMA, overlay_heatmap
from densedet.core.showing.anchors import level_name
from densedet.core.showing.page import SIDE, Block, Figure, Page, table
from densedet.core.showing.subject import Subject, View
from densedet.core.types import Explanation, Level
from densedet.registry import suggest

CLASSES = 3
"""Most classes of an image that are shown where none is named."""


def heatmaps_page(subject: Subject, views: Sequence[View], *, named: Sequence[str] = ()) -> Page:
    """Show the scores of some classes over images.

    Args:
        subject: the detector.
        views: the images.
        named: the classes; none: for each image those of its objects, else those of the best scores.

    Raises:
        UsageError: there is no such class.
    """
    for name in named:
        if name not in subject.classes:
            raise UsageError(
                f"--class {name}: the detector has no such class.{suggest(name, list(subject.classes))} "
                f"Classes: {', '.join(filter(None, subject.classes))}"
            )
    wanted = [subject.classes.index(name) for name in named]
    lead = [
        subject.state,
        "Each picture lies over the image in grey: black is a score of 0, and the brightest colour is the "
        "best score of the class in this image, on any level. A cell has the best score of its anchors. "
        "Objects of the class are dashed.",
        *subject.notes,
    ]
    if not subject.trained:
        lead.append("With drawn weights the maps show no more than the bias with which training starts.")
    blocks, values = [], []
    for view in views:
        inside = subject.explain(view.batch, "heatmaps")
        maps = [level[0] for level in inside.score_maps()]  # (C,h,w) each
        labels = wanted or shown_labels(view, maps)
        for label in labels:
            block, row = _block(view, inside, maps, label, subject.classes)
            blocks.append(block)
            values.append(row)
    return Page(f"Score maps of {subject.recipe.name}", lead, blocks, {"maps": values})


def shown_labels(view: View, maps: Sequence[Tensor]) -> list[int]:
    """Return the classes of an image's objects, the most frequent first, filled up by those of the best
    scores where there is none."""
    present = [label for label in view.labels.tolist() if label >= 0]
    if present:
        return sorted(set(present), key=lambda label: (-present.count(label), label))[:CLASSES]
    best = torch.stack([level.flatten(1).amax(1) for level in maps]).amax(0)
    return best.topk(min(CLASSES, len(best))).indices.tolist()


def _block(
    view: View, inside: Explanation, maps: Sequence[Tensor], label: int, classes: Sequence[str]
) -> tuple[Block, dict[str, Any]]:
    """Return the part of the page about a class in an image, and its numbers."""
    name = drawn_name(label, classes)
    peaks = [_peak(level[label], one, view) for level, one in zip(maps, inside.levels)]
    top = max(FLOOR, *(score for score, _ in peaks))
    rows = [
        (level_name(number, level), f"{score:.3f}", f"{x:.0f}, {y:.0f}")
        for number, (level, (score, (x, y))) in enumerate(zip(inside.levels, peaks))
    ]
    block = Block(f"{view.title}: scores of “{name}”", [], [table(("level", "best score", "at x, y"), rows)])
    block.least = 16
    block.keys = [
        (f"{top * place / (len(MAGMA) - 1):.2f}", _color(MAGMA[place])) for place in range(0, len(MAGMA), 3)
    ]
    for number, (level, one) in enumerate(zip(inside.levels, maps)):
        caption = f"{level_name(number, level)}: best score {peaks[number][0]:.2f}"
        picture = heatmap_picture(view, one[label], level, label, top)
        block.figures.append(Figure(f"{view.name}_{name}_level_{number}", picture, caption))
    values = {
        "image": view.title,
        "class": name,
        "levels": [
            {"level": number, "stride": level.stride, "best_score": round(score, 5), "x": x, "y": y}
            for number, (level, (score, (x, y))) in enumerate(zip(inside.levels, peaks))
        ],
    }
    return block, values


def _color(rgb: Any) -> tuple[int, int, int]:
    red, green, blue = (round(float(value)) for value in rgb)
    return red, green, blue


def _peak(heatmap: Tensor, level: Level, view: View) -> tuple[float, tuple[float, float]]:
    """Return the best score of the cells inside the image, and the middle of its cell in pixels."""
    height, width = view.image.shape[1:]
    rows, columns = (min(-(-side // level.stride), n) for side, n in zip((height, width), level[:2]))
    inside = heatmap[:rows, :columns].nan_to_num()
    at = int(inside.argmax())
    y, x = ((cell + 0.5) * level.stride for cell in divmod(at, columns))
    return float(inside.max()), (min(x, width), min(y, height))


def heatmap_picture(view: View, heatmap: Tensor, level: Level, label: int, maximum: float) -> Image.Image:
    """Lay a map (h,w) of scores over an image, with the objects of the class dashed."""
    height, width = view.image.shape[1:]
    scale = auto_scale(width, height, large=SIDE)
    laid = overlay_heatmap(
        view.batch.images[0], heatmap, maximum=maximum, stride=level.stride, scale=scale, bar=False
    )
    picture = laid.crop((0, 0, max(1, round(width * scale)), max(1, round(height * scale))))
    boxes = view.boxes[view.labels == label]
    labels = torch.full((len(boxes),), label)
    return draw_boxes(picture, boxes * scale, labels, None, (), scale=1, style="dashed", names=False)
