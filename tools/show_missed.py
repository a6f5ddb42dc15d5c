"""What a trained detector gets wrong on its images: why objects are missed, and the worst images."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densedet.tools.show_views import add_output, check_output, hand_over

if TYPE_CHECKING:
    from densedet.core.judgement.judgement import Judgement


def add_judged(topics: Any) -> None:
    """Add `missed` and `worst` to the parser of `densedet show`."""
    one = topics.add_parser("missed", help="why a detector misses objects", description=missed.__doc__)
    add_arguments(one, 8, "pictures of each reason")
    one.set_defaults(run=missed)
    one = topics.add_parser(
        "worst", help="the images that cost most AP, and labels that may be wrong", description=worst.__doc__
    )
    add_arguments(one, 12, "images, and labels of each kind")
    one.set_defaults(run=worst)


def add_arguments(parser: argparse.ArgumentParser, count: int, counted: str) -> None:
    """Add the arguments of a topic about a trained detector on its images."""
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
    parser.add_argument(
        "--count", type=int, default=count, metavar="N", help=f"most {counted} (default {count})"
    )
    add_output(parser)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, mps")
    parser.add_argument(
        "--plugin", action="append", default=[], metavar="FILE", help="a plug-in file that the recipe needs"
    )
    parser.add_argument("--json", action="store_true", help="print the numbers of each object as JSON")


def missed(arguments: argparse.Namespace) -> int:
    """For each object that a detector misses, one reason: no anchor reached it in training, wrong class, a
    score below the threshold, removed by NMS ... as a table by size and class; each object with --json, and
    pictures with --output."""
    from densedet.core.judgement.missed import missed_objects
    from densedet.core.showing.missed import missed_page

    judgement, source, name = judged(arguments)
    found = missed_objects(judgement, threshold=arguments.threshold)
    page = missed_page(
        judgement,
        found,
        source,
        name,
        thresholds_from=judgement.thresholds_from if arguments.threshold is None else "given",
        count=arguments.count,
        pictures=bool(arguments.output),
    )
    return hand_over(page, arguments)


def worst(arguments: argparse.Namespace) -> int:
    """The images that cost most AP, and labels that may be wrong: confident detections without an object or
    of another class, and objects that nothing in the image points at."""
    from densedet.core.showing.worst import worst_page

    judgement, source, name = judged(arguments)
    page = worst_page(
        judgement,
        source,
        name,
        threshold=arguments.threshold,
        count=arguments.count,
        pictures=bool(arguments.output),
    )
    return hand_over(page, arguments)


def judged(arguments: argparse.Namespace) -> tuple[Judgement, Any, str]:
    """Judge the detector, or take the judgement that lies beside it.

    Returns:
        The judgement, the judged images, and the detector's name.
    """
    from densedet.core.errors import UsageError
    from densedet.core.terminal import progress
    from densedet.core.training import checkpoint
    from densedet.core.training.judging import judge, judged_source
    from densedet.core.training.prediction import is_recipe

    if arguments.threshold is not None and not 0 <= arguments.threshold <= 1:
        raise UsageError(f"--threshold {arguments.threshold}: give a number from 0 to 1")
    if not 0 < arguments.iou <= 1:
        raise UsageError(f"--iou {arguments.iou}: give a number above 0, up to 1")
    if arguments.count < 1:
        raise UsageError(f"--count {arguments.count}: give at least 1")
    check_output(arguments)
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
    source = judged_source(judgement, plugins=arguments.plugin) if arguments.output else None
    return judgement, source, str(detector)
