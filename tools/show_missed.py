"""Why a trained detector misses objects, as a table."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densedet.core.text import json_text, say

if TYPE_CHECKING:
    from densedet.core.judgement.judgement import Judgement
    from densedet.core.judgement.missed import MissedObjects

WORST = 12
"""Classes that the table lists."""


def add_missed(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `missed`."""
    parser.add_argument(
        "checkpoint", help="a run folder (its best.pt), a checkpoint, or a recipe with model.weights"
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="path=value", help="e.g. data.val.annotations=other.json"
    )
    parser.add_argument(
        "--threshold",
        type=float,
        metavar="SCORE",
        help="score from which on a detection counts (default: as densedet predict)",
    )
    parser.add_argument(
        "--iou", type=float, default=0.5, help="from which on a detection finds an object (default 0.5)"
    )
    parser.add_argument(
        "--split", choices=("val", "train"), default="val", help="which of the recipe's sources (default val)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, mps")
    parser.add_argument(
        "--plugin", action="append", default=[], metavar="FILE", help="a plug-in file that the recipe needs"
    )
    parser.add_argument("--json", action="store_true", help="print each missed object as JSON")


def missed(arguments: argparse.Namespace) -> int:
    """For each object that a detector misses, one reason: no anchor reached it in training, wrong class, a
    score below the threshold, removed by NMS ... as a table by size and class; each object with --json."""
    from densedet.core.errors import UsageError
    from densedet.core.judgement.missed import missed_objects
    from densedet.core.terminal import progress
    from densedet.core.training import checkpoint
    from densedet.core.training.judging import judge
    from densedet.core.training.prediction import is_recipe

    if arguments.threshold is not None and not 0 <= arguments.threshold <= 1:
        raise UsageError(f"--threshold {arguments.threshold}: give a number from 0 to 1")
    if not 0 < arguments.iou <= 1:
        raise UsageError(f"--iou {arguments.iou}: give a number above 0, up to 1")
    detector: Any = arguments.checkpoint
    if not is_recipe(detector):
        detector = checkpoint.resolve(Path(detector))
    with progress() as bar:
        task = bar.add_task("judging", total=None)
        judgement = judge(
            detector,
            arguments.overrides,
            split=arguments.split,
            iou=arguments.iou,
            device=arguments.device,
            plugins=arguments.plugin,
            on_batch=lambda done: bar.update(task, completed=done),
        )
    found = missed_objects(judgement, threshold=arguments.threshold)
    origin = judgement.thresholds_from if arguments.threshold is None else "given"
    if arguments.json:
        about = {"checkpoint": str(detector), "images": len(judgement), "thresholds_from": origin}
        say(json_text({**about, **found.to_dict()}))
    else:
        say(
            "\n".join(
                [*heading(detector, judgement, found, origin), *by_size(found), *by_class(judgement, found)]
            )
        )
    return 0


def heading(detector: Any, judgement: Judgement, found: MissedObjects, origin: str) -> list[str]:
    """Return the line that says what was judged and how many objects are missed."""
    low, high = min(found.thresholds), max(found.thresholds)
    scores = f"{low:.3g}" if low == high else f"{low:.3f} to {high:.3f}"
    return [
        f"{detector} misses {len(found.missed)} of {found.objects} objects in {len(judgement)} images of "
        f"data.{judgement.split}",
        f"(IoU {found.iou:g}, score threshold {scores}: {origin}; at most {found.max_detections} detections "
        f"of a class in an image)",
    ]


def by_size(found: MissedObjects) -> list[str]:
    """Return a table of the reasons by COCO's sizes."""
    if not found.missed:
        return []
    sizes = found.by_size()
    width = max(map(len, found.counts()))
    lines = ["", f" {'reason':<{width}}    all" + "".join(f"{name:>8}" for name in sizes)]
    for reason, count in found.counts().items():
        cells = "".join(f"{row.get(reason, 0):>8}" for row in sizes.values())
        lines.append(f" {reason:<{width}} {count:6}{cells}")
    return lines


def by_class(judgement: Judgement, found: MissedObjects) -> list[str]:
    """Return a line for each of the classes of which most objects are missed."""
    rows = sorted(found.by_class().items(), key=lambda row: -sum(row[1].values()))
    if not rows:
        return []
    truth = judgement.truth
    width = max(len("class"), *(len(name) for name, _ in rows[:WORST]))
    lines = ["", f" {'class':<{width}}  missed   of"]
    for name, reasons in rows[:WORST]:
        objects = int(((truth.labels == judgement.classes.index(name)) & ~truth.ignored).sum())
        listed = ", ".join(f"{reason} {count}" for reason, count in reasons.items())
        lines.append(f" {name:<{width}}  {sum(reasons.values()):6} {objects:4}  {listed}")
    if len(rows) > WORST:
        lines.append(f" and {len(rows) - WORST} classes more: --json lists each object")
    return lines
