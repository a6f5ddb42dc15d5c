"""Convert annotations between COCO JSON, Pascal VOC, YOLO, LabelMe, CVAT, FlatBuffers (.db) and SQLite, and
from Roboflow's exports.

Written `densedet convert weights A B`, it converts a detector's weights between our names and another
library's.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from densedet.core.annotations.bringing import bring_image
from densedet.core.errors import UsageError
from densedet.core.files import unwritable
from densedet.core.text import counted, json_text, say

if TYPE_CHECKING:
    from rich.progress import Progress

    from densedet.core.annotations.source import TableSource

SHOWN = 20
"""Sentences about the input that are printed; --report FILE has all."""


def add_parser(subparsers: Any) -> None:
    """Add `densedet convert A B` and `densedet convert weights A B`."""
    parser = subparsers.add_parser(
        "convert", help="annotations from one format to another", description=__doc__
    )
    parser.add_argument(
        "source",
        help="a file or folder; its format is recognised. 'weights A B': weights instead of annotations",
    )
    parser.add_argument(
        "target",
        help="the file or folder to write: x.db, x.sqlite, x.json, x.xml (CVAT), or a folder with --to voc, "
        "--to yolo or --to labelme",
    )
    parser.add_argument("weights_target", nargs="?", metavar="B", help="after 'weights A': the file to write")
    parser.add_argument(
        "--from", dest="source_format", metavar="NAME", help="the source's format, where it is not recognised"
    )
    parser.add_argument(
        "--to",
        dest="target_format",
        metavar="NAME",
        help="the target's format, where its name does not determine it; for weights, the side whose names "
        "they get",
    )
    parser.add_argument(
        "--split",
        metavar="NAME",
        help="the part (train, val or test) to read from a data set with several, and its name in a folder "
        "that is written; a VOC or YOLO folder takes one split after the other",
    )
    parser.add_argument(
        "--images", metavar="DIR", help="the source's folder of images, where densedet does not find it"
    )
    parser.add_argument(
        "--where",
        metavar="SQL",
        help="write only these images and boxes, e.g. \"width > 500 and class in ('person', 'car')\"",
    )
    parser.add_argument(
        "--copy-images", action="store_true", help="copy the images to where the target's format expects them"
    )
    parser.add_argument(
        "--link-images", action="store_true", help="link them there instead (hard links where possible)"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace target and --report files that exist"
    )
    parser.add_argument(
        "--report", metavar="FILE", help="a file for every sentence about faults of the input"
    )
    parser.add_argument(
        "--plugin",
        action="append",
        default=[],
        metavar="FILE",
        help="a plug-in file with a format of its own",
    )
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Convert, and print what was wrong."""
    if arguments.weights_target is not None:
        if arguments.source != "weights":
            raise UsageError(
                f"{arguments.weights_target} is one name too many: write densedet convert A B, or "
                f"densedet convert weights A B"
            )
        return convert_weights(arguments)
    from densedet.core.annotations.conversion import convert, open_source, writer_of
    from densedet.core.annotations.folders import is_free
    from densedet.core.annotations.parts import choose
    from densedet.core.annotations.where import where_masks
    from densedet.core.recipe.plugin_loading import load_plugins

    components = load_plugins(arguments.plugin).components
    path = Path(arguments.target)
    target = writer_of(path, components, arguments.target_format)
    if not is_free(path) and not (path.is_file() and arguments.overwrite) and not joins(target, path):
        raise _taken(path)
    if arguments.copy_images and arguments.link_images:
        raise UsageError("give --copy-images or --link-images, not both")
    if (arguments.copy_images or arguments.link_images) and target.image_folder is None:
        raise UsageError(
            f"{path.name} does not hold images: it is used with --images DIR or a recipe's 'images'"
        )
    spec, part, note = choose(
        Path(arguments.source), components, split=arguments.split, name=arguments.source_format
    )
    if note:
        say(note, error=True)
    source = open_source(spec, components, images=arguments.images)
    split = part or "train"
    with contextlib.ExitStack() as stack:
        on_fault = None
        if arguments.report:
            sentences = stack.enter_context(_new_report(Path(arguments.report), arguments.overwrite))
            on_fault = partial(print, file=sentences)
        bar = stack.enter_context(progress(source))
        report = convert(
            source,
            target,
            path,
            split=split,
            overwrite=arguments.overwrite,
            where=arguments.where,
            on_fault=on_fault,
        )
        if arguments.copy_images or arguments.link_images:
            chosen: Sequence[int] = range(len(source))
            if arguments.where is not None:
                chosen = where_masks(source, arguments.where)[0].nonzero()[0].tolist()
            bring_images(source, chosen, target, path, split, link=arguments.link_images, bar=bar)
    for sentence in report.faults.sentences[:SHOWN]:
        say(sentence, error=True)
    if report.extras:
        say(
            f"{', '.join(report.extras)} of the objects are left out: annotation files keep their boxes, "
            f"classes and flags only",
            error=True,
        )
    if arguments.where is not None and not report.boxes and len(source.table.labels):
        known = counted(len(source.table.labels), "box")
        say(f"--where {arguments.where!r} means none of the {known}: the images have no object", error=True)
    total = sum(report.faults.counts.values())
    if total > SHOWN:
        rest = "" if arguments.report else " (--report FILE writes all)"
        say(f"... and {total - SHOWN} more{rest}", error=True)
    if arguments.json:
        numbers = {**vars(report), "source": spec["name"], "target": str(path), **report.faults.numbers()}
        say(json_text(numbers))
        return 0
    say(
        f"{path}: {counted(report.images, 'image')}, {counted(report.boxes, 'box')} of "
        f"{counted(report.classes, 'class')} from {spec['name']}; "
        f"{report.faults.words() or 'nothing was left out or clipped'}"
    )
    return 0


