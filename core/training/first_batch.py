"""What the first batch of a run shows: boxes in wrong units, and objects that the network cannot learn."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from densedet.core.text import counted
from densedet.core.types import Batch

NAMED = 5
"""Objects of a batch that are named for each finding."""


def first_batch_warnings(detector: Any, batch: Batch) -> list[str]:
    """Look for boxes that are inverted, below a pixel or outside their image, and for objects of which no
    anchor is positive.

    Args:
        detector: where it has ``explain(batch)``, the targets of its anchors are looked at too.
        batch: a training batch, on the detector's device.

    Returns:
        A sentence per finding, with the images; empty where nothing is wrong.
    """
    boxes, counting = batch.boxes, batch.valid & ~batch.ignore
    sides = (boxes[..., 2:] - boxes[..., :2]).amin(-1)
    limit = batch.valid_hw.flip(1).unsqueeze(1).to(boxes)
    outside = (boxes[..., :2] >= limit).any(-1) | (boxes[..., 2:] <= 0).any(-1)
    beyond = (boxes[..., :2] < -1).any(-1) | (boxes[..., 2:] > limit + 1).any(-1)
    inverted = counting & (sides <= 0)
    found = {
        "inverted or without area (x2 <= x1 or y2 <= y1): are boxes x, y, width, height?": inverted,
        "less than a pixel wide or high in the network's input: are boxes shares of the image, or "
        "is data.input_size_wh too small?": counting & (sides > 0) & (sides < 1),
        "outside of the image or partly so: are boxes in pixels of this image?": counting
        & (outside | beyond)
        & ~inverted,
    }
    if hasattr(detector, "explain"):
        found |= {
            "without a positive anchor, of which nothing is learned: see the anchors' sizes and the "
            "matcher": counting & ~_matched(detector, batch)
        }
    return [_sentence(batch, which, text) for text, which in found.items() if bool(which.any())]


def _matched(detector: Any, batch: Batch) -> Tensor:
    """bool (B,G), True where an anchor is positive for the object.

    In eval mode, so that no statistics move, and image by image: the scores of all anchors of a large batch
    may not fit into memory.
    """
    training = detector.training
    detector.eval()
    slots = torch.arange(batch.boxes.shape[1], device=batch.boxes.device).unsqueeze(1)
    try:
        index = [detector.explain(_image(batch, row)).targets.matched_idxs for row in range(len(batch))]
    finally:
        detector.train(training)
    return torch.stack([(one == slots).any(-1) for one in index])


def _image(batch: Batch, row: int) -> Batch:
    values = {name: _row(value, row) for name, value in vars(batch).items()}
    return replace(batch, **{**values, "image_ids": batch.image_ids[row : row + 1]})


def _row(value: Any, row: int) -> Any:
    if isinstance(value, dict):
        return {key: _row(item, row) for key, item in value.items()}
    return value[row : row + 1] if isinstance(value, Tensor) else value


def _sentence(batch: Batch, which: Tensor, text: str) -> str:
    places = which.nonzero().tolist()
    boxes = [[round(v, 1) for v in batch.boxes[image, slot].tolist()] for image, slot in places]
    named = "; ".join(
        f"image {batch.image_ids[image]}: {box}" for (image, _), box in list(zip(places, boxes))[:NAMED]
    )
    more = f"; and {len(places) - NAMED} more" if len(places) > NAMED else ""
    return f"first batch: {counted(len(places), 'object')} {text} ({named}{more})"
