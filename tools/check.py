"""Check a data set before training on it (classes, broken boxes and images, duplicates, sizes after resizing,
class balance), a recipe, the parts of a plug-in, or a lesson."""

from __future__ import annotations

import sys
from typing import Any

from densedet.tools import check_data, check_lesson, check_nan, check_plugin, check_recipe


def add_parser(subparsers: Any) -> None:
    """densedet check data RECIPE | FILE, densedet check plugin FILE | PACKAGE"""
    parser = subparsers.add_parser(
        "check", help="look for trouble before it costs a night", description=__doc__
    )
    topics = parser.add_subparsers(dest="topic", metavar="TOPIC", required=True)
    check_data.add_parser(topics)
    check_recipe.add_parser(topics)
    check_plugin.add_parser(topics)
    check_nan.add_parser(topics)
    check_lesson.add_parser(topics)


if __name__ == "__main__":
    from densedet.tools.main import run_file

    sys.exit(run_file(__file__))
