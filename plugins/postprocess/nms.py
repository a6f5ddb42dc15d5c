"""Non-maximum suppression."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import torch
from torch import Tensor
from torchvision.ops import nms

from densedet.core.arguments import NonNegativeFloat, PositiveInt, Probability
from densedet.core.boxes import pairwise_iou
from densedet.core.suppression import Suppression
from densedet.core.types import Detections, Fate, Level, Trace
from densedet.plugins.postprocess._candidates import Candidates, Per, finder

LARGEST = 1 << 22
"""Pairs of boxes whose IoU is computed at once."""

AT_ONCE = 20_000
"""Boxes of a batch that a GPU compares in one call, all with all: 50 MB for the results."""

APART = {"cpu": 1_000}
"""Boxes of an image up to which those of different classes are moved apart, so that one call serves for all
classes; 25,000 on other devices. Above, each class has a call of its own: the limits of torchvision's
batched_nms, whose results these are to the last bit."""

TOGETHER = 200
"""Boxes of an image from which on a further call of `nms` takes less time than comparing boxes of different
classes."""

SHARED = 2_000
"""Boxes of a batch from which on threads share its images: each `nms` takes one thread alone."""

FIRST = 4
"""Times as many candidates as detections are wanted are tried first. Whether a candidate stays depends on
better ones only."""


class NMSPostprocess:
    """Of overlapping boxes of a class only the one with the best score stays.

    torchvision's arguments (score, top_k, per, iou, max_detections) are, for RetinaNet, 0.05, 1000, level,
    0.5, 300; for SSD300 0.01, 400, class, 0.45, 200; for SSDlite320 0.001, 300, class, 0.55, 300; for FCOS
    0.2, 1000, level, 0.6, 100.

    Args:
        score: candidates need a score above this.
        top_k: candidates that go on, per ``per``.
        per: "level": over a level's anchors and classes together (RetinaNet); "class": per class (SSD).
        iou: a box is removed whose IoU with a better one of its class is above this.
        max_detections: most detections per image.
        class_agnostic: true: boxes of different classes remove each other too.
        min_size: pixels that both sides of a clipped box need; 0 keeps all.
    """

    def __init__(
        self,
        *,
        score: Probability = 0.05,
        top_k: PositiveInt = 1000,
        per: Per = "level",
        iou: Probability = 0.5,
        max_detections: PositiveInt = 100,
        class_agnostic: bool = False,
        min_size: NonNegativeFloat = 0.0,
    ) -> None:
        self.suppression = Suppression(
            score=score,
            top_k=top_k,
            per=per,
            iou=iou,
            max_detections=max_detections,
            class_agnostic=class_agnostic,
            min_size=min_size,
        )
        self.candidates = finder(self.suppression)
        self.iou, self.max_detections, self.class_agnostic = iou, max_detections, class_agnostic

    def __call__(
        self,
        scores: Tensor,
        boxes: Tensor,
        levels: tuple[Level, ...],
        sizes: Tensor,
        trace: Trace | None = None,
    ) -> list[Detections]:
        """See `densedet.core.contracts.Postprocess`."""
        batch = self.candidates(scores, boxes, levels, sizes, trace=trace)
        results = []
        for found, survivors in zip(batch, self._survivors(batch, all_of_them=trace is not None)):
            kept = survivors[: self.max_detections]
            found.note(slice(None), Fate.REMOVED_BY_NMS)
            found.note(survivors, Fate.CUT_BY_MAX_DETECTIONS)
            found.note(kept, Fate.KEPT)
            if trace is not None:
                self._note_removals(found, survivors)
            results.append(
                Detections(found.boxes[kept], found.scores[kept], found.labels[kept], found.anchors[kept])
            )
        return results

    def _survivors(self, batch: list[Candidates], *, all_of_them: bool) -> list[Tensor]:
        """Return the candidates of each image that no better one removes, best first; where not
        ``all_of_them`` are wanted, at least the best ``max_detections``."""
        on_cpu = not batch or batch[0].boxes.device.type == "cpu"
        if on_cpu or sum(len(found.scores) for found in batch) > AT_ONCE:
            # One call for all images would compare boxes of different images, too.
            enough = None if all_of_them else self.max_detections
            own = partial(survivors, iou=self.iou, class_agnostic=self.class_agnostic, enough=enough)
            threads = torch.get_num_threads() if on_cpu else 1
            if threads == 1 or sum(len(found.scores) for found in batch) < SHARED:
                return list(map(own, batch))
            with ThreadPoolExecutor(threads) as pool:
                return list(pool.map(own, batch))
        return survivors_of_batch(batch, self.iou, self.class_agnostic)

    def _note_removals(self, found: Candidates, survivors: Tensor) -> None:
        """Write into the trace which survivor removed each other candidate: the best that overlaps it."""
        removed = torch.ones_like(found.scores, dtype=torch.bool)
        removed[survivors] = False
        removals = removed.nonzero().squeeze(1)
        classes = found.labels.new_zeros(len(removed)) if self.class_agnostic else found.labels
        for label in classes[removals].unique():
            rivals = survivors[classes[survivors] == label]
            own = removals[classes[removals] == label]
            for part in own.split(max(1, LARGEST // len(rivals))):
                overlap = pairwise_iou(found.boxes[part], found.boxes[rivals])
                # The survivors come best first, so that the first above the threshold removed the box. Where
                # rounding leaves none above it, the nearest one did.
                above = overlap > self.iou
                first = torch.where(above.any(dim=1), above.int().argmax(dim=1), overlap.argmax(dim=1))
                found.note_removal(part, rivals[first])


def survivors(found: Candidates, iou: float, class_agnostic: bool, enough: int | None) -> Tensor:
    """Return the candidates of an image that no better one of their class removes, best first.

    Args:
        found: M candidates.
        iou: a box is removed whose IoU with a better one is above this.
        class_agnostic: whether boxes of different classes remove each other too.
        enough: survivors that are wanted; None: all.

    Returns:
        int64 (S,), indices of candidates; where S is ``enough`` or more, worse ones may be missing.
    """
    count = len(found.scores)
    order = found.scores.argsort(descending=True, stable=True)
    boxes, least = found.boxes, count
    if not class_agnostic and count:
        each_class = count > APART.get(boxes.device.type, 25_000)
        if not each_class:
            boxes = boxes + (found.labels.to(boxes) * (boxes.max() + 1))[:, None]
        least = 1 if each_class else TOGETHER
    tried = count if enough is None else FIRST * enough
    while True:
        best = order[:tried]
        kept = _kept(boxes[best], found.scores[best], found.labels[best], iou, least)
        if tried >= count or len(kept) >= (enough or 0):
            return best[kept]
        tried *= FIRST


def _kept(boxes: Tensor, scores: Tensor, labels: Tensor, iou: float, least: int) -> Tensor:
    """Return the ascending positions of boxes, sorted by score, that stay.

    Classes are compared on their own, or together with the next ones up to at least ``least`` boxes.
    """
    if len(scores) < 2 * least:
        return nms(boxes, scores, iou)
    sizes: list[int] = []
    for count in torch.bincount(labels).tolist():
        if sizes and sizes[-1] < least:
            sizes[-1] += count
        else:
            sizes.append(count)
    stays = torch.zeros_like(scores, dtype=torch.bool)
    for own in labels.argsort(stable=True).split(sizes):
        stays[own[nms(boxes[own], scores[own], iou)]] = True
    return stays.nonzero().squeeze(1)


def survivors_of_batch(batch: list[Candidates], iou: float, class_agnostic: bool) -> list[Tensor]:
    """Return all `survivors` of each image of a batch by one call, in which boxes of different images and
    classes lie apart. In float64, since float32 has few digits left that far out."""
    counts = [len(found.scores) for found in batch]
    boxes, scores, labels = (
        torch.cat([getattr(found, column) for found in batch]) for column in ("boxes", "scores", "labels")
    )
    if not len(scores):
        return [labels] * len(batch)
    starts = torch.tensor([0, *counts[:-1]], device=labels.device).cumsum(0)
    image = torch.repeat_interleave(
        torch.arange(len(batch), device=labels.device), torch.tensor(counts, device=labels.device)
    )
    place = image if class_agnostic else image * (labels.max() + 1) + labels
    apart = boxes.double() + (place * (boxes.max().double() + 1))[:, None]
    kept = nms(apart, scores.double(), iou)
    kept = kept[image[kept].argsort(stable=True)]  # by image, and best first within each
    local = kept - starts[image[kept]]
    return list(local.split(torch.bincount(image[kept], minlength=len(batch)).tolist()))