def convert_weights(arguments: argparse.Namespace) -> int:
    """Write weights under the names of the other side."""
    from densedet.core.recipe.plugin_loading import load_plugins
    from densedet.core.weights.pretrained import convert

    path = Path(arguments.weights_target)
    if path.exists() and not (path.is_file() and arguments.overwrite):
        raise _taken(path)
    components = load_plugins(arguments.plugin).components
    used, side, entries = convert(
        arguments.target,
        path,
        components,
        arguments.target_format or arguments.source_format,
        overwrite=arguments.overwrite,
    )
    if arguments.json:
        say(json_text({"weight_map": used, "names": side, "entries": entries, "target": str(path)}))
    else:
        say(f"{path}: {counted(entries, 'entry')} under the names of {side} (by {used})")
    return 0


def _new_report(path: Path, overwrite: bool) -> TextIO:
    try:
        return open(path, "w" if overwrite else "x", encoding="utf-8", errors="backslashreplace")
    except FileExistsError as error:
        raise _taken(path) from error
    except OSError as error:
        raise unwritable(path, error) from error


def _taken(path: Path) -> UsageError:
    return UsageError(
        f"{path} is there already: give another name" + (" or --overwrite" if path.is_file() else "")
    )


def joins(target: type[TableSource], path: Path) -> bool:
    """Return whether ``path`` is a folder in the target's format, to which a split may be added."""
    return path.is_dir() and not target.suffixes and target.recognise(path) is not None


def progress(source: TableSource) -> Progress:
    """Return a bar on standard error that follows the source."""
    from densedet.core import terminal

    bar = terminal.progress()
    task = bar.add_task("reading", total=None)
    source.on_progress = lambda done, total: bar.update(task, completed=done, total=total)
    return bar


def bring_images(
    source: TableSource,
    chosen: Sequence[int],
    target: type[TableSource],
    path: Path,
    split: str,
    *,
    link: bool,
    bar: Progress,
) -> None:
    """Copy or link the images at the positions ``chosen`` of a source to where the target's format has them.

    Raises:
        DataError: another image is there already, or an image cannot be copied.
    """
    place = path / (target.image_folder or "").format(split=split)
    for index in bar.track(chosen, description="images"):
        bring_image(source.image(index), place / source.table.name(index), link=link)


if __name__ == "__main__":
    from densedet.tools.main import run_file

    sys.exit(run_file(__file__))
