"""A JSON object that is read key by key, and the entries of its lists one at a time.

Memory holds a few MB of the file, never all of it.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from densedet.core.errors import DataError

CHUNK = 1 << 20
"""Bytes read at a time."""

MAX_ENTRY = 1 << 28
"""Characters of one entry that are looked at before it is given up as endless."""

BLANK = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()


class ObjectStream:
    """Read the JSON object in a file: iterate over `members`, and take `entries` or `value` of each.

    ``digest`` is BLAKE2b of the bytes read so far, at the end of the whole file. ``on_progress`` gets the
    bytes read and the file's size. Raises DataError with line and column where the file is not JSON.
    """

    def __init__(
        self, path: Path, *, chunk: int = CHUNK, on_progress: Callable[[int, int], None] | None = None
    ) -> None:
        self.path = path
        self.digest = hashlib.blake2b(digest_size=16)
        self._chunk = chunk
        self._on_progress = on_progress
        self._decode = codecs.getincrementaldecoder("utf-8-sig")()
        self._text, self._at = "", 0
        self._lines, self._column = 1, 1  # of the first character of _text
        self._ended = False
        try:
            self._file = open(path, "rb")  # noqa: SIM115 closed by __exit__
            self._bytes, self._done = path.stat().st_size, 0
        except OSError as error:
            raise DataError(f"annotation file {path} cannot be read: {error.strerror or error}") from error

    def __enter__(self) -> ObjectStream:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    # -- the text --------------------

    def _more(self) -> bool:
        """Read on and forget what was used; return False at the end of the file."""
        if self._ended:
            return False
        self._forget()
        # Reading as much again as is waiting keeps a long entry's repeated decoding linear.
        try:
            data = self._file.read(max(self._chunk, len(self._text)))
            text = self._decode.decode(data, final=not data)
        except OSError as error:
            raise DataError(
                f"annotation file {self.path} cannot be read: {error.strerror or error}"
            ) from error
        except UnicodeDecodeError as error:
            raise DataError(
                f"annotation file {self.path} is not UTF-8: {error.reason} near byte "
                f"{self._done + error.start}"
            ) from error
        self.digest.update(data)
        self._done += len(data)
        self._ended = not data
        self._text += text
        if self._on_progress is not None:
            self._on_progress(self._done, self._bytes)
        return not self._ended

    def _forget(self) -> None:
        used = self._text[: self._at]
        if used:
            breaks = used.count("\n")
            self._lines += breaks
            self._column = len(used) - used.rfind("\n") if breaks else self._column + len(used)
            self._text, self._at = self._text[self._at :], 0

    def wrong(self, reason: str, at: int | None = None) -> NoReturn:
        """Return a DataError for position ``at`` of the text that is held."""
        self._at = self._at if at is None else at
        self._forget()
        raise DataError(f"annotation file {self.path}, line {self._lines}, column {self._column}: {reason}")

    def _peek(self) -> str:
        """Return the next character that is no blank, "" at the end of the file."""
        while True:
            self._at = BLANK.match(self._text, self._at).end()  # type: ignore[union-attr]
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def _take(self, wanted: str) -> str:
        """Return the next character, which must be one of ``wanted``."""
        found = self._peek()
        if not found or found not in wanted:
            what = "the file ends here" if not found else f"not JSON: {found!r}"
            self.wrong(f"{what} where {' or '.join(wanted)} must stand")
        self._at += 1
        return found

    def value(self) -> Any:
        """Return the next value as a whole."""
        self._peek()
        self._forget()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text)
                # "12" may go on as "123" in the next chunk; a bracket or quote ends for certain.
                if end < len(self._text) or self._text[end - 1] in '"]}' or self._ended:
                    self._at = end
                    return value
                self._more()
            except json.JSONDecodeError as error:
                if not self._could_go_on(error) or not self._more():
                    self.wrong(f"not JSON: {error.msg}", error.pos)
            except RecursionError:
                self.wrong("nested deeper than any annotation file")
            except ValueError as error:  # a number of thousands of digits
                self.wrong(f"not a number that can be read: {str(error)[:80]}")
            if len(self._text) > MAX_ENTRY:
                self.wrong("an entry that is longer than any annotation")

    def _could_go_on(self, error: json.JSONDecodeError) -> bool:
        """Return whether a fault may come from the end of the chunk.

        It lies near the end, or in a string or value that was cut.
        """
        return not self._ended and (
            error.pos >= len(self._text) - 16 or error.msg.startswith("Unterminated string")
        )

    # -- the object --------------------

    def members(self) -> Iterator[str]:
        """Give every key once, in the file's order; a value that is not taken is skipped."""
        first = self._peek()
        if first != "{":
            kind = {"[": "a list, like a results file", "": "nothing", '"': "a text"}.get(first)
            if kind is None and first not in "-0123456789tfnNI":
                self.wrong(f"not JSON: {first!r} where {{ must stand")
            raise DataError(
                f"annotation file {self.path} holds {kind or 'a plain value'}: COCO's is an object "
                f"with images, annotations and categories"
            )
        self._at += 1
        seen: set[str] = set()
        if self._peek() == "}":
            self._at += 1
        else:
            while True:
                if self._peek() != '"':
                    self._take('"')
                key = self.value()
                self._take(":")
                if key in seen:
                    self.wrong(f"the key {key[:40]!r} stands twice")
                seen.add(key)
                self._taken = False
                yield key
                if not self._taken:
                    self._skip()
                if self._take(",}") == "}":
                    break
        if self._peek():
            self.wrong("something stands after the end of the object")

    def entries(self) -> Iterator[Any]:
        """Give the values of the list under the latest key, one at a time; DataError if it is no list."""
        self._taken = True
        if self._peek() != "[":
            self.wrong("a list must stand here")
        self._at += 1
        if self._peek() == "]":
            self._at += 1
            return
        decode: Callable[[str, int], tuple[Any, int]] = _DECODER.scan_once  # type: ignore[attr-defined]
        while True:
            # The quick way, an entry that lies whole in the text; everything else goes through value().
            text = self._text
            try:
                entry, end = decode(text, self._at)
                if end >= len(text):
                    raise StopIteration
                self._at = end
            except (StopIteration, ValueError, RecursionError):
                entry = self.value()
            yield entry
            if self._text[self._at : self._at + 1] == ",":
                self._at += 1
                if self._text[self._at : self._at + 1] == " ":
                    self._at += 1
                self._peek()
            elif self._take(",]") == "]":
                return
            else:
                self._peek()

    def _skip(self) -> None:
        """Skip a value; a list entry by entry, so that a long one is never whole in memory."""
        if self._peek() == "[":
            for _ in self.entries():
                pass
        else:
            self.value()
