"""Launchers: commands that run somewhere, and what came of them."""

from __future__ import annotations

import signal
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

from densedet.core.conformance.requirements import Factory, check, require, wire
from densedet.core.jobs import LOG, Job

PYTHON = (sys.executable, "-S", "-c")  # without site-packages: it starts in 20 ms
ENDS = {
    "well": ("print('it is done')", 0),
    "badly": ("print('it has failed'); raise SystemExit(3)", 3),
    "killed": (f"import os; os.kill(os.getpid(), {int(signal.SIGTERM)})", 128 + signal.SIGTERM),
}
"""Name of a job -> its program, and its exit status as a shell has it."""


@check("launcher")
def check_launcher(factory: Factory, **arguments: Any) -> None:
    """Check that a launcher runs each job once and tells how it ended, that what a job prints is in its log,
    and that a job that fails stops no other.

    Args:
        factory: the class or function.
        **arguments: its arguments in a recipe.

    Raises:
        ConformanceError: with a sentence that says what was expected.
    """
    part = wire(factory, arguments)
    require(
        part.cores is None or (type(part.cores) is int and part.cores >= 1),
        f"`cores` is None or a number of cores, not {part.cores!r}",
    )
    require(
        isinstance(part.on_this_machine, bool), f"`on_this_machine` is a bool, not {part.on_this_machine!r}"
    )
    require(list(part([])) == [], "without jobs there are no outcomes")
    with tempfile.TemporaryDirectory() as folder:
        jobs = [Job(name, (*PYTHON, text), Path(folder) / "runs" / name) for name, (text, _) in ENDS.items()]
        told = part.describe(jobs)
        require(isinstance(told, str) and told.strip(), f"`describe` gives a line of text, not {told!r}")
        outcomes = part(jobs)
        require(isinstance(outcomes, Generator), "it yields outcomes as jobs end: write it as a generator")
        found = list(outcomes)
        names = sorted(outcome.job.name for outcome in found)
        require(names == sorted(ENDS), f"jobs {sorted(ENDS)} ran, and there are outcomes of {names}")
        for outcome in found:
            code = ENDS[outcome.job.name][1]
            require(
                outcome.code == code,
                f"a job that ended {outcome.job.name} has the exit status {outcome.code}, not {code} "
                f"({outcome.reason or 'no reason given'})",
            )
        for name, text in (("well", "it is done"), ("badly", "it has failed")):
            log = Path(folder) / "runs" / name / LOG
            require(
                log.is_file() and log.read_text().count(text) == 1,
                f"what a job prints is not in {LOG} of its run folder, or it ran twice: use "
                f"densedet.core.jobs.start_job or run_job",
            )
