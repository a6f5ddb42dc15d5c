"""Evidence on missed objects: what the matcher and the postprocess did about each object of a batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from densedet.core import boxes as box_ops
from densedet.core.annotations.filter_rules import FilterSection
from densedet.core.judgement.judgement import Evidence
from densedet.core.types import Batch, Detections, Fate, Trace

LARGEST = 1 << 23
"""Pairs of object and anchor that are looked at together."""

LOST = (Fate.CUT_BY_TOP_K, Fate.REMOVED_BY_NMS, Fate.CUT_BY_MAX_DETECTIONS)

NONE: dict[str, Any] = {
    "positives": np.int64(-1),
    "ignored_anchors": np.int64(-1),
    "filtered": np.False_,
    "traced": np.False_,
    "best_score": np.float32(-1),
    "best_iou": np.float32(0),
    "lost_fate": np.int64(-1),
    "lost_score": np.float32(-1),
    "lost_box": np.zeros(4, dtype=np.float32),
    "by_label": np.int64(-1),
    "by_score": np.float32(-1),
    "by_box": np.zeros(4, dtype=np.float32),
}
"""The columns of `Evidence` of an object about which nothing is known."""


class EvidenceCollector:
    """Collects the evidence on the objects of a pass over a data set.

    Args:
        iou: from which on a candidate reaches an object.
        rules: the training's filter.

    Attributes:
        rows: {position in the source: columns of `Evidence`}, of the images so far.
    """

    def __init__(self, iou: float, rules: FilterSection) -> None:
        self.iou, self.rules = iou, rules
        self.rows: dict[int, dict[str, np.ndarray]] = {}

    @torch.no_grad()
    def __call__(self, batch: Batch, trace: Trace, found: list[Detections]) -> None:
        """Take in a batch, as `densedet.core.training.evaluation.evaluate_detector` hands it on."""
        count = max(1, LARGEST // max(1, batch.boxes.shape[1] * _anchors_of(trace)))
        for start in range(0, len(batch), count):
            self._add(batch, trace, slice(start, start + count))

    def _add(self, batch: Batch, trace: Trace, images: slice) -> None:
        boxes, labels, valid = batch.boxes[images], batch.labels[images], batch.valid[images]
        counted = valid & ~batch.ignore[images]
        columns: dict[str, Tensor] = {"filtered": _filtered(batch, images, self.rules)}
        if "matched_idxs" in trace:
            matched = trace["matched_idxs"][images]
            columns["positives"] = _per_object(matched, boxes.shape[1])
            if "anchors" in trace:
                columns["ignored_anchors"] = _ignored_anchors(matched, boxes, counted, trace["anchors"])
        if "scores" in trace and "boxes" in trace and "fate" in trace:
            columns |= _candidates(boxes, labels.clamp(min=0), trace, images, self.iou)
        to_source = batch.to_source[images]
        for name in ("lost_box", "by_box"):
            if name in columns:
                columns[name] = columns[name] * to_source[:, None, :2].repeat(1, 1, 2) + to_source[
                    :, None, 2:
                ].repeat(1, 1, 2)
        arrays = {name: values.cpu().numpy() for name, values in columns.items()}
        for row, index in enumerate(batch.indices[images].tolist()):
            there = valid[row].cpu().numpy()
            self.rows[index] = {name: values[row][there] for name, values in arrays.items()}


def gathered(rows: list[dict[str, np.ndarray]], counted: list[np.ndarray]) -> Evidence:
    """Join the evidence of images.

    Args:
        rows: of each image, from `EvidenceCollector.rows`; an empty one where nothing is known.
        counted: bool (G,) of each image, which of its objects are wanted. An image with another number of
            objects in its batch counts as unknown.
    """
    columns = {}
    for name, unknown in NONE.items():
        parts = [
            row[name][keep]
            if name in row and len(row[name]) == len(keep)
            else np.broadcast_to(unknown, (int(keep.sum()), *unknown.shape))
            for row, keep in zip(rows, counted)
        ]
        empty = np.zeros((0, *unknown.shape))
        columns[name] = np.concatenate([empty, *parts]).astype(unknown.dtype)
    return Evidence(**columns)


def _anchors_of(trace: Trace) -> int:
    return trace["scores"].shape[1] if "scores" in trace else 1


def _filtered(batch: Batch, images: slice, rules: FilterSection) -> Tensor:
    """Bool (B,G): which objects have a shorter side below the filter's bounds."""
    boxes, scale = batch.boxes[images], batch.to_source[images][:, None, :2]
    sides = boxes[..., 2:] - boxes[..., :2]
    # As float32 has it, a box on the bound may lie a rounding below it.
    small = (sides * scale).amin(dim=-1) < rules.min_side - 1e-3
    return small | (sides.amin(dim=-1) < rules.min_input_side - 1e-3)


