"""A detector as a graph of tensors: images in, boxes and scores out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from densedet.core.errors import UsageError
from densedet.core.suppression import Suppression
from densedet.core.types import RawOutput

PADDED = -1.0
"""Score of a pair of anchor and class that is no candidate."""


class RawNetwork(nn.Module):
    """Gives the boxes and scores of all anchors.

    Args:
        detector: has `raw`.
    """

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Tensor, valid_hw: Tensor) -> tuple[Tensor, ...]:
        """Return boxes (B,N,4) xyxy in pixels of the input, scores (B,N,C) and each extra (B,N,*shape)."""
        raw = raw_output(self.detector, images, valid_hw)
        return raw.boxes, raw.scores, *raw.extra.values()


class CandidateNetwork(nn.Module):
    """Gives the candidates of a suppression: the best pairs of anchor and class of each level or class.

    Args:
        detector: has `raw`.
        how: which pairs are candidates.
    """

    def __init__(self, detector: nn.Module, how: Suppression) -> None:
        super().__init__()
        self.detector, self.how = detector, how

    def forward(self, images: Tensor, valid_hw: Tensor) -> tuple[Tensor, ...]:
        """Return boxes (B,K,4), scores (B,K), `PADDED` where fewer than K are candidates, labels int64 (B,K),
        anchors int64 (B,K), and (B,N,*shape) of each extra."""
        raw = raw_output(self.detector, images, valid_hw)
        boxes, scores = raw.boxes, raw.scores
        wanted = scores > self.how.score
        if self.how.min_size > 0:
            sides = boxes[..., 2:] - boxes[..., :2]
            wanted = wanted & (sides.amin(-1, keepdim=True) >= self.how.min_size)
        scores = torch.where(wanted, scores, scores.new_full((), PADDED))
        values, pairs = self._best(scores, raw.counts)
        anchors, labels = pairs // scores.shape[2], pairs % scores.shape[2]
        found = boxes.gather(1, anchors[..., None].expand(-1, -1, 4))
        return found, values, labels, anchors, *raw.extra.values()

    def _best(self, scores: Tensor, counts: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Return the best scores (B,K) of each level or class, and their flat indices into (N,C)."""
        classes = scores.shape[2]
        if self.how.per == "class":
            values, anchors = scores.topk(min(self.how.top_k, scores.shape[1]), dim=1)  # (B,k,C)
            pairs = anchors * classes + torch.arange(classes, device=scores.device)
            return values.flatten(1), pairs.flatten(1)
        best, start = [], 0
        for part in scores.split(list(counts), dim=1):
            flat = part.flatten(1)
            values, pairs = flat.topk(min(self.how.top_k, flat.shape[1]), dim=1)
            best.append((values, pairs + start))
            start += flat.shape[1]
        return torch.cat([v for v, _ in best], dim=1), torch.cat([p for _, p in best], dim=1)


def raw_output(detector: nn.Module, images: Tensor, valid_hw: Tensor) -> RawOutput:
    """Return what a detector hands to its postprocess.

    Raises:
        UsageError: it has no `raw`.
    """
    raw: Any = getattr(detector, "raw", None)
    if raw is None:
        raise UsageError(
            f"model.detector {type(detector).__name__} cannot be exported: it has no raw(images, valid_hw) "
            f"that returns a densedet.core.types.RawOutput"
        )
    output: RawOutput = raw(images, valid_hw)
    return output
