"""What passes between the parts.

Throughout: B images, L levels, A_l anchors per cell, N = sum of h_l*w_l*A_l, C classes, G objects of an image
(padded to the largest of the batch), K class channels, R box channels, P positive anchors of the batch. Boxes
are float32 xyxy in absolute pixels of the tensor at hand, x2 > x1, y2 > y1, continuous (no +1). Labels are
int64 in 0..C-1; -1 is an ignored object. G may be 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Level(NamedTuple):
    """One feature map: its size in cells, its anchors per cell, and its stride in input pixels."""

    height: int
    width: int
    anchors: int
    stride: int

    @property
    def count(self) -> int:  # type: ignore[override]
        """Anchors of this level, h*w*A."""
        return self.height * self.width * self.anchors


@dataclass
class Annotation:
    """The truth of one image, in source pixels. G may be 0.

    boxes: float32 (G,4) xyxy. labels: int64 (G,), 0..C-1. ignore: bool (G,), objects that neither count nor
    hurt. crowd: bool (G,), COCO's iscrowd (always ignored too). area: float (G,), in pixels, by which COCO
    sorts sizes. image_id: as the source's file has it. file_name: as the file has it. width, height: of the
    source image after EXIF orientation. xywh: float64 (G,4) x, y, width,
    height exactly as the file has them, where the source knows: AP is computed on these.
    """

    boxes: Tensor
    labels: Tensor
    ignore: Tensor
    crowd: Tensor
    area: Tensor
    image_id: int | str
    file_name: str
    width: int
    height: int
    xywh: Tensor | None = None


@dataclass
class Batch:
    """What a detector sees.

    images: uint8 (B,ch,H,W), or float32 0..255 where exact resampling was asked for; the image lies at the
    top left.
    valid_hw: int64 (B,2), valid (height, width) of each. boxes: float32 (B,G,4). labels: int64 (B,G), 0..C-1,
    -1 where the object is ignored for its class or the slot is empty. valid: bool (B,G), slot holds an object
    (ignored ones included). ignore: bool (B,G).
    indices: int64 (B,), position in the source. image_ids: B ids as the source has them. source_hw: int64
    (B,2) (height, width).
    to_source: float32 (B,4), (scale x, scale y, offset x, offset y): source = input * scale + offset; only
    exact where no augmentation moved the image. broken: (position in the source, sentence) of images that
    could not be read and were left out.
    dropped: objects that augmentation lost.
    """

    images: Tensor
    valid_hw: Tensor
    boxes: Tensor
    labels: Tensor
    valid: Tensor
    ignore: Tensor
    indices: Tensor
    image_ids: list[int | str]
    source_hw: Tensor
    to_source: Tensor
    broken: tuple[tuple[int, str], ...] = ()
    dropped: int = 0

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Batch:
        """The same batch with its tensors on ``device``."""
        values: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        moved: dict[str, Any] = {
            k: v.to(device, non_blocking=non_blocking) if isinstance(v, Tensor) else v
            for k, v in values.items()
        }
        return Batch(**moved)


@dataclass
class Prediction:
    """What a head says, one entry per level, fine to coarse, in the anchors' order (y, x, anchor).

    logits: (B, h*w*A_l, K) each. box: (B, h*w*A_l, R) each. extra: per branch name a list of (B, h*w*A_l, E).
    """

    logits: list[Tensor]
    box: list[Tensor]
    extra: dict[str, list[Tensor]] = field(default_factory=dict)


class Assignment(NamedTuple):
    """A matcher's answer.

    matched_idxs: int64 (B,N); >= 0 the object's slot in the batch, -1 background, -2 ignore.
    quality: float32 (B,N) in 0..1, how good the match is (0 off the positives), or None.
    """

    matched_idxs: Tensor
    quality: Tensor | None = None


@dataclass
class Targets:
    """What the anchors of a batch should answer.

    anchors: (N,4). levels: one `Level` per feature map. matched_idxs: int64 (B,N), see `Assignment`.
    positive: bool (B,N).
    labels: int64 (B,N), 0..C-1 on positives, C background, -1 ignore. boxes: float32 (B,N,4), the matched
    object's box; on anchors without one the anchor itself, so that no arithmetic there is 0/0. quality:
    float32 (B,N), 0 off the positives, or None.
    """

    anchors: Tensor
    levels: tuple[Level, ...]
    matched_idxs: Tensor
    positive: Tensor
    labels: Tensor
    boxes: Tensor
    quality: Tensor | None = None

    @cached_property
    def places(self) -> tuple[Tensor, Tensor]:
        """The P positives: image int64 (P,), anchor int64 (P,)."""
        image, anchor = self.positive.nonzero(as_tuple=True)
        return image, anchor


@dataclass
class Branch:
    """What a head brings along beside class and box, e.g. FCOS's centre-ness. ``head.branches`` maps extra's
    names to these.

    loss(values (B,N,E), targets) -> (B,N), 0 where it does not count; summed and divided by the detector's
    loss_normalizer. adjust(scores (B,N,C), values (B,N,E)) -> (B,N,C): how the branch changes the scores at
    prediction, or None. weight(targets) -> (B,N): what it lends the box loss as a weight when the detector's
    ``box_weight`` names this branch, or None.
    """

    loss: Callable[[Tensor, Targets], Tensor]
    adjust: Callable[[Tensor, Tensor], Tensor] | None = None
    weight: Callable[[Targets], Tensor] | None = None


@dataclass
class Detections:
    """What was found in one image, best first. D may be 0.

    boxes: float32 (D,4) xyxy. scores: float32 (D,) in 0..1. labels: int64 (D,), 0..C-1. anchors: int64 (D,),
    index of the anchor each came from, -1 where there is none.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    anchors: Tensor

    def __len__(self) -> int:
        return len(self.boxes)

    @staticmethod
    def empty(device: torch.device | str = "cpu") -> Detections:
        """No detections."""
        none = torch.zeros(0, dtype=torch.int64, device=device)
        return Detections(torch.zeros(0, 4, device=device), torch.zeros(0, device=device), none, none.clone())

    def where(self, keep: Tensor) -> Detections:
        """Those for which ``keep``, bool (D,), holds."""
        return Detections(self.boxes[keep], self.scores[keep], self.labels[keep], self.anchors[keep])

    def to(self, device: torch.device | str) -> Detections:
        """The same detections on ``device``."""
        return Detections(
            self.boxes.to(device), self.scores.to(device), self.labels.to(device), self.anchors.to(device)
        )


@dataclass
class Explanation:
    """Inside view of a dense detector on one batch, for pictures and `show`.

    levels: as in `Targets`. anchors: (N,4). scores: (B,N,C) as the postprocess sees them. boxes: (B,N,4)
    decoded.
    targets: what the anchors should have answered.
    """

    levels: tuple[Level, ...]
    anchors: Tensor
    scores: Tensor
    boxes: Tensor
    targets: Targets

    def score_maps(self) -> list[Tensor]:
        """Per level (B,C,h,w): the best score of each cell over its anchors."""
        maps = []
        for level, part in zip(self.levels, self.scores.split([level.count for level in self.levels], dim=1)):
            cells = part.unflatten(1, (level.height, level.width, level.anchors)).amax(dim=3)
            maps.append(cells.permute(0, 3, 1, 2))
        return maps


Trace = dict[str, Any]
"""A postprocess fills it, when handed one, with each candidate's fate: ``trace["fate"]`` is a list of int8
(N,C) tensors, one per image, with values of `Fate`."""


class Fate:
    """Values of a trace: what happened to the candidate (anchor, class)."""

    LOW_SCORE, CUT_BY_TOP_K, REMOVED_BY_NMS, CUT_BY_MAX_DETECTIONS, KEPT = range(5)
