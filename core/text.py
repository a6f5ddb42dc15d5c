"""Text that comes from data: what a terminal, a page or a JSON file can hold of it. No torch here."""

from __future__ import annotations

import json
import math
import re
import sys
import warnings
from collections.abc import Callable
from typing import Any

HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # C0 and C1, ESC among them, which begins a terminal's commands
    "\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"  # text direction, lines, nothing
    "\U000e0000-\U000e007f"  # tags
    "\ud800-\udfff]"  # halves of pairs: bytes of a file name that are no UTF-8
)


_PLAIN_WARNING = warnings.formatwarning

LONGEST = 40
"""Letters of a name in a table or chart."""


def visible(text: str, *, lines: bool = False) -> str:
    r"""Write characters that control a terminal, or the order of other characters, as escapes.

    Args:
        text: a name, a path, a message.
        lines: whether line ends and tabs stay.

    Returns:
        ``"\x1b[2J"`` as the six letters ``\x1b[2J``; any other letter as it is.
    """
    return HIDDEN.sub(lambda match: match[0] if lines and match[0] in "\n\t" else _escape(match[0]), text)


def short(name: str) -> str:
    """Return a name for a table or chart: `visible`, of `LONGEST` letters at most."""
    name = visible(name)
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"


def _escape(letter: str) -> str:
    return letter.encode("unicode_escape", "backslashreplace").decode("ascii")


def say(text: object = "", *, error: bool = False) -> None:
    """Print text for a person; control characters in it are shown and not sent to the terminal.

    Args:
        text: one line or more.
        error: whether it goes to standard error.
    """
    print(visible(str(text), lines=True), file=sys.stderr if error else sys.stdout, flush=error)


def counted(count: int, what: str) -> str:
    """Return "1 box", "2 boxes", "1,000 images" or "0 entries"."""
    if count != 1:
        what = f"{what[:-1]}ies" if what.endswith("ry") else what + ("es" if what[-1] in "sx" else "s")
    return f"{count:,} {what}"


def format_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Write a warning as Python does, its text `visible`; stands in for ``warnings.formatwarning``."""
    return visible(_PLAIN_WARNING(message, category, filename, lineno, line), lines=True)


def json_text(value: Any, *, indent: int | None = None, default: Callable[[Any], Any] | None = None) -> str:
    """Write a value as JSON; NaN and infinities, which JSON lacks, become null.

    Args:
        value: plain values.
        indent: spaces a level; None: one line.
        default: makes something plain of a value that is not.
    """
    try:
        return json.dumps(value, indent=indent, default=default, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), indent=indent, default=default, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
