"""The numbers of a walk as JSON that a page can hold: arrays are compressed, and what matters least is left
out where they would be too large."""

from __future__ import annotations

import base64
import io
import zlib
from typing import Any

import numpy as np
from PIL import Image

from densedet.core.showing.explain.collecting import Cells, Found, Moment, Walk
from densedet.core.types import Fate, Level

PICTURE_BYTES = 250_000
"""Bytes from which on the picture of the input is kept as JPEG."""
MAP_SHARE = 0.3
"""Share of a column's bytes that score maps may take."""
MAP_STEPS = 65_535
"""Steps from 0 to 1 in which the page holds scores of maps."""
TRIED = 500
"""Anchors by which the bytes of many are estimated."""
REGULAR = 1e-3
"""Pixels that an anchor may lie off the grid of its level's first cell."""


def packed(values: np.ndarray) -> dict[str, Any]:
    """Return an array for JSON: its type as NumPy has it, its shape, and its bytes, compressed, in base64."""
    little = np.ascontiguousarray(values.astype(values.dtype.newbyteorder("<")))
    data = base64.b64encode(zlib.compress(little.tobytes(), 6)).decode("ascii")
    return {"type": little.dtype.str[1:], "shape": list(values.shape), "data": data}


def size_of(value: Any) -> int:
    """Return about how many bytes the arrays within a value take in JSON."""
    if isinstance(value, dict):
        return len(value["data"]) if "data" in value else sum(map(size_of, value.values()))
    return sum(map(size_of, value)) if isinstance(value, list) else 0


def column(walk: Walk, most: int) -> dict[str, Any]:
    """Return a walk as plain values, of at most about ``most`` bytes."""
    picture = picture_url(walk.picture)
    left = most - len(picture)
    moments, classes = packed_moments(walk, int(left * MAP_SHARE))
    cells = None if walk.cells is None else packed_cells(walk, walk.cells, left - size_of(moments))
    return {
        "title": walk.title,
        "state": walk.state,
        "picture": picture,
        "width": walk.picture.width,
        "height": walk.picture.height,
        "objects": walk.objects,
        "classes": walk.classes,
        "colors": walk.colors,
        "found": detections(walk.found),
        "cells": cells,
        "suppression": walk.suppression,
        "mapClasses": classes,
        "moments": moments,
        "notes": walk.notes,
    }


def picture_url(picture: Image.Image) -> str:
    """Return a picture as a data URL: exact, unless that is large."""
    data, kind = io.BytesIO(), "png"
    picture.save(data, kind, compress_level=1)  # a photograph hardly shrinks more, and takes long
    if data.tell() > PICTURE_BYTES:
        data, kind = io.BytesIO(), "jpeg"
        picture.save(data, kind, quality=85)
    return f"data:image/{kind};base64,{base64.b64encode(data.getvalue()).decode('ascii')}"


def detections(found: Found) -> dict[str, Any]:
    """Return detections as lists; their numbers in full, so that the page can compare them with its own."""
    return {
        "boxes": [[round(side, 3) for side in box] for box in found.boxes.tolist()],
        "scores": [float(f"{score:.9g}") for score in found.scores.tolist()],
        "labels": found.labels.tolist(),
        "anchors": found.anchors.tolist(),
    }


