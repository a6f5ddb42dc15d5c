"""The candidates of a suppression: the best pairs of anchor and class of each level or class."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from densedet.core.boxes import clip
from densedet.core.suppression import Suppression
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


def finder(how: Suppression) -> Callable[..., list[Candidates]]:
    """Return `candidates` with the settings of a suppression."""
    return partial(candidates, score=how.score, top_k=how.top_k, per=how.per, min_size=how.min_size)


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
) -> list[Candidates]:
    """Find the candidates of a batch of images.

    Args:
        scores: (B,N,C).
        boxes: (B,N,4) xyxy in pixels; they are clipped.
        levels: the feature maps, in the anchors' order.
        sizes: (B,2), (height, width) of each image.
        score: a pair needs a score above this.
        top_k: pairs that stay of those.
        per: "level": of each level, over anchors and classes together (RetinaNet); "class": of each class
            (SSD).
        min_size: pixels that both sides of a clipped box need.
        trace: where to write "fate" and "by"; boxes below ``min_size`` are LOW_SCORE there.

    Returns:
        The candidates of each image, by anchor and class.
    """
    scores, boxes = scores.detach().float(), boxes.detach().float()
    images, anchors, classes = scores.shape
    wanted = scores > score
    if min_size > 0:
        clipped = clip(boxes, sizes)
        wanted &= (clipped[..., 2:] - clipped[..., :2]).amin(-1, keepdim=True) >= min_size
    found = _true_places(wanted)
    if per == "class":
        kept = _best_of_classes(scores, wanted, found, top_k)
    else:
        kept = _best_of_levels(scores, found, levels, top_k)
    fates: list[Tensor | None] = [None] * images
    by: list[Tensor | None] = [None] * images
    if trace is not None:
        # Contiguous, whatever the layout of the scores: it is written by flat indices.
        fate = torch.full(wanted.shape, Fate.LOW_SCORE, dtype=torch.int8, device=wanted.device)
        fate.view(-1)[found] = Fate.CUT_BY_TOP_K
        fate.view(-1)[kept] = Fate.KEPT
        trace["fate"] = list(fate)
        trace["by"] = list(torch.full_like(fate, -1, dtype=torch.int32))
        fates, by = [*trace["fate"]], [*trace["by"]]
    pairs, label = kept // classes, kept % classes  # image and anchor; class
    counts = _counts(kept, torch.arange(1, images + 1, device=kept.device) * (anchors * classes))
    owner, anchor = pairs // max(1, anchors), pairs % max(1, anchors)
    # Few boxes are candidates, so that these alone are clipped.
    own_boxes = clip(boxes[owner, anchor][:, None], sizes[owner])[:, 0]
    columns = own_boxes, scores[owner, anchor, label], label, anchor
    return list(map(Candidates, *(column.split(counts) for column in columns), fates, by))


def _true_places(mask: Tensor) -> Tensor:
    """Return the flat indices of the true values, int64 (M,). On a CPU NumPy finds a few among many in a
    tenth of torch's time."""
    if mask.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero(mask.numpy()))
    return mask.flatten().nonzero().squeeze(1)


def _counts(found: Tensor, ends: Tensor) -> list[int]:
    """Count the ascending indices ``found`` (M,) in each of the parts that end before ``ends`` (S,)."""
    return torch.searchsorted(found, ends).diff(prepend=ends.new_zeros(1)).tolist()


def _best_of_levels(scores: Tensor, found: Tensor, levels: tuple[Level, ...], top_k: int) -> Tensor:
    """Those of the ascending flat indices ``found`` (M,) that have the best scores of a level of an image."""
    images, anchors, classes = scores.shape
    inside = torch.tensor([level.count for level in levels], device=found.device).cumsum(0)
    ends = (torch.arange(images, device=found.device)[:, None] * anchors + inside).flatten() * classes
    counts = _counts(found, ends)
    if max(counts, default=0) <= top_k:
        return found
    parts, values = found.split(counts), scores.flatten()[found].split(counts)
    large = [number for number, count in enumerate(counts) if count > top_k]
    # (large parts, the largest's length): one call for all of them
    rows = pad_sequence([values[i] for i in large], batch_first=True, padding_value=-torch.inf)
    best = rows.topk(top_k, dim=1, sorted=False).indices
    kept = dict(zip(large, (parts[i][chosen] for i, chosen in zip(large, best))))
    return torch.cat([kept.get(i, part) for i, part in enumerate(parts)]).sort().values


def _best_of_classes(scores: Tensor, wanted: Tensor, found: Tensor, top_k: int) -> Tensor:
    """Those of the flat indices ``found`` (M,) that have the best scores of a class of an image."""
    if len(found) <= top_k:
        return found
    crowded = wanted.sum(1) > top_k  # (B,C)
    if not bool(crowded.any()):
        return found
    _, anchors, classes = scores.shape
    image, label = crowded.nonzero(as_tuple=True)  # (P,) each
    masked = scores.mT[image, label].masked_fill_(~wanted.mT[image, label], -torch.inf)  # (P,N)
    best = masked.topk(top_k, dim=1, sorted=False).indices  # (P,top_k)
    best = (image[:, None] * anchors + best) * classes + label[:, None]
    others = _true_places(wanted & ~crowded[:, None])
    return torch.cat([others, best.flatten()]).sort().values
