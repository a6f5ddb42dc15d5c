"""Evaluate a detector (a run's, a checkpoint's, or a recipe's with model.weights=FILE), and write its
detections as COCO results JSON."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from densedet.core.text import json_text, say


def add_parser(subparsers: Any) -> None:
    """densedet evaluate RUN [path=value ...]"""
    parser = subparsers.add_parser("evaluate", help="evaluate a trained detector", description=__doc__)
    parser.add_argument(
        "checkpoint", help="a run folder (its best.pt), a checkpoint, or a recipe with model.weights"
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="path=value",
        help="e.g. data.val.annotations=other.json data.root=DIR model.weights=FILE",
    )
    parser.add_argument(
        "--split", choices=("val", "train"), default="val", help="which of the recipe's sources (default val)"
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="a new file for the detections as COCO results JSON (source pixels, original category ids)",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, mps")
    parser.add_argument(
        "--plugin", action="append", default=[], metavar="FILE", help="a plug-in file that the recipe needs"
    )
    parser.add_argument("--json", action="store_true", help="print the metrics as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Evaluate, print the numbers and write the detections."""
    from densedet.core.api import Evaluation
    from densedet.core.distributed import gather_objects, world
    from densedet.core.files import check_free, write_text
    from densedet.core.terminal import progress
    from densedet.core.training.prediction import coco_results

    if arguments.output:
        check_free(Path(arguments.output))
    rows: dict[int, list[dict[str, Any]]] = {}  # of each image, by its position in the source
    evaluation = Evaluation(
        arguments.checkpoint,
        arguments.overrides,
        split=arguments.split,
        device=arguments.device,
        plugins=arguments.plugin,
    )

    def keep(index: int, detections: Any) -> None:
        rows[index] = coco_results(
            detections, evaluation.source.annotation(index).image_id, evaluation.predictor.category_ids
        )

    with progress() as bar:
        task = bar.add_task("evaluating", total=len(evaluation.source))
        result = evaluation.run(
            on_batch=lambda done: bar.update(task, completed=done * world()[1]),
            on_detections=keep if arguments.output else None,
        )
    if arguments.output:
        everyone: dict[int, Any] = {
            index: found for part in gather_objects(rows) for index, found in part.items()
        }
        listed = [row for index in sorted(everyone) for row in everyone[index]]
    if arguments.json:
        say(json_text({**result.numbers, "data": evaluation.facts}))
    else:
        say("\n".join([*evaluation.report(result), *evaluation.notes]))
    if arguments.output:  # last: where the disk is full, the numbers are told all the same
        if world()[0] == 0:
            write_text(Path(arguments.output), json_text(listed), overwrite=False)
        say(f"{len(listed)} detections in {arguments.output}", error=True)
    return 0


if __name__ == "__main__":
    from densedet.tools.main import run_file

    sys.exit(run_file(__file__))
