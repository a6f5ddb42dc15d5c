"""What a user can do wrong, one exception class per kind of misuse, each with the exit code of the command
line.

Messages say where, what, and what to type instead. `main()` prints the message alone; `--debug` adds the
traceback.
"""

from __future__ import annotations

import os
import re
import signal
import sysconfig
import traceback
from pathlib import Path

from densedet.registry import RegistryError, components


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


class BusyError(DensedetError):
    """Another process uses a folder."""

    exit_code = 1


class TrainingError(DensedetError):
    """Training cannot go on, e.g. the loss is not finite."""

    exit_code = 1


class TooLargeError(DensedetError):
    """This machine has too little memory or disk for what a recipe describes."""

    exit_code = 2


class PeerError(DensedetError):
    """Another process of the same run has ended, so that this one cannot go on."""

    exit_code = 1


class OutputError(DensedetError):
    """A file of results cannot be written."""

    exit_code = 1


class ExportError(DensedetError):
    """A detector cannot be exported, or the file gives other detections."""

    exit_code = 1


class WorkerError(DensedetError):
    """A loader's worker process has ended unasked."""

    exit_code = 1


class ConvertedError(RuntimeError):
    """An error of a loader's worker process whose own class torch cannot bring over. Its text is the
    `sentence` of that error."""


class Interrupted(KeyboardInterrupt):
    """A signal ends the work at once.

    Args:
        number: of the signal.
        told: whether the user has been told.
    """

    def __init__(self, number: int, *, told: bool = False) -> None:
        super().__init__(f"{signal.Signals(number).name} ended the work at once")
        self.number, self.told = number, told


NO_MEMORY = re.compile("can't allocate memory|out of memory", re.IGNORECASE)
"""In the text of torch's errors where it got none."""

IN_A_WORKER = "Original Traceback"
"""In the text of an exception that torch brings over from a loader's worker process, with its traceback."""

OURS = tuple(f"{Path(__file__).parent.parent / folder}{os.sep}" for folder in ("core", "plugins", "tools"))


def sentence(error: BaseException) -> str:
    """An error in one line.

    Returns:
        Its text, with the type in front where the text alone would not tell what it is, and behind it the
        place in the file of a plug-in (`author_place`) where there is one.
    """
    text = " ".join(str(error).split())
    if isinstance(error, (DensedetError, RegistryError)):
        return text or type(error).__name__
    if is_out_of_memory(error):
        return "it needs more memory than there is: use smaller sizes"
    if IN_A_WORKER in text:
        text = str(error).strip().splitlines()[-1]  # "KeyError: 'boxes'"
        told = text.partition(": ")[2]
        if isinstance(error, ConvertedError):
            return told
        if isinstance(error, ValueError) and told:
            text = told
    elif not isinstance(error, ValueError) or not text:
        text = f"{type(error).__name__}: {text}".rstrip(": ")
    return text + author_place(error)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether there was no memory for what was asked for."""
    return isinstance(error, MemoryError) or bool(NO_MEMORY.search(str(error)))


def author_place(error: BaseException) -> str:
    """The innermost line of a traceback that a plug-in's author, or the user, has written.

    Returns:
        `` (my_head.py line 12)``; empty where all lines are of densedet, Python or an installed library that
        registers no part.
    """
    authors = {
        _module(row.target).partition(".")[0]
        for row in components.find()
        if not row.origin.startswith("densedet ")  # the built-in parts, some of which are torchvision's
    }
    place = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        file, spec = frame.f_code.co_filename, frame.f_globals.get("__spec__")
        # A module that is run by `python -m` is called __main__, but its spec has its name.
        top = str(getattr(spec, "name", None) or frame.f_globals.get("__name__")).partition(".")[0]
        if top != "densedet" and (top in authors or not _is_library(file)):
            place = f" ({Path(file).name} line {line})"
    if not place and IN_A_WORKER in str(error):
        for file, number in re.findall(r'File "(.+?)", line (\d+)', str(error)):
            if not _is_library(file) and not file.startswith(OURS):
                place = f" ({Path(file).name} line {number})"
    return place


def _module(target: object) -> str:
    return target if isinstance(target, str) else str(getattr(target, "__module__", ""))


def _is_library(file: str) -> bool:
    folders = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    return file.startswith(("<", *(f"{folder}{os.sep}" for folder in folders)))
