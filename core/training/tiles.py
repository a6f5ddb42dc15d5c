"""Large images in tiles: where they lie, and how the detections of tiles become those of the image.

The detections of overlapping tiles are merged in three steps, between detections of one class in different
tiles. A box is *cut* where it touches a border of its tile inside the image: its object may go on beyond.

1. A cut box goes where another tile has the whole object: where what its own tile can see of an uncut box is
   this box (IoU of at least `SAME`).
2. Cut boxes that continue each other become one, the box around both with the better score: where they are
   the same in the part that both tiles see. So an object that is larger than the overlap comes out whole.
3. Of the boxes that are left and are the same, the one with the best score stays.

Detections of one tile never remove each other here; the detector's postprocess has seen to them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from densedet.core.boxes import iou
from densedet.core.contracts import Resize
from densedet.core.data.dataset import Sample, sample_of
from densedet.core.data.decoding import Decoding, whole_image
from densedet.core.errors import UsageError
from densedet.core.types import Annotation, Detections

SAME = 0.5
"""IoU from which on two boxes show the same."""

EDGE = 50
"""A box within a fiftieth of its tile from a border touches it: detectors are not exact to the pixel."""

SMALLEST = 16
"""Pixels of a tile's side."""

ROWS = 512
"""Boxes that are compared with all others at a time."""


