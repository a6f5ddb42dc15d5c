"""`densedet show explain`: an interactive page in which a person walks through one or two detectors."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densedet.core.text import json_text, say
from densedet.tools.show_views import add_images, wanted_of

if TYPE_CHECKING:
    from densedet.core.showing.explain.collecting import Walk
    from densedet.core.showing.subject import Subject, View

OVERRIDE = re.compile(r"[a-z_]+(\.\w+)+=")
"""Tells changes to the recipes from the detectors on the command line."""
PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp")
"""Endings that tell an image from the detectors on the command line."""


def add_explain(topics: Any) -> None:
    """Add the topic to the parser of `densedet show`."""
    parser = topics.add_parser(
        "explain", help="walk through a detector, cell by cell, in a page", description=explain.__doc__
    )
    parser.add_argument(
        "what",
        nargs="*",
        help="one or two detectors: run folders (their best.pt), checkpoints or recipes; an image file (or "
        "--image, --number, --id); and changes to the recipes (path=value)",
    )
    add_images(parser, count=None)
    parser.add_argument(
        "--output", default="explain.html", metavar="FILE", help="a new file (default explain.html)"
    )
    parser.add_argument(
        "--plugin", action="append", default=[], metavar="FILE", help="a plug-in file that a recipe needs"
    )
    parser.add_argument("--json", action="store_true", help="print what is on the page as JSON")
    parser.set_defaults(run=explain)


def explain(arguments: argparse.Namespace) -> int:
    """Write a page that needs nothing beside it, in which a person walks through a detector on one image:
    choose a level and a cell, see its anchors, what they were matched to and why, their scores, boxes and
    fates, move the thresholds and see the detections change. Two detectors stand side by side. A run with
    the hook `snapshots` shows how its score maps learned."""
    from densedet.core.errors import UsageError
    from densedet.core.files import check_free
    from densedet.core.showing.explain import page
    from densedet.core.showing.explain.collecting import walk_through
    from densedet.core.showing.subject import subject_of, views_of
    from densedet.core.terminal import progress

    output = Path(arguments.output)
    if output.suffix.lower() not in (".html", ".htm"):
        raise UsageError(f"--output {output}: give the page a name that ends with .html")
    check_free(output)
    detectors, overrides = sorted_out(arguments)
    wanted = wanted_of(arguments)
    with progress() as bar:
        task = bar.add_task("walking", total=len(detectors))
        how = {"plugins": arguments.plugin, "without_data": bool(wanted.files)}
        subjects = [subject_of(one, overrides, **how) for one in detectors]
        views = [views_of(subject, wanted)[0] for subject in subjects]
        check_same_image(subjects, views)
        walks = []
        for subject, view in zip(subjects, views):
            walks.append(walk_through(subject, view))
            bar.advance(task)
    size = page.write(walks, views[0].title, output)
    if arguments.json:
        say(json_text({"page": str(output), "bytes": size, "columns": list(map(summary, walks))}, indent=1))
    else:
        for walk in walks:
            say(line(walk))
        say(f"{output} ({size / 1e6:.1f} MB): open it in a browser", error=True)
    return 0


def sorted_out(arguments: argparse.Namespace) -> tuple[list[str], list[str]]:
    """Return the detectors and the changes to their recipes; an image file joins --image.

    Raises:
        UsageError: there are not one or two detectors, or more than one image.
    """
    from densedet.core.errors import UsageError

    overrides = [text for text in arguments.what if OVERRIDE.match(text) and not os.path.exists(text)]
    images = [text for text in arguments.what if text.lower().endswith(PICTURES)]
    detectors = [text for text in arguments.what if text not in overrides and text not in images]
    arguments.image = [*arguments.image, *images]
    example = "densedet show explain runs/quickstart_ssd/1 runs/quickstart_retinanet/1 --number 3"
    if not 1 <= len(detectors) <= 2:
        found = f"there are {len(detectors)} ({', '.join(detectors)})" if detectors else "there is none"
        raise UsageError(f"name one or two detectors, and {found}: {example}")
    count = len(arguments.image) + len(arguments.number) + len(arguments.id)
    if count > 1:
        raise UsageError(f"the page is about one image, and {count} are named: name one")
    return detectors, overrides


def check_same_image(subjects: list[Subject], views: list[View]) -> None:
    """Raise UsageError where two recipes' images of one number or id are not the same."""
    from densedet.core.errors import UsageError

    sizes = [view.batch.source_hw.tolist() for view in views]
    if any(view.title != views[0].title for view in views) or any(one != sizes[0] for one in sizes):
        names = " and ".join(subject.what for subject in subjects)
        titles = " and ".join(f"{view.title} of {s[0][1]}x{s[0][0]} pixels" for view, s in zip(views, sizes))
        raise UsageError(
            f"{names} mean different images by this ({titles}): name an image file by --image, which both get"
        )


def summary(walk: Walk) -> dict[str, Any]:
    """Return what a column shows, for a program."""
    from densedet.core.showing.explain.collecting import counted_fates

    levels = () if walk.cells is None else walk.cells.levels
    return {
        "recipe": walk.title,
        "state": walk.state,
        "objects": walk.objects,
        "levels": [level._asdict() for level in levels],
        "detections": len(walk.found.scores),
        "fates": counted_fates(walk),
        "steps": [moment.step for moment in walk.moments],
        "notes": walk.notes,
    }


def line(walk: Walk) -> str:
    """Return what a column shows in a line, and its notes."""
    from densedet.core.showing.explain.collecting import counted_fates

    fates = ", ".join(f"{count:,} {name}" for name, count in counted_fates(walk).items())
    found = f"candidates: {fates}" if fates else f"{len(walk.found.scores)} detections"
    many = f"; {len(walk.moments)} moments of its training" if len(walk.moments) > 1 else ""
    return "\n".join([f"{walk.title} ({walk.state}): {found}{many}", *walk.notes])
