"""Fonts that have the letters of a text: Pillow's own, else one of the system."""

from __future__ import annotations

import functools
import unicodedata
from pathlib import Path
from typing import Any

from PIL import ImageFont

from densedet.core.text import visible

NO_LETTER = "\U0010ffff"
"""Stands in no font, so that its picture is the one of a letter that a font lacks."""


def font_for(text: str, size: int) -> Any:
    """Return a font of this size in pixels that has all letters of a text; Pillow's own where none has."""
    file = _file_for(frozenset(text))
    return _font(file or "", size)


def has_font(text: str) -> bool:
    """Return whether some font has all letters of a text."""
    return _file_for(frozenset(text)) is not None


def readable(text: str) -> str:
    """Return a text with "?" for each letter that cannot be drawn; control characters become escapes."""
    text = visible(text)
    return text if has_font(text) else "".join(letter if _has("", letter) else "?" for letter in text)


@functools.lru_cache(maxsize=4096)
def _file_for(letters: frozenset[str]) -> str | None:
    """The file of the font, "" for Pillow's own, None where no font has all letters."""
    missing = {letter for letter in letters if not _has("", letter)}
    if not missing:
        return ""
    return next((file for file in _files() if all(_has(file, letter) for letter in letters)), None)


@functools.lru_cache(maxsize=16384)
def _has(file: str, letter: str) -> bool:
    if letter.isspace() or unicodedata.category(letter) in ("Mn", "Cf"):
        return True
    try:
        return bytes(_font(file, 16).getmask(letter)) != _unknown(file)
    except OSError:  # a damaged font, or one of another kind
        return False


@functools.lru_cache(maxsize=1024)
def _unknown(file: str) -> bytes:
    return bytes(_font(file, 16).getmask(NO_LETTER))


@functools.lru_cache(maxsize=64)  # each holds its file open
def _font(file: str, size: int) -> Any:
    return ImageFont.truetype(file, size) if file else ImageFont.load_default(size)


@functools.cache
def _files() -> tuple[str, ...]:
    """Files of fonts: matplotlib's, then the system's, upright and regular ones first."""
    import matplotlib
    from matplotlib.font_manager import findSystemFonts

    def oddness(file: str) -> tuple[int, str]:
        name = Path(file).stem.lower()
        return sum(word in name for word in ("bold", "italic", "oblique", "mono", "serif", "light")), name

    own = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return str(own), *sorted(findSystemFonts(), key=oddness)