def packed_moments(walk: Walk, most: int) -> tuple[list[dict[str, Any]], list[int]]:
    """Return the moments, and the classes whose maps they hold beside that of the best class.

    All classes have maps where these fit, else those of the objects and of the detections.
    """
    classes = list(range(len(walk.classes)))
    while True:
        rows = [_moment(moment, classes) for moment in walk.moments]
        if not classes or size_of(rows) <= most:
            return rows, classes
        likely = [*(one["label"] for one in walk.objects if one["counts"]), *walk.found.labels.tolist()]
        few = list(dict.fromkeys(likely))
        classes = sorted(few[: min(8, len(classes) // 2)])


def _moment(moment: Moment, classes: list[int]) -> dict[str, Any]:
    maps = []
    for level in moment.maps:
        chosen = np.concatenate([level.max(axis=0, keepdims=True), level[classes]])
        maps.append(packed((chosen.clip(0, 1) * MAP_STEPS).round().astype(np.uint16)))
    return {
        "step": moment.step,
        "walked": moment.walked,
        "maps": maps,
        "found": detections(moment.found),
    }


def packed_cells(walk: Walk, cells: Cells, most: int) -> dict[str, Any]:
    """Return the cells' numbers: of all anchors, or of as many as fit, those that matter most first.

    ``rows`` are the anchors that are held, null for all; ``from`` is the score from which on all candidates
    are among them.
    """
    sizes = [cell_of(walk, number) for number in range(len(cells.levels))]
    regular = [base_of(cells, number, cell) for number, cell in enumerate(sizes)]
    common: dict[str, Any] = {
        "levels": [
            {**level._asdict(), "cell": sizes[number], "base": regular[number]}
            for number, level in enumerate(cells.levels)
        ],
        "anchors": None if all(base is not None for base in regular) else packed(cells.anchors),
        "rules": [] if cells.reasons is None else list(cells.reasons.rules),
    }
    order, count = importance(walk, cells), len(cells.anchors)
    while count > 2 * TRIED:  # to compress all takes long, and most of it may be in vain
        some = order[: count : count // TRIED]
        likely = int(len(some) * most / size_of(_rows(cells, np.sort(some), walk)))
        if likely >= count:
            break
        count = likely
    while True:
        rows = np.sort(order[:count])
        made = {**common, **_rows(cells, rows, walk)}
        size = size_of(made)
        if size <= most or count <= 1:
            made["from"] = 0.0 if count == len(order) else complete_from(cells, rows, walk)
            return made
        count = max(1, int(count * min(0.9, 0.95 * most / size)))


def _rows(cells: Cells, rows: np.ndarray, walk: Walk) -> dict[str, Any]:
    whole = len(rows) == len(cells.anchors)
    made: dict[str, Any] = {
        "rows": None if whole else packed(rows.astype(np.int32)),
        "scores": packed(cells.scores[rows]),
        "boxes": packed(cells.boxes[rows]),
        "matched": packed(cells.matched[rows].astype(np.int16)),
        "iou": packed(cells.iou[rows]),
        "nearest": packed(cells.nearest[rows].astype(np.int16)),
        "fate": None if walk.fate is None else packed(walk.fate[rows]),
        "by": None if walk.by is None else packed(walk.by[rows].astype(np.int32)),
        "rule": None,
        "values": {},
        "named": {},
    }
    if cells.reasons is not None:
        made["rule"] = packed(cells.reasons.rule[0].cpu().numpy()[rows].astype(np.uint8))
        for key, columns, kind in (
            ("values", cells.reasons.values, np.float32),
            ("named", cells.reasons.objects, np.int16),
        ):
            made[key] = {
                name: packed(one[0].cpu().numpy()[rows].astype(kind)) for name, one in columns.items()
            }
    return made


def grid_of(cells: Cells, number: int) -> np.ndarray:
    """Return the anchors of a level, (h,w,A,4)."""
    level: Level = cells.levels[number]
    start = sum(one.count for one in cells.levels[:number])
    return cells.anchors[start : start + level.count].reshape(level.height, level.width, level.anchors, 4)


def cell_of(walk: Walk, number: int) -> list[float]:
    """Return the width and height of a level's cells in pixels: its stride, or where that suits its anchors
    less (SSD300's last maps), an equal share of the picture."""
    assert walk.cells is not None
    level, grid = walk.cells.levels[number], grid_of(walk.cells, number)
    middles = (grid[:, :, 0, :2] + grid[:, :, 0, 2:]) / 2  # (h,w,2) of the first anchor of each cell
    sides = []
    for pixels, along in zip(walk.picture.size, (middles[0, :, 0], middles[:, 0, 1])):

        def misfit(side: float, along: np.ndarray = along) -> tuple[float, float]:
            # Anchors may begin elsewhere than at half a cell, and be cut at the border.
            off = along - (np.arange(len(along)) + 0.5) * side
            return round(float(np.median(np.abs(off - np.median(off)))), 3), abs(float(np.median(off)))

        sides.append(min(float(level.stride), pixels / len(along), key=misfit))
    return sides


def base_of(cells: Cells, number: int, cell: list[float]) -> list[list[float]] | None:
    """Return the anchors (A,4) of a level's first cell, where those of the others are the same, moved by
    whole cells; else None."""
    grid, (wide, tall) = grid_of(cells, number), cell
    y, x = np.mgrid[: grid.shape[0], : grid.shape[1]]
    moved = grid[0, 0] + np.stack([x * wide, y * tall, x * wide, y * tall], axis=-1)[:, :, None]
    if np.abs(moved - grid).max() > REGULAR:
        return None
    return [[round(float(side), 5) for side in anchor] for anchor in grid[0, 0]]


def importance(walk: Walk, cells: Cells) -> np.ndarray:
    """Return all anchors, those first that the page needs most: candidates that top-k left, then matched and
    ignored ones, then by score."""
    best = cells.scores.max(axis=1)
    weight = best + 1.0 * (cells.matched != -1)
    if walk.fate is not None:
        weight += 10.0 * (walk.fate > Fate.CUT_BY_TOP_K).any(axis=1)
    return np.argsort(-weight, kind="stable")


def complete_from(cells: Cells, rows: np.ndarray, walk: Walk) -> float:
    """Return the score from which on every candidate is of one of these anchors, those aside that top-k
    cut."""
    scores = cells.scores.copy()
    if walk.fate is not None:
        scores[walk.fate == Fate.CUT_BY_TOP_K] = 0
    scores[rows] = 0
    return float(scores.max())
