"""Postprocess: what detections must be, whoever made them."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from densedet.core import boxes as box_ops
from densedet.core.conformance.requirements import Factory, check, finite, require, same, steady, wire
from densedet.core.examples import CLASSES, STRIDES, example_grid
from densedet.core.text import counted
from densedet.core.types import Detections, Fate, Level, Trace

SIZES = ((64, 96), (40, 50))
"""Valid (height, width) of the two images."""


def check_detections(found: Any, sizes: Tensor, classes: int, anchors: int | None = None) -> None:
    """Require one Detections an image: best first, clipped, finite, of equal length, with legal labels.

    Args:
        found: what a postprocess or a detector's predict gave.
        sizes: int64 (B,2), valid (height, width) of each image.
        classes: C.
        anchors: N, where the detections come from anchors.
    """
    require(
        isinstance(found, list)
        and len(found) == len(sizes)
        and all(isinstance(d, Detections) for d in found),
        "a list of one Detections an image",
    )
    for one, (height, width) in zip(found, sizes.tolist()):
        count = len(one.boxes)
        require(
            one.boxes.shape == (count, 4) and count == len(one.scores) == len(one.labels) == len(one.anchors),
            "the fields of Detections have equal lengths: boxes (D,4), scores, labels and anchors (D,)",
        )
        require(
            one.boxes.dtype == one.scores.dtype == torch.float32,
            f"boxes and scores of detections are float32, not {one.boxes.dtype} and {one.scores.dtype}",
        )
        require(finite(one.boxes, one.scores), "a detection holds NaN or infinity")
        require(not one.boxes.requires_grad and not one.scores.requires_grad, "detections need no gradient")
        require(bool((one.scores[:-1] >= one.scores[1:]).all()), "detections come best first")
        require(bool(((one.scores >= 0) & (one.scores <= 1)).all()), "scores of detections lie in 0..1")
        require(bool((one.boxes[:, 2:] >= one.boxes[:, :2]).all()), "a detection's box is inverted (x2 < x1)")
        limit = torch.tensor([width, height, width, height])
        require(
            bool(((one.boxes >= -1e-3) & (one.boxes <= limit + 1e-3)).all()),
            "boxes are clipped to the image's valid size (height, width)",
        )
        require(
            one.labels.dtype == torch.int64 and bool(((one.labels >= 0) & (one.labels < classes)).all()),
            f"labels of detections are int64 in 0..{classes - 1}",
        )
        require(
            one.anchors.dtype == torch.int64 and bool((one.anchors >= -1).all()),
            "anchors of detections are int64, -1 where there is none",
        )
        require(
            anchors is None or bool((one.anchors < anchors).all()),
            f"anchors of detections are below N={anchors}",
        )


@check("postprocess")
def check_postprocess(factory: Factory, **arguments: Any) -> None:
    """Check that clear detections are found with their own label, box and anchor, best first, clipped; that
    boxes suppress each other within a class; images for themselves; no detections; the trace.

    A postprocess that leaves a trace empty, that keeps scores of 0, that suppresses nothing because it takes
    no threshold of overlap, or one whose `class_agnostic` is true, is legal.

    Args:
        factory: the class or function.
        **arguments: its arguments in a recipe.

    Raises:
        ConformanceError: with a sentence that says what was expected.
    """
    part = wire(factory, arguments, num_classes=CLASSES, strides=STRIDES)
    anchors, levels = example_grid()
    _check_many(part, anchors, levels)
    _check_clear(part, anchors, levels)
    _check_overlap(part, factory, anchors, levels)
    _check_nothing(part, anchors, levels)
    _check_best(part, anchors, levels)
    if "max_detections" in inspect.signature(factory).parameters:
        few = wire(factory, arguments | {"max_detections": 3}, num_classes=CLASSES, strides=STRIDES)
        _check_best(few, anchors, levels, 3)


def _check_many(part: Any, anchors: Tensor, levels: tuple[Level, ...]) -> None:
    scores, sizes = torch.rand(2, len(anchors), CLASSES), torch.tensor(SIZES)
    boxes = anchors + torch.randn(2, len(anchors), 4)
    found = steady("the postprocess", part, scores, boxes, levels, sizes)
    check_detections(found, sizes, CLASSES, len(anchors))
    require(all(len(one) for one in found), "252 anchors with scores up to 1 gave no detection")
    alone = part(scores[1:], boxes[1:], levels, sizes[1:])
    require(same(alone, found[1:], 1e-4), "an image's detections depend on the other images of the batch")
    trace: Trace = {}
    traced = part(scores, boxes, levels, sizes, trace)
    require(same(traced, found), "detections differ where a trace is asked for")
    if trace:
        check_fates(trace, found, len(anchors), CLASSES)


def check_fates(trace: Trace, found: Sequence[Detections], anchors: int, classes: int) -> None:
    """Require the fates that a trace holds to be those of the detections, and removals to name a survivor.

    Args:
        trace: what a postprocess or a detector's predict wrote.
        found: the detections of each image.
        anchors: N.
        classes: C.
    """
    fates: Any = trace.get("fate")
    require(
        isinstance(fates, list)
        and len(fates) == len(found)
        and all(f.shape == (anchors, classes) for f in fates),
        "trace['fate'] holds an (N,C) tensor an image",
    )
    for fate, one in zip(fates, found):
        require(
            bool(((fate >= Fate.LOW_SCORE) & (fate <= Fate.KEPT)).all()), "trace['fate'] holds values of Fate"
        )
        kept = {tuple(pair) for pair in (fate == Fate.KEPT).nonzero().tolist()}
        real = set(zip(one.anchors.tolist(), one.labels.tolist()))
        require(
            len(kept) == len(one) and (kept == real or -1 in one.anchors),
            f"the trace says {counted(len(kept), 'candidate')} kept, there are "
            f"{counted(len(one), 'detection')}, or others",
        )
    removals: Any = trace.get("by")
    if removals is None:
        return
    require(
        isinstance(removals, list)
        and len(removals) == len(found)
        and all(by.shape == (anchors, classes) and by.dtype == torch.int32 for by in removals),
        "trace['by'] holds an int32 (N,C) tensor an image",
    )
    for fate, by in zip(fates, removals):
        require(bool(((by >= -1) & (by < by.numel())).all()), "trace['by'] holds anchor * C + class, or -1")
        named = by >= 0
        require(
            bool((fate[named] == Fate.REMOVED_BY_NMS).all()),
            "trace['by'] names what removed a candidate that was not REMOVED_BY_NMS: write -1 there",
        )
        survived = (fate == Fate.KEPT) | (fate == Fate.CUT_BY_MAX_DETECTIONS)
        require(
            bool(survived.flatten()[by[named].long()].all()),
            "trace['by'] names a candidate that was itself removed: name the one that stayed",
        )


def _check_best(part: Any, anchors: Tensor, levels: tuple[Level, ...], limit: int = 10**9) -> None:
    """Of many candidates the one of the best score stays, and no more than the limit."""
    scores, sizes = torch.rand(2, len(anchors), CLASSES), torch.tensor(SIZES)
    boxes = anchors.expand(2, -1, -1).clone()
    found = part(scores, boxes, levels, sizes)
    require(
        max(map(len, found)) <= limit,
        f"max_detections={limit} gives {counted(max(map(len, found)), 'detection')}",
    )
    for one, score, own, size in zip(found, scores, boxes, sizes):
        clipped = box_ops.clip(own, size)
        whole = ((clipped[:, 2:] - clipped[:, :2]) > 8).all(-1)
        best = divmod(int((score * whole[:, None]).argmax()), CLASSES)
        require(
            best in set(zip(one.anchors.tolist(), one.labels.tolist())) or -1 in one.anchors,
            f"the candidate of the best score, (anchor, label) {best}, is not among the detections",
        )


def _clear(anchors: Tensor, levels: tuple[Level, ...]) -> list[tuple[int, int, float]]:
    """(anchor, label, score) far apart: on the first level, its last anchor among them, and on the others."""
    first = levels[0]
    at = [0, (first.height * first.width - 1) * first.anchors, 5 * first.anchors + 1]
    return [
        (at[0], 2, 0.99),
        (at[1], 0, 0.97),
        (at[2], 1, 0.98),
        (first.count + levels[1].count + 4, 0, 0.96),
    ]


def _check_clear(part: Any, anchors: Tensor, levels: tuple[Level, ...]) -> None:
    """Four candidates far apart: each is found once, with its own numbers."""
    scores = torch.full((2, len(anchors), CLASSES), 1e-4)
    wanted = _clear(anchors, levels)
    boxes = anchors.expand(2, -1, -1).clone()
    for anchor, label, score in wanted:
        scores[0, anchor, label] = score
    sizes = torch.tensor(SIZES)
    found = part(scores, boxes, levels, sizes)[0]
    strong = found.where(found.scores > 0.5)
    order = [(anchor, label) for anchor, label, _ in sorted(wanted, key=lambda row: -row[2])]
    got = list(zip(strong.anchors.tolist(), strong.labels.tolist()))
    require(
        sorted(label for _, label in got) == sorted(label for _, label in order),
        f"candidates far apart with (anchor, label) {order} gave the detections {got}: each is found once, "
        f"with its own label",
    )
    require(
        got == order or all(anchor == -1 for anchor, _ in got),
        f"candidates (anchor, label) {order}, best first, gave the detections {got}",
    )
    own = box_ops.clip(boxes[0], sizes[0])[[anchor for anchor, _ in order]]
    require(
        same(strong.boxes, own, 1.0),
        f"the detections' boxes {strong.boxes.tolist()} are not those of their anchors {own.tolist()}",
    )


def _check_overlap(part: Any, factory: Factory, anchors: Tensor, levels: tuple[Level, ...]) -> None:
    """Two nearly equal boxes, of one class in the first image and of two in the second."""
    first, second = 3 * levels[0].anchors, 4 * levels[0].anchors
    boxes = anchors.expand(2, -1, -1).clone()
    boxes[:, first], boxes[:, second] = torch.tensor([10.0, 10, 40, 40]), torch.tensor([10.5, 10, 40.5, 40])
    scores = torch.full((2, len(anchors), CLASSES), 1e-4)
    scores[0, first, 1], scores[0, second, 1] = 0.97, 0.99
    scores[1, first, 0], scores[1, second, 1] = 0.97, 0.99
    found = part(scores, boxes, levels, torch.tensor([SIZES[0]] * 2))
    one, two = (d.where(d.scores > 0.5) for d in found)
    require(
        len(one) > 0 and int(one.anchors[0]) in (second, -1) and int(one.labels[0]) == 1,
        "of two boxes that overlap, the one of the better score must stay, and come first",
    )
    names = " ".join(inspect.signature(factory).parameters).lower()
    if any(word in names for word in ("iou", "nms", "overlap", "sigma")):
        require(
            len(one) == 1 or float(one.scores[1]) < 0.9,
            "two boxes of one class with an IoU of 0.97 are both kept with their full scores: suppress one",
        )
    agnostic = getattr(part, "class_agnostic", False) or "agnostic" in (inspect.getdoc(factory) or "").lower()
    if not agnostic:
        require(
            sorted(two.labels.tolist()) == [0, 1],
            "boxes of two classes suppress each other: NMS is per class (or set `class_agnostic = True`)",
        )


def _check_nothing(part: Any, anchors: Tensor, levels: tuple[Level, ...]) -> None:
    sizes = torch.tensor(SIZES)
    boxes = anchors.expand(2, -1, -1).clone()
    check_detections(part(torch.zeros(2, len(anchors), CLASSES), boxes, levels, sizes), sizes, CLASSES)
    few = levels[-1]
    some = part(torch.rand(1, few.count, CLASSES), boxes[:1, -few.count :], (few,), sizes[:1])
    check_detections(some, sizes[:1], CLASSES, few.count)


def same_detections(first: Sequence[Detections], second: Sequence[Detections]) -> bool:
    """Whether two lists of detections agree, up to rounding and the order of nearly equal scores."""
    for one, other in zip(first, second):
        if len(one) != len(other) or not same(one.scores, other.scores, 1e-3):
            return False
        clear = one.scores > 0.5 if len(one) > 20 else one.scores > -1
        if not same(one.boxes[clear].sort(0).values, other.boxes[clear].sort(0).values, 0.05):
            return False
    return True
