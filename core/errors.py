"""What a user can do wrong, one exception class per kind of misuse, each with the exit code of the command
line.

Messages say where, what, and what to type instead. `main()` prints the message alone; `--debug` adds the
traceback.
"""

from __future__ import annotations


class DensedetError(Exception):
    """Base of every error that is the user's to mend. exit_code: 1 failed, 2 wrong use or a faulty recipe, 3
    bad data."""

    exit_code = 1


class UsageError(DensedetError):
    """A wrong command line."""

    exit_code = 2


class PartError(DensedetError):
    """A part cannot work with what it was given. Parts raise it from their constructor or first call; the
    assembly adds the file and line of the recipe. ``part`` names the kind at fault where the raiser is not
    the part itself."""

    exit_code = 2

    def __init__(self, message: str, *, part: str | None = None) -> None:
        super().__init__(message)
        self.part = part


class PluginError(DensedetError):
    """A plug-in that a recipe needs could not be loaded."""

    exit_code = 2


class DataError(DensedetError):
    """An image, an annotation file or a database is missing or wrong."""

    exit_code = 3


class CheckpointError(DensedetError):
    """A checkpoint or run folder is missing, damaged or does not fit the recipe."""

    exit_code = 1


class TrainingError(DensedetError):
    """Training cannot go on, e.g. the loss is not finite."""

    exit_code = 1
