"""Evaluate a detector (a run's, a checkpoint's, or a recipe's with model.weights=FILE), and write its
detections as COCO results JSON."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densedet.core.text import counted, json_text, say
from densedet.tools.predict_output import results_file

if TYPE_CHECKING:
    from densedet.core.judgement.thresholds import ClassThreshold
    from densedet.core.training.judging import Evaluation
    from densedet.core.types import Detections


def add_parser(subparsers: Any) -> None:
    """densedet evaluate RUN [path=value ...]"""
    parser = subparsers.add_parser("evaluate", help="evaluate a trained detector", description=__doc__)
    parser.add_argument(
        "checkpoint",
        help="a run folder (its best.pt), a checkpoint, a recipe with model.weights, or a file of densedet "
        "export (.onnx)",
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
    parser.add_argument(
        "--thresholds",
        metavar="WISH",
        help="find the score of each class from which on a detection counts, on these images at IoU 0.5: f1 "
        "(the best F1), precision=0.9 or recall=0.8 (at least so much)",
    )
    parser.add_argument(
        "--save",
        action="store_true",
        help="write the thresholds into the checkpoint, for densedet predict",
    )
    parser.add_argument(
        "--tiles",
        metavar="WxH[+OVERLAP]",
        help="evaluate what densedet predict --tiles finds: see there; no validation losses are computed",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, mps")
    parser.add_argument(
        "--plugin", action="append", default=[], metavar="FILE", help="a plug-in file that the recipe needs"
    )
    parser.add_argument("--json", action="store_true", help="print the metrics as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Evaluate, print the numbers and write the detections."""
    from densedet.core.inference.predictor import is_exported

    if is_exported(arguments.checkpoint):
        return run_exported(arguments)
    from densedet.core.distributed import gather_objects, world
    from densedet.core.errors import UsageError
    from densedet.core.files import check_free
    from densedet.core.judgement.thresholds import Wish, find_thresholds
    from densedet.core.terminal import progress
    from densedet.core.training.judging import Evaluation, check_savable, save_thresholds
    from densedet.core.training.memory import keep_freed_memory

    wish = None if arguments.thresholds is None else Wish.parse(arguments.thresholds)
    check_save(arguments)
    if arguments.tiles is not None and wish is not None:
        raise UsageError("--thresholds is found on whole images: leave out --tiles")
    if arguments.output:
        check_free(Path(arguments.output))
    keep_freed_memory()
    kept: dict[int, Detections] = {}  # of each image, by its position in the source
    evaluation = Evaluation(
        arguments.checkpoint,
        arguments.overrides,
        split=arguments.split,
        device=arguments.device,
        plugins=arguments.plugin,
    )
    if arguments.save:
        check_savable(evaluation)

    tiling = None if arguments.tiles is None else evaluation.predictor.tiling(arguments.tiles)
    found = None
    with progress() as bar:
        task = bar.add_task("evaluating", total=len(evaluation.source))
        callbacks: dict[str, Any] = {
            "on_batch": lambda done: bar.update(task, completed=done * world()[1]),
            "on_detections": kept.__setitem__ if arguments.output else None,
        }
        if wish is None:
            numbers = evaluation.run(tiling, **callbacks).numbers
        else:
            judgement = evaluation.judge(**callbacks)
            numbers, found = judgement.metrics, find_thresholds(judgement, wish)
    if arguments.output:
        kept = {index: one for part in gather_objects(kept) for index, one in part.items()}
    if arguments.json:
        told = {} if found is None else {"thresholds": threshold_facts(evaluation, wish, found)}
        say(json_text({**numbers, "data": evaluation.facts, **told}))
    else:
        told_lines = [] if found is None else threshold_lines(evaluation, wish, found)
        say("\n".join([*evaluation.report(numbers), *told_lines, *evaluation.notes]))
    if arguments.save and wish is not None and found is not None:
        file = save_thresholds(evaluation, arguments.checkpoint, wish, found)
        say(f"thresholds saved in {file}: densedet predict goes by them", error=True)
    # Last: where the disk is full, the numbers are told all the same.
    if arguments.output and world()[0] == 0:
        write_results(arguments.output, kept, evaluation.source, evaluation.predictor.category_ids)
    return 0


