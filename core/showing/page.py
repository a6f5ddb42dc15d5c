"""A page of `densedet show`: text for the terminal, plain values, and a folder with PNG files and one HTML
file that needs nothing beside it."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image

from densedet.core.errors import OutputError
from densedet.core.files import filled_folder, unwritable
from densedet.core.report.environment import environment
from densedet.core.report.sections import Table

PAGE = "index.html"
"""Name of the page in its folder."""
SIDE = 768
"""Pixels to which a large picture's long side is shrunk: many stand side by side."""
LARGE_PNG = 120_000
"""Bytes from which on a picture stands in the page as JPEG."""


@dataclass(frozen=True, eq=False)
class Figure:
    """A picture of a page, which is also a PNG file beside it.

    Attributes:
        name: of the file, without ending. What is no letter, digit, point or hyphen becomes "_" in the file.
        picture: in RGB.
        caption: stands below it.
    """

    name: str
    picture: Image.Image
    caption: str

    @cached_property
    def png(self) -> bytes:
        """The picture as a PNG file, compressed a little: a photograph hardly shrinks, and takes long."""
        data = io.BytesIO()
        self.picture.save(data, "png", compress_level=1)
        return data.getvalue()

    def url(self) -> str:
        """Return the picture as a data URL."""
        content, kind = self.png, "png"
        if len(content) > LARGE_PNG:
            data, kind = io.BytesIO(), "jpeg"
            # Full colour resolution: halved, thin coloured lines and letters blur.
            self.picture.convert("RGB").save(data, kind, quality=88, subsampling=0)
            content = data.getvalue()
        return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


@dataclass
class Block:
    """A part of a page.

    Attributes:
        title: heading; may be empty.
        notes: sentences below it.
        tables: tables below them.
        figures: pictures below these.
        keys: colours that the pictures use, each with its meaning.
        least: the width in rem from which on pictures stand side by side.
    """

    title: str = ""
    notes: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    keys: list[tuple[str, tuple[int, int, int]]] = field(default_factory=list)
    least: float = 22


@dataclass
class Page:
    """What a topic shows.

    Attributes:
        title: heading.
        lead: sentences below it.
        blocks: the parts.
        values: the same for a program, as plain values.
    """

    title: str
    lead: list[str]
    blocks: list[Block]
    values: dict[str, Any]

    def text(self) -> str:
        """Return title, sentences and tables for a terminal."""
        lines = [self.title, *self.lead, ""]
        for block in self.blocks:
            if block.figures and not block.tables:
                continue
            lines += [block.title, *block.notes] if block.title else block.notes
            for table in block.tables:
                lines += [""] if lines[-1] else []
                lines += [*([table.title] if table.title else []), *table.lines(), ""]
        return "\n".join(lines).rstrip("\n")

    def write(self, folder: Path) -> list[Path]:
        """Write the page and its pictures into a new folder, which appears when all is written.

        Returns:
            The files, the page first.

        Raises:
            UsageError: something is there already.
            OutputError: the disk does not take it.
        """
        figures = [figure for block in self.blocks for figure in block.figures]
        names = named_apart([re.sub(r"[^\w.-]+", "_", figure.name)[:100] for figure in figures])
        pictures = {f"{name}.png": figure.png for name, figure in zip(names, figures)}
        try:
            with filled_folder(folder) as made:
                for name, content in pictures.items():
                    (made / name).write_bytes(content)
                (made / PAGE).write_text(self.html(), encoding="utf-8")
        except OutputError:
            raise
        except OSError as error:
            raise unwritable(folder, error) from error
        return [folder / PAGE, *(folder / name for name in pictures)]

    def html(self) -> str:
        """Return the page."""
        return environment("densedet.core.showing").get_template("show.html").render(page=self)


def table(head: Sequence[str], rows: Sequence[Sequence[object]], title: str = "") -> Table:
    """Return a table of anything; None becomes a dash."""
    texts = [["–" if cell is None else str(cell) for cell in row] for row in rows]
    return Table(head, texts, title)


def named_apart(names: Sequence[str]) -> list[str]:
    """Add a number to each name that came before."""
    found: dict[str, None] = {}
    for name in names:
        number, apart = 1, name
        while apart in found:
            number += 1
            apart = f"{name}_{number}"
        found[apart] = None
    return list(found)
