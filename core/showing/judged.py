"""Pictures of a judgement: what was found in an image of the source beside the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from densedet.core.data.decoding import open_image
from densedet.core.errors import DataError
from densedet.core.judgement.judgement import Judgement
from densedet.core.report.drawing import LARGE, SMALL, auto_scale, draw_boxes, enlarge

AROUND = 1.5
"""How far a cut-out reaches beyond a box, in sides of the box."""
LEAST = 64
"""Least sides of a cut-out in pixels."""
CUT = 300
"""Pixels of the long side to which about a cut-out is enlarged."""


@dataclass(frozen=True)
class Drawn:
    """Boxes to draw.

    Attributes:
        boxes: (M,4) xyxy in source pixels.
        labels: M, 0..C-1.
        scores: M, or None for objects, which are dashed.
    """

    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray | None = None


def source_image(source: Any, index: int) -> Image.Image | None:
    """Return an image of a source as RGB; None where it cannot be read."""
    try:
        return open_image(source.image(index)).convert("RGB")
    except DataError:
        return None


def title_of(judgement: Judgement, image: int) -> str:
    """Return an image in words, by its position in the judgement."""
    file = str(judgement.file_names[image]).rpartition("/")[2]
    named = f" (id {judgement.image_ids[image]}{f', {file}' if file else ''})"
    return f"image {int(judgement.indices[image])}{named}"


def draw_judged(
    image: Image.Image, layers: Sequence[Drawn], classes: Sequence[str], *, small: int = SMALL
) -> Image.Image:
    """Draw objects dashed and detections solid on an image, one layer over the other.

    Args:
        image: in source pixels.
        layers: the boxes.
        classes: names in label order.
        small: pixels of the long side to which about a smaller image is enlarged.
    """
    scale = auto_scale(*image.size, small=small)
    picture = enlarge(image, scale)
    for layer in layers:
        style: Any = "dashed" if layer.scores is None else "solid"
        picture = draw_boxes(
            picture, layer.boxes * scale, layer.labels, layer.scores, classes, scale=1, style=style
        )
    return picture


def cut_out(image: Image.Image, layers: Sequence[Drawn], classes: Sequence[str]) -> Image.Image:
    """Draw the surroundings of the boxes, as `draw_judged` draws a whole image."""
    boxes = np.concatenate([layer.boxes for layer in layers])
    low, high = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    more = np.maximum((high - low) * (AROUND / 2), (LEAST - (high - low)) / 2)
    left, top = np.floor((low - more).clip(0)).astype(int).tolist()
    right, bottom = np.ceil(np.minimum(high + more, image.size)).astype(int).tolist()
    part = image.crop((left, top, max(right, left + 1), max(bottom, top + 1)))
    factor = min(1.0, LARGE / max(part.size))
    shift = np.array([left, top, left, top])
    moved = [
        Drawn((layer.boxes - shift) * factor, np.asarray(layer.labels), layer.scores) for layer in layers
    ]
    return draw_judged(enlarge(part, factor), moved, classes, small=CUT)
