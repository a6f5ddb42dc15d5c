"""`densedet new lesson`: a file with a hole, and the task that fills it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from densedet.core.lessons.names import NAMES, file_name, text_of
from densedet.core.text import say


def add_parser(topics: Any) -> None:
    """densedet new lesson NAME [--output DIR]"""
    parser = topics.add_parser(
        "lesson",
        help="a part of a detector to write yourself: its task, and a file with a hole",
        description=run.__doc__,
    )
    parser.add_argument("name", choices=NAMES, help="in the order of the course")
    parser.add_argument("--output", metavar="DIR", default=".", help="the file's folder (default: this one)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the file of a lesson: its task with formulas, an example by hand, and a function to fill in. The
    finished file is a part of densedet. A file that is there already is left alone."""
    from densedet.core.files import atomic_file

    path = Path(arguments.output) / file_name(arguments.name)
    with atomic_file(path, overwrite=False) as file:
        file.write(text_of(arguments.name).encode())
    say(f"{path} written: read its task, fill in what is missing, then: densedet check lesson {path}")
    return 0
