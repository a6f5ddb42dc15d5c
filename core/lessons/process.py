"""Judges a lesson in a process of its own: a student's loop without an end, or a crash, ends there. No torch
here, but in that process."""

from __future__ import annotations

import faulthandler
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from densedet.core.errors import UsageError

SECONDS = 15
"""Time of one call of a student's function, and of the reading of the file."""

LONGER = {"training": 600, "the checks of a": 120, "drawing the picture": 60}
"""Time of other work, by how it begins."""

ALL = 1200
"""Seconds after which the process is ended whatever it does."""


def judge_apart(
    file: Path,
    *,
    output: Path | None = None,
    train: bool = True,
    quiet: bool = False,
    seconds: float = SECONDS,
) -> dict[str, Any]:
    """Judge the file of a lesson in a process of its own, which prints each sentence as it comes.

    Args:
        file: the student's.
        output: folder for the picture; None draws none.
        train: whether a right solution also trains a detector.
        quiet: print nothing on standard output; what the student's code prints goes to standard error.
        seconds: time of one call of a student's function.

    Returns:
        `densedet.core.lessons.judging.Verdict` as a mapping.

    Raises:
        UsageError: it is no file of a lesson.
    """
    file = Path(file).resolve()
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder)
        given = [str(file), str(output or ""), str(int(train)), str(int(quiet)), str(seconds), folder]
        command = [sys.executable, "-c", f"from {__name__} import main; main()", *given]
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=sys.stderr if quiet else None,
                timeout=ALL,
                # A file called random.py in the current folder must not stand in for Python's own.
                env={**os.environ, "PYTHONSAFEPATH": "1"},
                check=False,
            )
            code = done.returncode
        except subprocess.TimeoutExpired:
            code = 1
        reply = told / "verdict.json"
        if reply.exists():
            verdict: dict[str, Any] = json.loads(reply.read_text(encoding="utf-8"))
            if "error" in verdict:
                raise UsageError(verdict["error"])
            return verdict
        return _ended(file, told, code, quiet=quiet)


def _ended(file: Path, told: Path, code: int, *, quiet: bool) -> dict[str, Any]:
    """Make the verdict of a process that ended before its own."""
    doing, stack, lines = (_text(told / name) for name in ("doing", "stack", "lines"))
    what = doing.partition("\n")[2]
    at = re.findall(rf'File "{re.escape(str(file))}", line (\d+)', stack)
    place = f"{file.name} line {at[0]}" if at else file.name
    if stack:
        line = (
            f"{place}: {what} has not ended after {doing.partition(chr(10))[0]} seconds: is there a loop "
            f"without an end?"
        )
    else:
        line = f"{file.name}: {what} ended the process with exit code {code}: a function returns its result"
    if not quiet:
        from densedet.core.text import say

        say(line)
    return {
        "lesson": "",
        "state": "wrong",
        "lines": [*lines.splitlines(), line],
        "picture": None,
        "training": None,
    }


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.exists() else ""


def main() -> None:
    """Do the work of the process: the arguments are those that `judge_apart` gives it."""
    file, output, train, quiet, seconds, folder = sys.argv[1:]
    from densedet.core.errors import DensedetError
    from densedet.core.lessons.judging import judge
    from densedet.core.text import say

    told = Path(folder)
    with (
        open(told / "stack", "w", encoding="utf-8") as stack,
        open(told / "lines", "w", encoding="utf-8", buffering=1) as lines,
    ):

        @contextmanager
        def watch(what: str) -> Iterator[None]:
            limit = next((value for key, value in LONGER.items() if what.startswith(key)), float(seconds))
            (told / "doing").write_text(f"{limit:g}\n{what}", encoding="utf-8")
            faulthandler.dump_traceback_later(limit, exit=True, file=stack)
            try:
                yield
            finally:
                faulthandler.cancel_dump_traceback_later()

        def tell(line: str) -> None:
            lines.write(line + "\n")
            if quiet == "0":
                say(line)

        try:
            verdict = asdict(
                judge(
                    Path(file),
                    output=Path(output) if output else None,
                    train=train == "1",
                    tell=tell,
                    watch=watch,
                )
            )
        except DensedetError as error:
            verdict = {"error": str(error)}
    (told / "verdict.json").write_text(json.dumps(verdict), encoding="utf-8")
