"""XML files of annotations, read element by element, without following what a file asks of its reader."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, ClassVar
from xml.parsers import expat

from densedet.core.errors import DataError

MAX_DEPTH = 40
"""Elements inside one another; CVAT has 12, VOC 5."""

_FOREIGN = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class XmlElements:
    """A file's elements, one after the other.

    Attributes:
        root: the tag of the outermost element.
        one: such a file in words, for errors: "Pascal VOC file".
        all: such files, for errors: "Pascal VOC files".
        path: the file.
        stack: tags of the elements that are open, the outermost first.
        pieces: texts since the last element began or, where `closed` clears them, ended.
    """

    root: ClassVar[str]
    one: ClassVar[str]
    all: ClassVar[str]

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stack: list[str] = []
        self.pieces: list[str] = []

    def read(self, content: bytes) -> None:
        """Go through a file. Raises DataError if it is another kind of file."""
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self.pieces.append
        parser.StartDoctypeDeclHandler = self._doctype
        try:
            parser.Parse(content, True)
        except expat.ExpatError as error:
            raise DataError(f"annotation file {self.path} is not XML: {error}") from error
        except (ValueError, LookupError, RecursionError) as error:
            raise DataError(
                f"annotation file {self.path} cannot be read as XML ({error}): save it as UTF-8"
            ) from error

    def opened(self, tag: str, attributes: dict[str, str]) -> None:
        """Take an element that begins; it is on the stack."""
        raise NotImplementedError

    def closed(self, tag: str) -> None:
        """Take an element that ends; it is still on the stack."""
        raise NotImplementedError

    def _doctype(self, *declaration: Any) -> None:
        # Entities are how an XML file makes its reader read other files or fill the memory.
        raise DataError(
            f"annotation file {self.path} declares a document type (<!DOCTYPE>): {self.all} do not; delete it"
        )

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        if not self.stack and tag != self.root:
            raise DataError(
                f"{self.path} is no {self.one}: its outermost element is <{tag[:40]}>, not <{self.root}>"
            )
        if len(self.stack) == MAX_DEPTH:
            raise DataError(
                f"annotation file {self.path} has elements nested more than {MAX_DEPTH} deep: "
                f"{self.all} do not"
            )
        self.stack.append(tag)
        self.pieces.clear()
        self.opened(tag, attributes)

    def _end(self, tag: str) -> None:
        self.closed(tag)
        self.stack.pop()


def xml_text(text: str) -> str:
    """Return ``text`` as an XML element gives it back: stripped, and with impossible characters replaced."""
    return _FOREIGN.sub("\ufffd", text).strip()


def number_of(text: str | None) -> float:
    """Return a number. Raises ValueError where there is none."""
    if text is None or "_" in text:  # Python would read 1_000
        raise ValueError
    return float(text)


def side_of(text: str | None) -> int:
    """Return an image's side in pixels, 0 where the text is none."""
    try:
        value = number_of(text)
    except ValueError:
        return 0
    return int(value) if 0 < value < 1 << 24 else 0


def json_value(text: str | None) -> Any:
    """Return the value of a JSON text, None where it is none."""
    try:
        return None if text is None else json.loads(text)
    except (ValueError, RecursionError):
        return None
