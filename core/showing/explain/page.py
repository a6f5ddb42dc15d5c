"""The page: one HTML file that holds its numbers, styles and scripts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from densedet.core.files import write_text
from densedet.core.report.environment import environment
from densedet.core.showing.explain.collecting import Walk
from densedet.core.showing.explain.packing import column
from densedet.core.text import json_text

BYTES = 4_600_000
"""Most bytes of the numbers and pictures of a page; its text adds some 60 KB."""
SCRIPTS = (
    *("numbers.js", "suppression.js", "sentences.js", "picture.js", "elements.js"),
    *("found.js", "walk.js", "column.js", "page.js"),
)
"""Scripts of the page in the order in which they need each other."""


def html_of(walks: Sequence[Walk], image: str) -> str:
    """Return the page.

    Args:
        walks: one or two detectors, the columns.
        image: names the image for people.
    """
    columns = [column(walk, BYTES // len(walks)) for walk in walks]
    title = f"{' and '.join(dict.fromkeys(walk.title for walk in walks))}, step by step"
    template = environment("densedet.core.showing.explain").get_template("explain.html")
    page = template.render(title=title, image=image, walks=walks, scripts=SCRIPTS)
    # "<" would end the script element where a class is called "</script>".
    numbers = json_text({"columns": columns}).replace("<", "\\u003c")
    return page.replace('"NUMBERS"', numbers, 1)


def write(walks: Sequence[Walk], image: str, path: Path) -> int:
    """Write the page to a new file; `html_of` describes the arguments.

    Returns:
        Its bytes.

    Raises:
        UsageError: something is there already.
        OutputError: the disk does not take it.
    """
    text = html_of(walks, image)
    write_text(path, text, overwrite=False)
    return len(text.encode())