def write_results(
    output: str, kept: dict[int, Detections], source: Any, category_ids: Sequence[int | None]
) -> None:
    """Write detections as a COCO results file, image by image: as mappings, those of a large set would take
    more memory than the evaluation.

    Args:
        output: the file; nothing is there.
        kept: the detections of each image, by its position in the source.
        source: has the ids of the images.
        category_ids: see `densedet.core.results.coco_results`.
    """
    from densedet.core.results import coco_results

    with results_file(Path(output)) as write:
        for index in sorted(kept):
            write(coco_results(kept[index], source.annotation(index).image_id, category_ids))
    say(f"{counted(write.rows, 'detection')} in {output}", error=True)


def run_exported(arguments: argparse.Namespace) -> int:
    """Evaluate an ONNX file, without torch; otherwise as `run`."""
    from densedet.core.errors import UsageError
    from densedet.core.files import check_free
    from densedet.core.inference.evaluation import ExportedEvaluation
    from densedet.core.terminal import progress

    if arguments.tiles is not None:
        raise UsageError("--tiles needs a run folder, a checkpoint or a recipe, not an exported file")
    if arguments.thresholds is not None:
        raise UsageError(
            f"--thresholds takes the checkpoint that {arguments.checkpoint} was exported from: export it "
            f"again afterwards"
        )
    if arguments.output:
        check_free(Path(arguments.output))
    evaluation = ExportedEvaluation(
        arguments.checkpoint,
        arguments.overrides,
        split=arguments.split,
        device=arguments.device,
        plugins=arguments.plugin,
    )
    kept: dict[int, Detections] = {}
    with progress() as bar:
        task = bar.add_task("evaluating", total=len(evaluation))
        numbers = evaluation.run(
            on_batch=lambda done: bar.update(task, completed=done),
            on_detections=kept.__setitem__ if arguments.output else None,
        ).numbers
    if arguments.json:
        say(json_text({**numbers, "data": evaluation.facts}))
    else:
        say("\n".join([*evaluation.report(numbers), *evaluation.notes]))
    if arguments.output:
        write_results(arguments.output, kept, evaluation.truth, evaluation.predictor.category_ids)
    return 0


def check_save(arguments: argparse.Namespace) -> None:
    """Raise UsageError where --save has nothing to save, or nowhere."""
    from densedet.core.errors import UsageError
    from densedet.core.training.prediction import is_recipe

    if arguments.save and arguments.thresholds is None:
        raise UsageError("--save goes with --thresholds: write --thresholds f1 --save")
    if arguments.save and is_recipe(arguments.checkpoint):
        raise UsageError(
            f"--save writes into a checkpoint, and {arguments.checkpoint} is a recipe: give a run folder or "
            f"a .pt file"
        )


def threshold_facts(evaluation: Evaluation, wish: Any, found: list[ClassThreshold]) -> dict[str, Any]:
    """Return thresholds as plain values."""
    return {
        "wish": str(wish),
        "images": evaluation.images,
        "classes": {one.class_name: asdict(one) for one in found if one.class_name},
    }


def threshold_lines(evaluation: Evaluation, wish: Any, found: list[ClassThreshold]) -> list[str]:
    """Return a table of thresholds, a line a class, and what they were found on."""
    from densedet.core.types import DEFAULT_SCORE

    width = max(len("class"), *(len(one.class_name) for one in found))
    lines = ["", f" {'class':<{width}}  score  precision  recall    F1  objects"]
    for one in (one for one in found if one.class_name):
        numbers = (
            f"{one.score:5.3f}      {one.precision:.3f}   {one.recall:.3f} {one.f1:.3f}"
            if one.score is not None
            else "    -          -       -     -"
        )
        note = f"  {one.note}: the default {DEFAULT_SCORE} counts" if one.note else ""
        lines.append(f" {one.class_name:<{width}}  {numbers}  {one.objects:7}{note}")
    lines.append(f" thresholds ({wish}) at IoU 0.5, found on {evaluation.images}")
    if evaluation.split == "train":
        lines.append(" these are training images, on which scores are higher: find thresholds on others")
    return lines


if __name__ == "__main__":
    from densedet.tools.main import run_file

    sys.exit(run_file(__file__))
