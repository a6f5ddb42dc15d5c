"""The candidates of a suppression: the best pairs of anchor and class of each level or class."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from densedet.core.boxes import clip
from densedet.core.types import Fate, Level, Trace

Per = Literal["level", "class"]


class Candidates(NamedTuple):
    """M pairs of anchor and class of one image; M may be 0.

    Attributes:
        boxes: float32 (M,4) xyxy, clipped.
        scores: float32 (M,).
        labels: int64 (M,), 0..C-1.
        anchors: int64 (M,), 0..N-1.
        fate: int8 (N,C) with values of `Fate`, at first KEPT for the candidates; None without a trace.
        by: int32 (N,C), the candidate that removed this one, as in `Trace`; None without a trace.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    anchors: Tensor
    fate: Tensor | None
    by: Tensor | None

    def note(self, which: Tensor | slice, fate: int) -> None:
        """Write the fate of candidates, given as indices or mask, into the trace, if there is one."""
        if self.fate is not None:
            self.fate[self.anchors[which], self.labels[which]] = fate

    def note_removal(self, removed: Tensor, by: Tensor) -> None:
        """Write into the trace, if there is one, which candidates ``by`` removed ``removed``.

        Args:
            removed: indices or mask of R candidates.
            by: int64 (R,) indices of candidates, or () for all of them.
        """
        if self.by is not None:
            classes = self.by.shape[1]
            places = self.anchors[by] * classes + self.labels[by]
            self.by[self.anchors[removed], self.labels[removed]] = places.int()


def candidates(
    scores: Tensor,
    boxes: Tensor,
    levels: tuple[Level, ...],
    sizes: Tensor,
    *,
    score: float,
    top_k: int,
    per: Per,
    min_size: float,
    trace: Trace | None,
) -> Iterator[Candidates]:
    """Find the candidates of each image.

    Args:
        scores: (B,N,C).
        boxes: (B,N,4) xyxy in pixels; they are clipped first.
        levels: the feature maps, in the anchors' order.
        sizes: (B,2), (height, width) of each image.
        score: a pair needs a score above this.
        top_k: pairs that stay of those.
        per: "level": of each level, over anchors and classes together (RetinaNet); "class": of each class
            (SSD).
        min_size: pixels that both sides of a clipped box need.
        trace: where to write "fate" and "by"; boxes below ``min_size`` are LOW_SCORE there.

    Yields:
        The candidates of one image after the other.
    """
    scores, boxes = scores.detach().float(), clip(boxes.detach().float(), sizes)
    classes = scores.shape[-1]
    if trace is not None:
        trace["fate"], trace["by"] = [], []
    for image_scores, image_boxes in zip(scores, boxes):
        wanted = image_scores > score
        if min_size > 0:
            wanted &= (image_boxes[:, 2:] - image_boxes[:, :2]).amin(-1, keepdim=True) >= min_size
        found = wanted.flatten().nonzero().squeeze(1)
        if per == "class":
            kept = _best_of_classes(image_scores, wanted, found, top_k)
        else:
            kept = _best_of_levels(image_scores, found, levels, top_k)
        fate = by = None
        if trace is not None:
            # Contiguous, whatever the layout of the scores: it is written by flat indices.
            fate = wanted.new_full(wanted.shape, Fate.LOW_SCORE, dtype=torch.int8)
            fate.view(-1)[found] = Fate.CUT_BY_TOP_K
            fate.view(-1)[kept] = Fate.KEPT
            by = wanted.new_full(wanted.shape, -1, dtype=torch.int32)
            trace["fate"].append(fate)
            trace["by"].append(by)
        anchors, labels = kept // classes, kept % classes
        yield Candidates(image_boxes[anchors], image_scores.flatten()[kept], labels, anchors, fate, by)


def _best_of_levels(scores: Tensor, found: Tensor, levels: tuple[Level, ...], top_k: int) -> Tensor:
    """Those of the ascending flat indices ``found`` (M,) that have the best scores of a level."""
    if len(found) <= top_k:
        return found
    ends = torch.tensor([level.count for level in levels], device=found.device).cumsum(0) * scores.shape[1]
    counts = torch.searchsorted(found, ends).diff(prepend=ends.new_zeros(1)).tolist()
    kept = []
    for part in found.split(counts):
        kept.append(part[scores.flatten()[part].topk(top_k).indices] if len(part) > top_k else part)
    return torch.cat(kept)


def _best_of_classes(scores: Tensor, wanted: Tensor, found: Tensor, top_k: int) -> Tensor:
    """Those of the flat indices ``found`` (M,) that have the best scores of a class."""
    if len(found) <= top_k or int(wanted.sum(0).max()) <= top_k:
        return found
    values, anchors = scores.masked_fill(~wanted, -torch.inf).topk(top_k, dim=0)
    flat = anchors * scores.shape[1] + torch.arange(scores.shape[1], device=scores.device)
    return flat[values > -torch.inf]
