"""Which (anchor, class) pairs of an image are worth suppressing: above a score, best k of each level or
class."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from densedet.core.boxes import clip
from densedet.core.types import Fate, Level, Trace

Per = Literal["level", "class"]


class Candidates(NamedTuple):
    """M pairs of one image, M may be 0.

    boxes: float32 (M,4) xyxy, clipped. scores: float32 (M,). labels: int64 (M,), 0..C-1. anchors: int64 (M,),
    0..N-1.
    fate: int8 (N,C) with values of `Fate`, or None without a trace; the candidates stand at KEPT.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    anchors: Tensor
    fate: Tensor | None

    def condemn(self, which: Tensor | slice, fate: int) -> None:
        """Note the fate of candidates ``which`` (indices or mask), if anybody asked."""
        if self.fate is not None:
            self.fate[self.anchors[which], self.labels[which]] = fate


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
    """Image by image, scores (B,N,C), boxes (B,N,4), sizes (B,2) (height, width) -> Candidates.

    Boxes are clipped first. A pair needs a score strictly above ``score`` and a clipped box of at least
    ``min_size`` pixels a side; then the best ``top_k`` stay, of each level over anchors and classes together
    (RetinaNet) or of each class (SSD). Fills trace["fate"]; boxes below ``min_size`` count as LOW_SCORE
    there.
    """
    scores, boxes = scores.detach().float(), clip(boxes.detach().float(), sizes)
    classes = scores.shape[-1]
    if trace is not None:
        trace["fate"] = []
    for image_scores, image_boxes in zip(scores, boxes):
        wanted = image_scores > score
        if min_size > 0:
            wanted &= (image_boxes[:, 2:] - image_boxes[:, :2]).amin(-1, keepdim=True) >= min_size
        found = wanted.flatten().nonzero().squeeze(1)
        if per == "class":
            kept = _best_of_classes(image_scores, wanted, found, top_k)
        else:
            kept = _best_of_levels(image_scores, found, levels, top_k)
        fate = None
        if trace is not None:
            fate = torch.full_like(wanted, Fate.LOW_SCORE, dtype=torch.int8)
            fate.view(-1)[found] = Fate.CUT_BY_TOP_K
            fate.view(-1)[kept] = Fate.KEPT
            trace["fate"].append(fate)
        anchors = kept // classes
        yield Candidates(image_boxes[anchors], image_scores.flatten()[kept], kept % classes, anchors, fate)


def _best_of_levels(scores: Tensor, found: Tensor, levels: tuple[Level, ...], top_k: int) -> Tensor:
    """scores (N,C), ascending flat (anchor, class) indices (M,) -> those of the ``top_k`` best of each
    level."""
    if len(found) <= top_k:
        return found
    ends = torch.tensor([level.count for level in levels], device=found.device).cumsum(0) * scores.shape[1]
    counts = torch.searchsorted(found, ends).diff(prepend=ends.new_zeros(1)).tolist()
    kept = []
    for part in found.split(counts):
        kept.append(part[scores.flatten()[part].topk(top_k).indices] if len(part) > top_k else part)
    return torch.cat(kept)


def _best_of_classes(scores: Tensor, wanted: Tensor, found: Tensor, top_k: int) -> Tensor:
    """scores (N,C), wanted (N,C), its flat indices (M,) -> those of the ``top_k`` best of each class."""
    if len(found) <= top_k or int(wanted.sum(0).max()) <= top_k:
        return found
    values, anchors = scores.masked_fill(~wanted, -torch.inf).topk(top_k, dim=0)
    flat = anchors * scores.shape[1] + torch.arange(scores.shape[1], device=scores.device)
    return flat[values > -torch.inf]
