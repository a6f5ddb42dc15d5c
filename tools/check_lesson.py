"""`densedet check lesson`: is a lesson solved, and which mistake was made where it is not?"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from densedet.core.text import json_text, say


def add_parser(topics: Any) -> None:
    """densedet check lesson FILE [--output DIR] [--no-train] [--json]"""
    parser = topics.add_parser(
        "lesson", help="judge a file of densedet new lesson: what is wrong in it?", description=run.__doc__
    )
    parser.add_argument("file", metavar="FILE", help="the file, e.g. my_iou.py")
    parser.add_argument("--output", metavar="DIR", help="draw what it does into this folder, as a new PNG")
    parser.add_argument(
        "--no-train", action="store_true", help="leave out the training with a right solution"
    )
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Judge the file of a lesson by cases that can be computed by hand, by random ones and by the contract of
    its kind of part; name the mistake where it is a usual one. A right solution trains a small detector
    beside the built-in part, which takes some seconds. Exit code 1 where it is not solved."""
    from densedet.core.lessons.process import judge_apart

    output = Path(arguments.output) if arguments.output else None
    verdict = judge_apart(
        Path(arguments.file), output=output, train=not arguments.no_train, quiet=arguments.json
    )
    if arguments.json:
        say(json_text(verdict, indent=1))
    else:
        say({"right": "solved", "wrong": "not solved yet"}.get(verdict["state"], "still to write"))
    return int(verdict["state"] != "right")
