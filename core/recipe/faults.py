"""Where a value of a recipe was written, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from densedet.core.errors import DensedetError


@dataclass(frozen=True)
class Origin:
    """A place in a file: line and column count from 1 (0: the file as a whole, e.g. a checkpoint).

    file: as the user would type it, or "command line" (line is then the number of the override, column the
    place in it).
    note: not empty where nobody wrote the value: says whose default it is; file, line and column are then of
    what brought it in.
    """

    file: str
    line: int = 0
    column: int = 0
    note: str = ""

    def default(self, note: str) -> Origin:
        """The origin of a default that came in because of what is written here."""
        return replace(self, note=note)

    @property
    def place(self) -> str:
        """``file:line:column``, or the file alone."""
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file

    def __str__(self) -> str:
        return self.note or self.place


@dataclass(frozen=True)
class Fault:
    """One thing wrong with a recipe. path: dotted, e.g. ``model.matcher.positive``, empty for the file as a
    whole."""

    file: str
    line: int
    column: int
    path: str
    message: str

    @staticmethod
    def at(origin: Origin, path: str, message: str) -> Fault:
        """A fault at this origin."""
        return Fault(origin.file, origin.line, origin.column, path, message)

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        head = f"{place}: {self.path}: " if self.path else f"{place}: "
        return head + self.message.replace("\n", "\n    ")


class RecipeError(DensedetError):
    """A recipe cannot be used. faults: all of them, sorted by file and line; ``str()`` is the report, one
    fault a line."""

    exit_code = 2

    def __init__(self, faults: Sequence[Fault]) -> None:
        unique = dict.fromkeys(faults)
        self.faults: list[Fault] = sorted(unique, key=lambda f: (f.file, f.line, f.column))
        super().__init__("\n".join(str(f) for f in self.faults))

    def __reduce__(self) -> tuple[type[RecipeError], tuple[list[Fault]]]:
        return type(self), (self.faults,)
