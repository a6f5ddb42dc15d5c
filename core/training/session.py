"""From a recipe or a run folder to a finished run: start, fit, finish, and a stop in between."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from densedet.core import files, hookspecs, signals
from densedet.core.assembly.evaluators import metric_value
from densedet.core.data.loader import of_worker
from densedet.core.distributed import alone, barrier, from_main, together
from densedet.core.errors import CheckpointError, Interrupted, OutputError, sentence
from densedet.core.recipe.loading import Recipe
from densedet.core.recipe.merging import Overrides
from densedet.core.text import counted, json_text
from densedet.core.training import black_box, engine, resuming
from densedet.core.training.batch_size import with_batch_size
from densedet.core.training.compiling import compile_network
from densedet.core.training.folders import summary_of
from densedet.core.training.memory import keep_freed_memory
from densedet.core.training.precision import own_threads
from densedet.core.training.probing import choose_precision
from densedet.core.training.random_states import seeded
from densedet.core.training.run import Run
from densedet.core.training.summary import summarise

FIRST_TRY_BATCHES = 2
"""Batches of the evaluation that is tried before the first step, so that its faults do not wait for an
hour."""


def train(recipe: Recipe, *, folder: Path | None = None, hooks: Sequence[Any] = ()) -> Run:
    """Train what the recipe describes.

    Args:
        recipe: what to train.
        folder: the run folder; None makes the next free one below ``run.folder``.
        hooks: hook objects that are called after those of the recipe.

    Returns:
        The finished run; ``run.folder`` holds its results.
    """
    with together():
        recipe, told = with_batch_size(recipe)
        run = Run(recipe, folder=folder, hooks=hooks)
        run.notes += [told] if told else []
        return conduct(run)


def resume(
    path: Path,
    overrides: Overrides = (),
    plugins: Sequence[str] = (),
    *,
    hooks: Sequence[Any] = (),
    allow_changes: bool = False,
) -> Run:
    """Continue a run from its last.pt, with the recipe that it was started with.

    Args:
        path: a run folder, or a checkpoint in one.
        overrides: changes to its recipe.
        plugins: plug-in files that the recipe needs; those that it names are not imported by themselves.
        hooks: hook objects that are called after those of the recipe.
        allow_changes: whether to go on where the data or recipe.yaml have changed since.

    Raises:
        BusyError: another process uses the run folder.
        CheckpointError: there is no checkpoint, it does not fit, something has changed, or the budget is
            used.
    """
    with together(), contextlib.ExitStack() as held:
        folder, file = from_main(lambda: resuming.place_of(path))
        from_main(lambda: held.enter_context(files.locked(folder)))
        run = resuming.continued(
            folder, file, overrides, plugins=plugins, hooks=hooks, allow_changes=allow_changes
        )
        if run.progress >= 1 and from_main(lambda: summary_of(folder).get("status") == "done"):
            raise CheckpointError(
                f"{folder} has used its whole budget ({counted(run.step, 'step')}): give a larger one, e.g. "
                f"{resuming.larger_budget(run)}"
            )
        return conduct(run)


def train_in(
    recipe: Recipe, folder: Path, *, hooks: Sequence[Any] = (), allow_changes: bool = False
) -> Run | None:
    """Train what the recipe describes in this very folder, or go on with what is there.

    Args:
        recipe: what to train.
        folder: the run folder.
        hooks: hook objects that are called after those of the recipe.
        allow_changes: whether to go on where the data have changed since.

    Returns:
        The finished run; None where the folder holds it already.

    Raises:
        BusyError: another process uses the run folder.
        UsageError: the folder holds a run of another recipe.
    """
    with together():
        stage = from_main(lambda: resuming.checked_stage(folder, recipe))
    if stage == "new":
        return train(recipe, folder=folder, hooks=hooks)
    if stage == "ended":
        return None
    means = from_main(lambda: resuming.other_means(folder, recipe))
    return resume(folder, means, recipe.values.get("plugins") or [], hooks=hooks, allow_changes=allow_changes)


def conduct(run: Run) -> Run:
    """Start the run, fit it and finish it. Hooks hear of the end, whatever happens."""
    keep_freed_memory()
    if run.is_main:
        run.recipe.plugins.warn_of_failures()
    with run.held, process_settings(run), interruptible(run):
        if not run.resumed:
            try_evaluation(run)
        run.start()
        try:
            with together():
                choose_precision(run)
                compile_network(run)
                with alone():
                    run.hooks.hook.densedet_run_start(run=run)
                engine.fit(run)
        except BaseException as error:
            told = of_worker(error) or _of_full_disk(run, error) or black_box.left(run, error) or error
            if isinstance(told, OutputError | KeyboardInterrupt):
                run.unsettle()  # a file lacks this step, or the user does not want to wait
            finish(run, "failed", sentence(told))
            if told is error:
                raise
            raise told from error
        complete = run.progress >= 1 and run.evaluations >= run.evaluations_due
        with together():
            finish(run, *(("done", None) if complete else ("stopped", run.stop_reason)))
            barrier()  # until rank 0 has written everything
    return run


@contextmanager
def deaf_to_workers() -> Iterator[None]:
    """Keep torch from raising the death of a loader's worker here: what is written at the end needs none."""
    number = getattr(signal, "SIGCHLD", None)
    if number is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(number, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(number, previous)


@deaf_to_workers()
def finish(run: Run, status: str, reason: str | None) -> None:
    """Summarise the run and tell its hooks. summary.json is written last: where it says "done", all is
    written."""
    run.status = status

    def made() -> dict[str, Any]:
        return summarise(run, status, reason)

    # A process that failed waits for no other; else rank 0 measures, while nobody else computes.
    summary = made() if status == "failed" else from_main(made)
    try:
        with alone():
            hookspecs.end_run(run.hooks, run, summary)
        run.check_folder()
    except BaseException as error:
        run.status = "failed"
        summary |= {"status": run.status, "reason": sentence(error)}
        raise
    finally:
        if run.is_main and run.folder.is_dir():
            with contextlib.suppress(OutputError) if run.status == "failed" else contextlib.nullcontext():
                files.write_text(run.folder / "summary.json", json_text(summary, indent=1))


def _of_full_disk(run: Run, error: BaseException) -> OutputError | None:
    """Return the error that names the run folder, where a hook's error of a full disk names no file."""
    if isinstance(error, OSError) and error.errno in files.FULL and error.filename is None:
        return files.unwritable(run.folder, error)
    return None


def try_evaluation(run: Run) -> None:
    """Evaluate a few images: a faulty evaluator or metric is found before there is a run folder."""
    metrics = run.evaluate(limit=FIRST_TRY_BATCHES * run.recipe.evaluate.batch_size)
    engine.refuse_losses(run, metrics)
    if metrics:
        metric_value(run.recipe, metrics)


@contextmanager
def process_settings(run: Run) -> Iterator[None]:
    """The threads, determinism and random numbers of this process while ``run`` trains; put back
    afterwards, when the processes that load its data end, too."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(run.settings.threads or own_threads())
    torch.use_deterministic_algorithms(run.settings.deterministic)
    try:
        with seeded(run.settings.seed):
            yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)
        with deaf_to_workers():
            run.end_workers(at_once=run.asked is not None or run.signal is not None)


@contextmanager
def interruptible(run: Run) -> Iterator[None]:
    """End the run after its step, with all written, at the first stopping signal; at once at the second, or
    where there is nothing yet to write."""

    def note(number: int, frame: FrameType | None) -> None:
        # A closing terminal sends SIGHUP twice, and torchrun hands on what the terminal has sent already.
        again = run.asked is not None and run.world == 1 and number != getattr(signal, "SIGHUP", None)
        run.asked = run.asked or number
        deaf = signals.is_deaf(frame) or signals.within_import(frame)
        if (again or run.status == "building") and not deaf:
            raise Interrupted(number)

    with signals.handled(note):
        yield
