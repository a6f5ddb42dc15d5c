"""From a judgement to what the report shows of it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from densedet.core.judgement import analysis as told
from densedet.core.judgement.judgement import Judgement
from densedet.core.judgement.missed import missed_objects
from densedet.core.report.arms import Analysis, SizeBin

SOURCE, NETWORK = "size in source pixels", "size in network pixels"
HEIGHT = "object height in network pixels"
SIZES = ("small", "medium", "large")
"""COCO's names of the ranges of the source's pixels."""


def analysis_of(judgement: Judgement) -> Analysis:
    """Analyse one judgement: errors, confusion, calibration, F1, sizes, reasons of misses."""
    confusion, calibration = told.confusion(judgement), told.calibration(judgement)
    missed = missed_objects(judgement)
    return Analysis(
        errors=told.error_types(judgement).gains,
        confusion=confusion.matrix.astype(float),
        classes=confusion.classes,
        calibration=tuple((b.score, b.right, b.detections) for b in calibration.bins if b.detections),
        calibration_error=calibration.error,
        f1=tuple(told.f1_over_score(judgement)),
        sizes={
            SOURCE: _bins(told.by_size(judgement), SIZES),
            NETWORK: _bins(told.by_size(judgement, pixels="network")),
            HEIGHT: _bins(told.by_size(judgement, pixels="network", measure="height"), height=True),
        },
        missed=missed.counts(),
        objects=missed.objects,
    )


def _bins(
    ranges: Sequence[told.SizeRange], names: Sequence[str] = (), *, height: bool = False
) -> tuple[SizeBin, ...]:
    return tuple(
        SizeBin(_label(one, name, height), one.middle, one.objects, one.ap, one.recall)
        for one, name in zip(ranges, names or [""] * len(ranges))
    )


def _label(one: told.SizeRange, name: str, height: bool) -> str:
    """A range in words: "small, below 32x32", "8 to 16"."""
    low, high = (f"{edge:g}" if height else f"{edge:g}x{edge:g}" for edge in (one.low, one.high))
    if math.isinf(one.high):
        text = f"from {low} up"
    else:
        text = f"below {high}" if one.low == 0 else f"{low} to {high}"
    return f"{name}, {text}" if name else text
