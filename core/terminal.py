"""Tables and progress bars at a terminal. Text is printed as it is: it holds no markup and no commands."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskProgressColumn, TimeRemainingColumn
from rich.text import Text

from densedet.core.text import visible


class Terminal(Console):
    """A console that prints every text as it is: ``bolt [m8]`` and ``:smile:`` are letters.

    Args:
        error: whether it prints to standard error.
    """

    def __init__(self, *, error: bool = False) -> None:
        super().__init__(file=sys.stderr if error else sys.stdout, markup=False, highlight=False, emoji=False)

    def render_str(self, text: str, **options: Any) -> Text:
        """Turn a string into rich's text; rich calls it for every string that it prints."""
        return super().render_str(visible(text, lines=True), **options)


class Description(ProgressColumn):
    """What a bar is about."""

    def render(self, task: Task) -> Text:
        """See rich's ProgressColumn."""
        return Text(visible(task.description))


def progress() -> Progress:
    """Return a bar on standard error that shows what is done, the share and the time left, and vanishes at
    its end."""
    columns = Description(), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    console = Terminal(error=True)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
