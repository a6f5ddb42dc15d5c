"""`densedet show anchors` and the other topics that draw pictures: a page and PNG files in a new folder."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densedet.core.text import counted, json_text, say

if TYPE_CHECKING:
    from densedet.core.showing.page import Page
    from densedet.core.showing.subject import Wanted


def add_views(topics: Any) -> None:
    """Add the topics to the parser of `densedet show`."""
    one = add_topic(topics, "model", "parts, maps, costs, receptive fields, anchors", model)
    add_images(one, count=None)
    one = add_topic(topics, "data", "augmented training batches, and what the sampler draws", data)
    add_images(one, split=None, count=16, what="pictures of a batch")
    one.add_argument("--batches", type=int, default=1, metavar="N", help="how many (default 1)")
    one.add_argument("--epoch", type=int, default=0, metavar="N", help="from this one on (default 0)")
    one.add_argument(
        "--progress",
        type=float,
        default=0.0,
        metavar="P",
        help="of the training, 0..1: what has an until in the recipe ends there (default 0)",
    )
    one = add_topic(topics, "anchors", "anchors on images, level by level", anchors)
    add_images(one)
    one = add_topic(topics, "matches", "the anchors that objects get in training", matches)
    add_images(one)
    one = add_topic(topics, "heatmaps", "the class head's scores over images", heatmaps)
    add_images(one, count=1)  # the only topic that runs the network on each
    one.add_argument(
        "--class",
        dest="classes",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME",
        help="classes to show (default: those of an image's objects, else those of the best scores)",
    )


def add_topic(topics: Any, name: str, summary: str, run: Callable[[argparse.Namespace], int]) -> Any:
    """Add a topic with the arguments that all of them have; return its parser."""
    parser = topics.add_parser(name, help=summary, description=run.__doc__)
    parser.add_argument("what", help="a run folder (its best.pt), a checkpoint, or a recipe")
    parser.add_argument("overrides", nargs="*", metavar="path=value", help="changes to the recipe")
    add_output(parser)
    parser.add_argument(
        "--plugin", action="append", default=[], metavar="FILE", help="a plug-in file that the recipe needs"
    )
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    parser.set_defaults(run=run)
    return parser


def add_output(parser: argparse.ArgumentParser) -> None:
    """Add --output."""
    parser.add_argument("--output", metavar="DIR", help="a new folder for index.html and its pictures")


def add_images(
    parser: argparse.ArgumentParser,
    *,
    split: str | None = "val",
    count: int | None = 4,
    what: str = "images where none is named, from the first on",
) -> None:
    """Add the arguments that name images.

    Args:
        parser: of a topic.
        split: which of the recipe's images are meant where the user does not tell; None: the training's,
            always.
        count: how many are shown where the user does not tell; None: one, always.
        what: this counts, in words.
    """
    # One is one word, so that another argument may follow it.
    each: dict[str, Any] = {"action": "append"} if count is None else {"nargs": "+", "action": "extend"}
    parser.add_argument("--image", **each, default=[], metavar="FILE", help="image files")
    parser.add_argument(
        "--box",
        action="append",
        default=[],
        metavar="CLASS,X1,Y1,X2,Y2",
        help="an object in the one --image, in its pixels; may come several times",
    )
    parser.add_argument(
        "--number",
        **each,
        type=int,
        default=[],
        metavar="N",
        help="images of the recipe by their position, from 0 on",
    )
    parser.add_argument("--id", **each, default=[], metavar="ID", help="images of the recipe by their id")
    if count is None:
        parser.set_defaults(count=1)
    else:
        parser.add_argument(
            "--count", type=int, default=count, metavar="N", help=f"most {what} (default {count})"
        )
    if split is None:
        parser.set_defaults(split="train")
    else:
        parser.add_argument(
            "--split",
            choices=("val", "train"),
            default=split,
            help=f"which of the recipe's images (default {split})",
        )


def wanted_of(arguments: argparse.Namespace) -> Wanted:
    """Return the images that the arguments name."""
    from densedet.core.showing.subject import Wanted, check_wanted

    wanted = Wanted(
        arguments.image, arguments.number, arguments.id, arguments.box, arguments.split, arguments.count
    )
    check_wanted(wanted)
    return wanted


def check_output(arguments: argparse.Namespace) -> None:
    """Raise UsageError where --output is there already, before the work."""
    from densedet.core.files import check_free

    if arguments.output:
        check_free(Path(arguments.output))


def hand_over(page: Page, arguments: argparse.Namespace) -> int:
    """Write a page where --output asks for it, and print its numbers; the exit code."""
    files = page.write(Path(arguments.output)) if arguments.output else []
    say(json_text(page.values, indent=1) if arguments.json else page.text())
    if files:
        say(f"{counted(len(files) - 1, 'picture')} and the page -> {files[0]}", error=True)
    elif any(block.figures for block in page.blocks):
        say("--output DIR writes the pictures and a page with them", error=True)
    return 0


def model(arguments: argparse.Namespace) -> int:
    """The parts of a detector and the stages of its backbone: their maps, parameters, multiply-adds and
    receptive fields, and the anchors of each level. It needs no images."""
    from densedet.core.showing.model import model_page
    from densedet.core.showing.subject import subject_of

    check_output(arguments)
    wanted = wanted_of(arguments)
    subject = subject_of(arguments.what, arguments.overrides, plugins=arguments.plugin, without_data=True)
    return hand_over(model_page(subject, wanted), arguments)


def data(arguments: argparse.Namespace) -> int:
    """Training batches as they reach the network, with the boxes after the augmentation; which of it takes
    part at a progress of the training; and how often the sampler draws each class."""
    from densedet.core.showing.data import data_page, recipe_of

    check_output(arguments)
    wanted = wanted_of(arguments)
    recipe = recipe_of(arguments.what, arguments.overrides, arguments.plugin)
    page = data_page(
        recipe, wanted, batches=arguments.batches, epoch=arguments.epoch, progress=arguments.progress
    )
    return hand_over(page, arguments)


def anchors(arguments: argparse.Namespace) -> int:
    """The anchors of each level on images, at the middle of the image, and the sizes of the objects beside
    theirs."""
    from densedet.core.showing.anchors import anchors_page
    from densedet.core.showing.subject import subject_of, views_of

    check_output(arguments)
    wanted = wanted_of(arguments)
    subject = subject_of(arguments.what, arguments.overrides, plugins=arguments.plugin)
    return hand_over(anchors_page(subject, views_of(subject, wanted)), arguments)


def matches(arguments: argparse.Namespace) -> int:
    """The anchors that the recipe's matcher gives to each object, by level, the ignored ones, and the objects
    that get none."""
    from densedet.core.showing.matches import matches_page
    from densedet.core.showing.subject import subject_of, views_of

    check_output(arguments)
    wanted = wanted_of(arguments)
    subject = subject_of(arguments.what, arguments.overrides, plugins=arguments.plugin)
    return hand_over(matches_page(subject, views_of(subject, wanted)), arguments)


def heatmaps(arguments: argparse.Namespace) -> int:
    """The scores of the class head as maps over images, for each level and class."""
    from densedet.core.showing.heatmaps import heatmaps_page
    from densedet.core.showing.subject import subject_of, views_of

    check_output(arguments)
    wanted = wanted_of(arguments)
    subject = subject_of(arguments.what, arguments.overrides, plugins=arguments.plugin)
    page = heatmaps_page(subject, views_of(subject, wanted), named=arguments.classes)
    return hand_over(page, arguments)
