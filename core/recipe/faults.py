"""Where a value of a recipe was written, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from densedet.core.errors import DensedetError


@dataclass(frozen=True)
class Origin:
    """A place in a file: line and column count from 1 (0: the file as a whole, e.g. a checkpoint).

    Attributes:
        file: as the user would type it, or "command line".
        line: in the file; for the command line, the number of the override.
        column: in the line, or in the override.
        note: whose default the value is, where nobody wrote it, else empty; file, line and column are then of
            what brought it in.
    """

    file: str
    line: int = 0
    column: int = 0
    note: str = ""

    def default(self, note: str) -> Origin:
        """Return the origin of a default that comes in because of what is written here."""
        return replace(self, note=note)

    @property
    def place(self) -> str:
        """``file:line:column``, or the file alone."""
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file

    def __str__(self) -> str:
        return self.note or self.place


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a recipe.

    Attributes:
        file: as in `Origin`, like line and column.
        line: from 1.
        column: from 1.
        path: dotted, e.g. ``model.matcher.positive``; empty for the file as a whole.
        message: what is wrong, and what to write instead.
    """

    file: str
    line: int
    column: int
    path: str
    message: str

    @staticmethod
    def at(origin: Origin, path: str, message: str) -> Fault:
        """Make a fault at this origin."""
        return Fault(origin.file, origin.line, origin.column, path, message)

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        head = f"{place}: {self.path}: " if self.path else f"{place}: "
        return head + self.message.replace("\n", "\n    ")


class RecipeError(DensedetError):
    """A recipe cannot be used; ``str()`` is the report, one fault a line.

    Attributes:
        faults: all of them, sorted by file and line.
    """

    exit_code = 2

    def __init__(self, faults: Sequence[Fault]) -> None:
        unique = dict.fromkeys(faults)
        self.faults: list[Fault] = sorted(unique, key=lambda f: (f.file, f.line, f.column))
        super().__init__("\n".join(str(f) for f in self.faults))

    def __reduce__(self) -> tuple[type[RecipeError], tuple[list[Fault]]]:
        return type(self), (self.faults,)
