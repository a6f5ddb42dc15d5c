"""Find objects in images or folders of images: pictures and a COCO results JSON, in source pixels."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from densedet.core.text import counted, json_text, say

if TYPE_CHECKING:
    from densedet.core.training.prediction import Predictor

OVERRIDE = re.compile(r"[a-z_]+(\.\w+)+=")
"""Tells changes to the recipe from images on the command line."""


NAMED = 20
"""Classes of which the thresholds are listed."""


def add_parser(subparsers: Any) -> None:
    """densedet predict RUN IMAGE_OR_FOLDER ..."""
    parser = subparsers.add_parser("predict", help="find objects in images", description=__doc__)
    parser.add_argument(
        "checkpoint", help="a run folder (its best.pt), a checkpoint, or a recipe with model.weights=FILE"
    )
    parser.add_argument(
        "images",
        nargs="*",
        help="image files, or folders of them (default: all of --annotations), and changes to the recipe "
        "(path=value)",
    )
    parser.add_argument(
        "--annotations",
        metavar="FILE",
        help="a data set that has the images, in any format: results.json gets its image and category ids",
    )
    parser.add_argument("--split", metavar="NAME", help="of --annotations with several parts")
    parser.add_argument(
        "--output", metavar="DIR", help="folder for pictures and results.json (default: runs/predict/N)"
    )
    parser.add_argument(
        "--score",
        type=float,
        help="draw and write detections from this score on (default: the thresholds of the classes that "
        "densedet evaluate --thresholds has saved in the checkpoint, else 0.3)",
    )
    parser.add_argument(
        "--batch_size", "--batch-size", type=int, default=16, help="images at once (default 16)"
    )
    parser.add_argument("--no-pictures", action="store_true", help="write results.json only")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, mps")
    parser.add_argument(
        "--plugin", action="append", default=[], metavar="FILE", help="a plug-in file that the recipe needs"
    )
    parser.add_argument("--json", action="store_true", help="print the results as JSON too")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Predict. The exit code is 3 where an image could not be read; the others are predicted all the same."""
    from densedet.core.data.decoding import open_image, range_notes
    from densedet.core.errors import DataError, UsageError, sentence
    from densedet.core.files import write_text
    from densedet.core.terminal import progress
    from densedet.core.training.folders import new_folder
    from densedet.core.training.prediction import coco_results, load
    from densedet.core.types import DEFAULT_SCORE

    if arguments.score is not None and not 0 <= arguments.score <= 1:
        raise UsageError(f"--score {arguments.score} is no score: give a number from 0 to 1")
    if arguments.batch_size < 1:
        raise UsageError(f"--batch_size {arguments.batch_size}: give at least 1")
    overrides = [text for text in arguments.images if OVERRIDE.match(text) and not os.path.exists(text)]
    predictor = load(
        arguments.checkpoint, device=arguments.device, plugins=arguments.plugin, overrides=overrides
    )
    wanted = _wanted([text for text in arguments.images if text not in overrides], arguments, predictor)
    files = wanted.files
    folder = empty_folder(Path(arguments.output)) if arguments.output else new_folder(Path("runs"), "predict")
    rows: list[dict[str, Any]] = []
    broken: list[str] = []

    def on_broken(index: int, error: DataError) -> None:
        broken.append(str(error))

    drawn: dict[int, Any] = {}
    score = arguments.score
    if score is None and predictor.thresholds is None:
        score = DEFAULT_SCORE
    try:
        stream = predictor.stream(files, batch_size=arguments.batch_size, score=score, on_broken=on_broken)
        with progress() as bar:
            for index, found in bar.track(stream, total=len(files), description="predicting"):
                rows += [
                    {**row, "file_name": str(files[index])}
                    for row in coco_results(found, wanted.image_ids[index], wanted.category_ids)
                ]
                if not arguments.no_pictures:
                    drawn[index] = found
        write_text(folder / "results.json", json_text(rows, indent=0), overwrite=False)
    except BaseException:
        with contextlib.suppress(OSError):
            folder.rmdir()
        raise
    if arguments.json:
        say(json_text(rows))
    unwritten: list[str] = []  # results are worth more than pictures
    with progress() as bar:
        for index, found in bar.track(drawn.items(), description="drawing"):
            picture = folder / picture_name(index, files[index])
            try:
                whole = open_image(files[index], predictor.decoding)
                found.draw(whole).save(picture)
            except Exception as error:
                unwritten.append(f"{files[index].name}: {sentence(error)}")
            except KeyboardInterrupt:
                picture.unlink(missing_ok=True)
                raise
    if unwritten:
        say(
            f"warning: {len(unwritten)} pictures could not be written, the first of {unwritten[0]}",
            error=True,
        )
    say(
        f"{counted(len(rows), 'object')} in {counted(len(files) - len(broken), 'image')} -> {folder}",
        error=True,
    )
    say(threshold_line(predictor, arguments.score), error=True)
    notes = range_notes(files[:: len(files) // 16 + 1], predictor.decoding)
    for text in [*(f"left out: {text}" for text in broken), *wanted.left_out, wanted.note, *notes]:
        say(text, error=True)
    return DataError.exit_code if broken or wanted.left_out else 0


def threshold_line(predictor: Predictor, score: float | None) -> str:
    """Return the sentence that tells from which scores on detections are shown, and why."""
    scores, origin = predictor.score_thresholds(score)
    if len(set(scores)) == 1 or predictor.thresholds is None:
        listed = f"{scores[0]:.3g} for all classes"
    else:
        named = [f"{name}: {value:.3f}" for name, value in zip(predictor.classes, scores) if name]
        more = f" and {len(named) - NAMED} more" if len(named) > NAMED else ""
        listed = ", ".join(named[:NAMED]) + more
    return f"score thresholds: {listed} ({origin})"


def picture_name(index: int, file: Path) -> str:
    """Return the name of an image's picture, which a file system takes however long the image's name is."""
    stem = os.fsencode(file.stem)[:200].decode("utf-8", "replace")
    return f"{index:05d}_{stem}.png"


class Wanted(NamedTuple):
    """The images of one call, and how results name them.

    Attributes:
        files: the images.
        image_ids: the id of each.
        category_ids: the id of each of the detector's labels; None where the data set lacks the class.
        left_out: sentences about images that cannot be read.
        note: a sentence about the image ids.
    """

    files: list[Path]
    image_ids: list[int | str]
    category_ids: Sequence[int | None]
    left_out: list[str]
    note: str


def _wanted(paths: list[str], arguments: argparse.Namespace, predictor: Predictor) -> Wanted:
    """Find the images and their ids. Raises UsageError or DataError."""
    from densedet.core import assembly
    from densedet.core.annotations.conversion import open_source
    from densedet.core.annotations.parts import choose
    from densedet.core.class_table import label_map
    from densedet.core.errors import UsageError
    from densedet.core.training.image_ids import ids_in, image_ids
    from densedet.core.training.prediction import find_images

    files, left_out = find_images(paths)
    if arguments.annotations is None:
        if not files:
            raise UsageError("name images, folders of images or --annotations FILE")
        if arguments.split is not None:
            raise UsageError("--split goes with --annotations FILE")
        ids, note = image_ids(files, predictor.recipe)
        return Wanted(files, ids, predictor.category_ids, left_out, note)
    components = predictor.recipe.plugins.components
    spec, _, note = choose(Path(arguments.annotations), components, split=arguments.split)
    source = open_source(spec, components)
    label_map(source.classes, predictor.classes)  # which refuses other classes
    files = files or [Path(source.image(index)) for index in range(len(source))]
    categories = assembly.category_ids(predictor.recipe, predictor.classes, source)
    note = "; ".join(filter(None, [f"image ids are those of {arguments.annotations}", note]))
    return Wanted(files, ids_in(source, files), categories, left_out, note)


def empty_folder(folder: Path) -> Path:
    """Make ``folder`` if need be and return it. UsageError where it holds something."""
    from densedet.core.errors import UsageError
    from densedet.core.files import make_folder

    if os.path.lexists(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"--output {folder} is there already and not empty: give another folder")
    make_folder(folder, "give another --output")
    return folder


if __name__ == "__main__":
    from densedet.tools.main import run_file

    sys.exit(run_file(__file__))
