"""The runs of a study on a launcher: what is told meanwhile, how it ends, and what is left for next time."""

from __future__ import annotations

import contextlib
import shlex
import shutil
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from densedet.core import files
from densedet.core.contracts import Launcher
from densedet.core.errors import BusyError
from densedet.core.jobs import LOG, Job, JobOutcome
from densedet.core.mappings import at_path
from densedet.core.recipe.contents import contents_of, digest_of_contents
from densedet.core.recipe.loading import Recipe
from densedet.core.study.places import frozen
from densedet.core.study.study import StudyRun
from densedet.core.text import say
from densedet.core.training.folders import stage_of, summary_of

BUSY_SECONDS = 2.0
"""Time between two looks at a run that another process trains."""

TAIL_SECONDS = 0.5


def job_of(run: StudyRun, recipe: Recipe, root: Path, cores: int | None = None) -> Job:
    """Return the command of a run, which goes on where it was left each time that it is given.

    Args:
        run: the run, with its folder.
        recipe: of its arm on its data set.
        root: folder of all studies; the recipe is written there first.
        cores: that the run can use; its threads and loader processes are at most as many.
    """
    command = ["train", str(frozen(recipe, root)), f"train.seed={run.seed}"]
    if cores is not None:
        if (recipe.train.threads or 0) > cores:
            command.append(f"train.threads={cores}")
        if recipe.data.workers == "auto" or recipe.data.workers > cores:
            command.append(f"data.workers={cores}")
    if contents := digest_of_contents(contents_of(recipe)):
        command += ["--contents", contents]
    words = (sys.executable, "-m", "densedet.tools.main", *command, "--folder", str(run.folder))
    return Job(run.title, words, run.folder, cores, 0 if recipe.train.device == "cpu" else 1)


def shell_line(job: Job) -> str:
    """Return a job as one line for a shell, by the program ``densedet`` where it is installed."""
    program = ["densedet"] if shutil.which("densedet") else list(job.command[:3])
    return shlex.join([*program, *job.command[3:]])


def carry_out(runs: Sequence[StudyRun], jobs: Sequence[Job], launcher: Launcher) -> None:
    """Run jobs until each of their runs has ended or failed, and set the status of the runs.

    A run that another process trains is waited for. A run that fails stops no other.

    Args:
        runs: in the order in which they start.
        jobs: of the runs.
        launcher: what runs them.

    Raises:
        Interrupted: by a signal (see `densedet.core.signals.raised`); the jobs have ended before, unless the
            launcher's engine keeps them.
    """
    left = dict(zip(jobs, runs))
    total = len(left)
    with Tail(left):
        while left:
            ready = [job for job in left if not _busy(job.folder)]
            with contextlib.closing(launcher(ready)) as outcomes:
                for outcome in outcomes:
                    if outcome.code and _busy(outcome.job.folder):
                        continue  # another process was first
                    run = left.pop(outcome.job)
                    _note(run, outcome)
                    say(f"[{total - len(left)}/{total}] {run.title}: {_result(run)}", error=True)
            if left:
                _wait(next(iter(left)).folder)


def _note(run: StudyRun, outcome: JobOutcome) -> None:
    """Take over how a run ended: what its folder says counts, not what its process did."""
    if stage_of(run.folder) == "ended":
        run.status = "done"
        return
    if run.status == "pruned":
        return
    summary = summary_of(run.folder)
    run.status = "failed"
    if outcome.code is None:
        run.reason = outcome.reason or "the launcher has lost it"
    elif outcome.code > 128:
        number = outcome.code - 128
        name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
        run.reason = f"its process was ended by {name}; the same command goes on with it"
    else:
        told = summary.get("reason") if summary.get("status") == "failed" else None
        run.reason = str(told or _last_line(run.folder / LOG) or f"exit status {outcome.code}")


def _result(run: StudyRun) -> str:
    """Return the numbers of a finished run, or why it failed."""
    if run.status == "failed":
        return f"failed: {run.reason} ({run.folder / LOG})"
    if run.status == "pruned":
        return "stopped by the pruner: it is worse than the median of the trials before"
    summary = summary_of(run.folder)
    metric = str(summary.get("metric") or "AP")
    value = at_path(summary, metric)
    minutes = summary.get("minutes")
    told = f"{metric} {value:.3f}" if isinstance(value, float) else str(summary.get("status"))
    return f"{told} after {minutes:.2f} minutes" if isinstance(minutes, float) else told


def _last_line(log: Path) -> str:
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _busy(folder: Path) -> str:
    """Return a sentence where another process uses a run folder, else an empty text."""
    if not folder.is_dir():
        return ""
    try:
        with files.locked(folder):
            return ""
    except BusyError as error:
        return str(error)


def _wait(folder: Path) -> None:
    """Wait until no other process uses a run folder."""
    told = _busy(folder)
    if told:
        say(f"waiting: {told}", error=True)
    while _busy(folder):
        time.sleep(BUSY_SECONDS)


class Tail:
    """Shows on standard error what the jobs print, line by line, while its block runs.

    Args:
        runs: the run of each job.
    """

    def __init__(self, runs: dict[Job, StudyRun]) -> None:
        self._logs = {job.folder / LOG: f"[{run.title}] " for job, run in runs.items()}
        self._seen = {log: log.stat().st_size if log.is_file() else 0 for log in self._logs}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._over.wait(TAIL_SECONDS):
            self._show()
        self._show()

    def _show(self) -> None:
        for log, title in self._logs.items():
            with contextlib.suppress(OSError), open(log, "rb") as file:
                file.seek(self._seen[log])
                whole, end, _ = file.read().rpartition(b"\n")
                self._seen[log] += len(whole) + len(end)
                for line in whole.decode("utf-8", "replace").splitlines():
                    say(f"{title}{line}", error=True)