def _per_object(matched: Tensor, slots: int) -> Tensor:
    """Count the positive anchors of each object: matched_idxs (B,N) to int64 (B,G)."""
    counts = torch.zeros(len(matched), slots + 1, dtype=torch.int64, device=matched.device)
    return counts.scatter_add_(1, matched.clamp(min=-1) + 1, torch.ones_like(matched))[:, 1:]


def _ignored_anchors(matched: Tensor, boxes: Tensor, counted: Tensor, anchors: Tensor) -> Tensor:
    """Count the ignored anchors that overlap each object more than any other: int64 (B,G)."""
    if not boxes.shape[1] or not len(anchors):
        return torch.zeros(boxes.shape[:2], dtype=torch.int64, device=boxes.device)
    overlap = box_ops.pairwise_iou(boxes, anchors).masked_fill(~counted.unsqueeze(-1), 0)  # (B,G,N)
    best, owner = overlap.max(dim=1)
    return _per_object(torch.where((matched == -2) & (best > 0), owner, -1), boxes.shape[1])


def _candidates(boxes: Tensor, labels: Tensor, trace: Trace, images: slice, iou: float) -> dict[str, Tensor]:
    """Return what the trace says of the candidates near each object, as columns of `Evidence` of shape (B,G,
    ...); boxes are in the batch's pixels."""
    candidates, scores = trace["boxes"][images], trace["scores"][images]
    shape = (*boxes.shape[:2], candidates.shape[1])
    if not shape[1] or not shape[2]:
        return {}
    index = labels.unsqueeze(-1).expand(shape)  # (B,G,N)

    def of_class(values: Tensor) -> Tensor:
        """(B,N,C) to (B,G,N), of each object's class."""
        return values.transpose(1, 2).gather(1, index)

    own, fate = of_class(scores), of_class(torch.stack(trace["fate"][images]))
    overlap = box_ops.pairwise_iou(boxes, candidates)
    reaches = overlap >= iou
    lost = reaches & torch.stack([fate == value for value in LOST]).any(dim=0)
    lost_score, at = own.masked_fill(~lost, -1).max(dim=-1)  # (B,G)
    there = lost_score >= 0
    columns = {
        "traced": torch.ones_like(there),
        "best_score": own.masked_fill(~reaches, -1).amax(dim=-1),
        "best_iou": overlap.amax(dim=-1),
        "lost_score": lost_score,
        "lost_fate": fate.gather(2, at.unsqueeze(-1)).squeeze(-1).long().masked_fill(~there, -1),
        "lost_box": _boxes_at(candidates, at),
    }
    if "by" in trace:
        by = of_class(torch.stack(trace["by"][images])).gather(2, at.unsqueeze(-1)).squeeze(-1)
        by = by.long().masked_fill(~there, -1)
        anchor, label = by.clamp(min=0) // scores.shape[2], by.clamp(min=0) % scores.shape[2]
        columns["by_box"] = _boxes_at(candidates, anchor)
        columns["by_label"] = label.masked_fill(by < 0, -1)
        columns["by_score"] = scores.flatten(1).gather(1, by.clamp(min=0)).masked_fill(by < 0, -1)
    return columns


def _boxes_at(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Boxes (B,N,4) at anchors (B,G): (B,G,4)."""
    return boxes.gather(1, anchors.unsqueeze(-1).expand(-1, -1, 4))
