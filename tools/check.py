"""Check a data set before training on it (classes, broken boxes and images, duplicates, sizes after resizing,
class balance), a recipe, the parts of a plug-in, or a lesson."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from densedet.core.text import say
from densedet.tools import check_data, check_lesson, check_nan, check_plugin


def add_parser(subparsers: Any) -> None:
    """densedet check data RECIPE | FILE, densedet check plugin FILE | PACKAGE"""
    parser = subparsers.add_parser(
        "check", help="look for trouble before it costs a night", description=__doc__
    )
    topics = parser.add_subparsers(dest="topic", metavar="TOPIC", required=True)
    check_data.add_parser(topics)
    one = topics.add_parser(
        "recipe", help="build all that training builds, and train nothing", description=recipe.__doc__
    )
    one.add_argument("recipe", help="a YAML file or a shipped recipe's name")
    one.add_argument("overrides", nargs="*", metavar="path=value")
    one.add_argument("--no-data", action="store_true", help="leave out what needs the images and boxes")
    one.set_defaults(run=recipe)
    check_plugin.add_parser(topics)
    check_nan.add_parser(topics)
    check_lesson.add_parser(topics)


def recipe(arguments: argparse.Namespace) -> int:
    """Refuse a recipe that training would refuse: load it, build its parts together and run the network once
    without computing, then open its data, build the hooks, evaluate a few images and compute the losses of
    one batch. Nothing is trained, and no run folder is made."""
    from densedet.core.recipe.loading import load_recipe

    loaded = load_recipe(arguments.recipe, arguments.overrides)
    from densedet.core.training.fit import check_fit, try_run  # imports torch: faults of the text come first

    check_fit(loaded)
    lines = [] if arguments.no_data else try_run(loaded)
    say("\n".join([*lines, f"{loaded.name} can be trained"]))
    return 0


if __name__ == "__main__":
    from densedet.tools.main import run_file

    sys.exit(run_file(__file__))
