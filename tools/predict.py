"""Find objects in images, folders of images, a video or what a camera sees: pictures with boxes, and JSON in
source pixels."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from densedet.core.text import counted, say
from densedet.tools.predict_output import Pictures, output_folder, results_file, tiling_of

if TYPE_CHECKING:
    from densedet.core.annotations.source import TableSource
    from densedet.core.training.prediction import Predictor
    from densedet.core.types import Detections

OVERRIDE = re.compile(r"[a-z_]+(\.\w+)+=")
"""Tells changes to the recipe from images on the command line."""


NAMED = 20
"""Classes of which the thresholds are listed."""


def add_parser(subparsers: Any) -> None:
    """densedet predict RUN IMAGE_OR_FOLDER ..."""
    parser = subparsers.add_parser("predict", help="find objects in images", description=__doc__)
    parser.add_argument(
        "checkpoint",
        help="a run folder (its best.pt), a checkpoint, a recipe with model.weights=FILE, or a file of "
        "densedet export (.onnx)",
    )
    parser.add_argument(
        "images",
        nargs="*",
        help="image files, or folders of them (default: all of --annotations), or one video file or camera "
        "(camera:0), and changes to the recipe (path=value)",
    )
    parser.add_argument(
        "--annotations",
        metavar="FILE",
        help="a data set that has the images, in any format: results.json gets its image and category ids",
    )
    parser.add_argument("--split", metavar="NAME", help="of --annotations with several parts")
    parser.add_argument(
        "--output",
        metavar="DIR",
        help="folder for pictures and results.json (default: runs/predict/N); of a video also a new .mp4, "
        "beside which its .json goes, or a new .json alone",
    )
    parser.add_argument(
        "--score",
        type=float,
        help="draw and write detections from this score on (default: the thresholds of the classes that "
        "densedet evaluate --thresholds has saved in the checkpoint, else 0.3)",
    )
    parser.add_argument(
        "--batch_size", "--batch-size", type=int, default=16, help="images or tiles at once (default 16)"
    )
    parser.add_argument(
        "--tiles",
        metavar="WxH[+OVERLAP]",
        help="cut large images into tiles of this size in their own pixels and merge what is found; auto: "
        "tiles of the detector's input size; neighbours share OVERLAP pixels (default: a quarter of the "
        "shorter side)",
    )
    parser.add_argument(
        "--as",
        dest="proposals",
        metavar="FORMAT",
        help="also write what is found as annotations to correct in a labelling tool: labelme, cvat, coco, "
        "voc, yolo or another format that densedet convert writes, with the images linked beside them",
    )
    parser.add_argument("--no-pictures", action="store_true", help="write results.json only")
    parser.add_argument("--frames", type=int, metavar="N", help="of a video or camera, the first N alone")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, mps")
    parser.add_argument(
        "--plugin", action="append", default=[], metavar="FILE", help="a plug-in file that the recipe needs"
    )
    parser.add_argument("--json", action="store_true", help="print the results as JSON too")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Predict. The exit code is 3 where an image could not be read; the others are predicted all the same."""
    from densedet.core.machine import sleep_while_waiting

    sleep_while_waiting()
    from densedet.core.data.decoding import range_notes
    from densedet.core.data.video import is_video
    from densedet.core.errors import DataError, UsageError
    from densedet.core.recipe.plugin_loading import load_plugins
    from densedet.core.results import coco_results
    from densedet.core.terminal import progress
    from densedet.core.training.memory import keep_freed_memory
    from densedet.core.types import DEFAULT_SCORE
    from densedet.tools.predict_proposals import Proposals
    from densedet.tools.predict_video import check_alone, predict_video

    if arguments.score is not None and not 0 <= arguments.score <= 1:
        raise UsageError(f"--score {arguments.score} is no score: give a number from 0 to 1")
    if arguments.batch_size < 1:
        raise UsageError(f"--batch_size {arguments.batch_size}: give at least 1")
    keep_freed_memory()
    overrides = [text for text in arguments.images if OVERRIDE.match(text) and not os.path.exists(text)]
    predictor = load_any(arguments, overrides)
    paths = [text for text in arguments.images if text not in overrides]
    score = arguments.score
    if score is None and predictor.thresholds is None:
        score = DEFAULT_SCORE
    if any(map(is_video, paths)):
        if arguments.proposals is not None:
            raise UsageError("--as goes with images, not with a video: write its frames out first")
        check_alone(paths, arguments)
        code = predict_video(paths[0], predictor, score, arguments)
        say(threshold_line(predictor, arguments.score), error=True)
        return code
    if arguments.frames is not None:
        raise UsageError("--frames goes with a video or a camera")
    wanted = _wanted(paths, arguments, predictor)
    files = wanted.files
    broken: list[str] = []
    proposals = None
    if arguments.proposals is not None:
        components = load_plugins(arguments.plugin).components
        of_results = wanted.image_ids, predictor.classes, wanted.category_ids
        proposals = Proposals(arguments.proposals, components, files, *of_results)
    tiles = tiling_of(predictor, arguments.tiles)
    with output_folder(arguments.output) as folder, results_file(folder / "results.json") as write:
        stream = predictor.stream(
            files,
            batch_size=arguments.batch_size,
            score=score,
            on_broken=lambda _, error: broken.append(str(error)),
            **tiles,
        )

        def written() -> Iterator[tuple[int, Detections]]:
            for index, found in stream:
                rows = coco_results(found, wanted.image_ids[index], wanted.category_ids)
                write([{**row, "file_name": str(files[index])} for row in rows])
                if proposals is not None:
                    proposals.add(index, rows)
                yield index, found

        pictures = Pictures(folder, files, predictor.decoding)
        done = written() if arguments.no_pictures else pictures.drawn(written())
        with progress() as bar:
            for _ in bar.track(done, total=len(files), description="predicting"):
                pass
    if proposals is not None:
        say(f"proposals to correct -> {proposals.write(folder)}", error=True)
    if arguments.json:
        say((folder / "results.json").read_text())
    if pictures.unwritten:
        say(
            f"warning: {pictures.unwritten} pictures could not be written, the first of {pictures.fault}",
            error=True,
        )
    say(
        f"{counted(write.rows, 'object')} in {counted(len(files) - len(broken), 'image')} -> {folder}",
        error=True,
    )
    say(threshold_line(predictor, arguments.score), error=True)
    notes = range_notes(files[:: len(files) // 16 + 1], predictor.decoding)
    for text in [*(f"left out: {text}" for text in broken), *wanted.left_out, wanted.note, *notes]:
        say(text, error=True)
    return DataError.exit_code if broken or wanted.left_out else 0


def load_any(arguments: argparse.Namespace, overrides: list[str]) -> Any:
    """Return the predictor of a checkpoint, or of an ONNX file, for which torch is not imported."""
    from densedet.core.inference.predictor import ExportedPredictor, is_exported

    if is_exported(arguments.checkpoint):
        return ExportedPredictor(
            arguments.checkpoint, overrides, device=arguments.device, plugins=arguments.plugin
        )
    from densedet.core.training.prediction import load

    return load(arguments.checkpoint, device=arguments.device, plugins=arguments.plugin, overrides=overrides)


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
    from densedet.core.annotations.images import find_images
    from densedet.core.annotations.parts import choose
    from densedet.core.class_table import label_map
    from densedet.core.errors import UsageError
    from densedet.core.training.image_ids import ids_in, image_ids

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
    files = files or _files_of(source)
    categories = assembly.category_ids(predictor.recipe, predictor.classes, source)
    note = "; ".join(filter(None, [f"image ids are those of {arguments.annotations}", note]))
    return Wanted(files, ids_in(source, files), categories, left_out, note)


def _files_of(source: TableSource) -> list[Path]:
    """Return the images of a data set. Raises UsageError where one has no file of its own."""
    from densedet.core.errors import UsageError

    images: list[Any] = [source.image(index) for index in range(len(source))]
    for index, image in enumerate(images):
        if isinstance(image, bytes):
            raise UsageError(
                f"image {source.table.name(index)} is part of its annotation file: write it out with "
                f"densedet convert A B --to labelme --copy-images, and name B"
            )
    return [Path(image) for image in images]


if __name__ == "__main__":
    from densedet.tools.main import run_file

    sys.exit(run_file(__file__))