@dataclass(frozen=True)
class Tiling:
    """How images are cut into tiles.

    Attributes:
        width: of a tile in source pixels.
        height: of a tile in source pixels.
        overlap: least number of pixels that neighbours share, in both directions.
    """

    width: int
    height: int
    overlap: int

    @classmethod
    def parse(cls, text: str, input_size_wh: tuple[int, int]) -> Tiling:
        """Read "WIDTHxHEIGHT", "WIDTHxHEIGHT+OVERLAP", "auto" or "auto+OVERLAP".

        Args:
            text: what a user has written; without OVERLAP, neighbours share a quarter of the shorter side.
            input_size_wh: (width, height) of the detector's input, the size of an "auto" tile.

        Raises:
            UsageError: it is none of these, or there is no such tiling.
        """
        found = re.fullmatch(r"(?:auto|(\d{1,6})x(\d{1,6}))(?:\+(\d{1,6}))?", text.strip().lower())
        if found is None:
            raise UsageError(f"--tiles {text!r}: write WIDTHxHEIGHT, WIDTHxHEIGHT+OVERLAP or auto")
        width, height = (int(found[1]), int(found[2])) if found[1] else input_size_wh
        shorter = min(width, height)
        if shorter < SMALLEST:
            raise UsageError(f"--tiles {text}: a tile needs {SMALLEST} pixels a side or more")
        overlap = int(found[3]) if found[3] else shorter // 4
        if overlap > shorter // 2:
            raise UsageError(
                f"--tiles {text}: tiles of {width}x{height} may share {shorter // 2} pixels at most"
            )
        return cls(width, height, overlap)

    def __str__(self) -> str:
        return f"{self.width}x{self.height}+{self.overlap}"

    def windows(self, width: int, height: int) -> list[tuple[int, int, int, int]]:
        """Return the tiles of an image of width x height pixels, row by row, as (x1, y1, x2, y2); one where
        the image is no larger than a tile."""
        columns, rows = self._spans(width, self.width), self._spans(height, self.height)
        return [(x1, y1, x2, y2) for y1, y2 in rows for x1, x2 in columns]

    def _spans(self, length: int, side: int) -> list[tuple[int, int]]:
        if length <= side:
            return [(0, length)]
        gaps = math.ceil((length - side) / (side - self.overlap))
        starts = [number * (length - side) // gaps for number in range(gaps + 1)]
        return [(start, start + side) for start in starts]


def tile_samples(
    image: Any,
    tiling: Tiling,
    *,
    decoding: Decoding,
    resize: Resize,
    index: int,
    truth: Annotation | None = None,
) -> Iterator[Sample]:
    """Decode an image once and give a sample, without objects, for each of its tiles.

    Args:
        image: as for `densedet.core.data.dataset.sample_of`.
        tiling: of the image.
        decoding: colour, range of values and greatest size.
        resize: the place of a tile in the network's input.
        index: position of the image.
        truth: tells the size of the image as its boxes mean it; None: as it is displayed.

    Yields:
        Samples whose ``source_wh`` and ``to_source`` are of the whole image.

    Raises:
        DataError: the image cannot be read.
    """
    expected, name = (None, "") if truth is None else ((truth.width, truth.height), truth.file_name)
    picture = whole_image(image, decoding, expected=expected, name=name)
    for window in tiling.windows(*picture.size):
        sample = sample_of(picture.crop(window), decoding=decoding, resize=resize, index=index)
        scale_x, scale_y, *_ = sample.to_source
        yield replace(sample, source_wh=picture.size, to_source=(scale_x, scale_y, *window[:2]))


def merged(found: list[Detections], windows: list[tuple[int, int, int, int]]) -> Detections:
    """Merge the detections of an image's tiles; the module's text tells how.

    Args:
        found: of each tile, in pixels of the image.
        windows: (x1, y1, x2, y2) of each tile.

    Returns:
        The detections of the image, best first. Of those that were put together, ``anchors`` and ``extra``
        are the best part's.
    """
    if len(found) == 1:
        return found[0]
    tile = torch.arange(len(found)).repeat_interleave(torch.tensor([len(one) for one in found]))
    everything = _joined(found)
    frames = torch.tensor(windows, dtype=torch.float32)
    pieces = _Pieces(everything.boxes, everything.labels, tile, frames[tile])
    cut = _touches(pieces.boxes, pieces.frames, frames)
    # 1. parts of objects that another tile has whole
    part, _, _ = pieces.pairs(cut, ~cut, lambda i, j: iou(pieces.boxes[i], pieces.seen(j, i)))
    kept = torch.ones_like(cut)
    kept[part] = False
    # 2. parts that continue each other
    cut &= kept
    first, second, overlap = pieces.pairs(cut, cut, lambda i, j: iou(pieces.seen(i, j), pieces.seen(j, i)))
    best_first = overlap.argsort(descending=True, stable=True)
    boxes, tiles = _grown(everything, pieces, first[best_first], second[best_first], kept)
    # 3. the same object, whole in several tiles
    left = kept.nonzero().squeeze(1)
    left = left[everything.scores[left].argsort(descending=True, stable=True)]
    pieces = _Pieces(boxes[left], everything.labels[left], tiles[left], pieces.frames[left])
    everywhere = torch.ones(len(left), dtype=torch.bool)
    better, worse, _ = pieces.pairs(
        everywhere, everywhere, lambda i, j: iou(pieces.boxes[i], pieces.boxes[j])
    )
    stays = [True] * len(left)
    for one, other in zip(better.tolist(), worse.tolist()):  # ascending: the better ones come first
        if one < other and stays[one]:
            stays[other] = False
    left = left[torch.tensor(stays, dtype=torch.bool)]
    return replace(everything.where(left), boxes=boxes[left])


def _joined(found: list[Detections]) -> Detections:
    """The detections of all tiles as one; further values only where each tile with detections has them."""
    some = [one for one in found if len(one)] or found[:1]
    names = set.intersection(*(set(one.extra) for one in some))
    boxes, scores, labels, anchors = (
        torch.cat([getattr(one, column) for one in found])
        for column in ("boxes", "scores", "labels", "anchors")
    )
    extra = {name: torch.cat([one.extra[name] for one in some]) for name in sorted(names)}
    keypoints = tuple(name for name in some[0].keypoints if name in names)
    return replace(
        some[0],
        boxes=boxes,
        scores=scores,
        labels=labels,
        anchors=anchors,
        extra=extra,
        keypoints=keypoints,
    )


@dataclass(frozen=True)
class _Pieces:
    """D boxes (D,4) of labels (D,) in tiles (D,), whose frames are (D,4)."""

    boxes: Tensor
    labels: Tensor
    tile: Tensor
    frames: Tensor

    def seen(self, box: Tensor, by: Tensor) -> Tensor:
        """What the tiles of ``by`` see of boxes, both positions (...): (...,4), inverted where nothing."""
        boxes, frames = self.boxes[box], self.frames[by]
        corner = torch.maximum(boxes[..., :2], frames[..., :2])
        return torch.cat([corner, torch.minimum(boxes[..., 2:], frames[..., 2:])], dim=-1)

    def pairs(self, first: Tensor, second: Tensor, overlap: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Find the pairs of a box of ``first`` and one of ``second``, both bool (D,), of one class in
        different tiles whose ``overlap`` of positions is `SAME` or more.

        Returns:
            Positions in the two, ascending by the first, and overlaps, (P,) each.
        """
        columns = second.nonzero().squeeze(1)
        found: list[tuple[Tensor, Tensor, Tensor]] = []
        for rows in first.nonzero().squeeze(1).split(ROWS):
            i, j = rows[:, None], columns[None]
            others = (self.labels[i] == self.labels[j]) & (self.tile[i] != self.tile[j])
            row, column = others.nonzero(as_tuple=True)
            i, j = rows[row], columns[column]
            value = overlap(i, j)
            same = value >= SAME
            found.append((i[same], j[same], value[same]))
        if not found:
            return columns[:0], columns[:0], self.boxes.new_zeros(0)
        one, other, values = (torch.cat(parts) for parts in zip(*found))
        return one, other, values


def _touches(boxes: Tensor, frames: Tensor, all_frames: Tensor) -> Tensor:
    """Whether boxes touch a border of their frames that is not the image's, bool (D,)."""
    right_bottom = all_frames[:, 2:].amax(0)
    edge = (frames[:, 2:] - frames[:, :2]) / EDGE
    low = (boxes[:, :2] <= frames[:, :2] + edge) & (frames[:, :2] > 0)
    high = (boxes[:, 2:] >= frames[:, 2:] - edge) & (frames[:, 2:] < right_bottom)
    return (low | high).any(1)


def _grown(
    found: Detections, pieces: _Pieces, first: Tensor, second: Tensor, kept: Tensor
) -> tuple[Tensor, Tensor]:
    """Put parts together, the most alike first; no two of one tile come together.

    Args:
        found: D detections.
        pieces: their boxes and tiles.
        first: int64 (P,), positions of parts.
        second: int64 (P,), the part that continues each.
        kept: bool (D,), in which the parts vanish but for the best of each object.

    Returns:
        The boxes (D,4), grown where parts were put together, and the tiles (D,), where such a box has a
        number of its own.
    """
    groups: dict[int, list[int]] = {}
    for one, other in zip(first.tolist(), second.tolist()):
        mine, its = groups.get(one, [one]), groups.get(other, [other])
        tiles = [int(pieces.tile[member]) for member in (*mine, *its)]
        if len(set(tiles)) == len(tiles):
            members = [*mine, *its]
            for member in members:
                groups[member] = members
    boxes, tiles_of = pieces.boxes.clone(), pieces.tile.clone()
    for members in {id(group): group for group in groups.values()}.values():
        best = max(members, key=lambda member: float(found.scores[member]))
        parts = pieces.boxes[members]
        boxes[best] = torch.cat([parts[:, :2].amin(0), parts[:, 2:].amax(0)])
        tiles_of[best] = -1 - best
        kept[members] = False
        kept[best] = True
    return boxes, tiles_of
