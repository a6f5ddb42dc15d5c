"""A search for the best values of a recipe: Optuna proposes, a launcher runs, the median pruner stops."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from densedet.core.contracts import Launcher
from densedet.core.errors import UsageError
from densedet.core.recipe.loading import Recipe, load_recipe
from densedet.core.report.records import at_path, number, read_run
from densedet.core.study.placing import Placer
from densedet.core.study.running import carry_out, job_of
from densedet.core.study.search import Space
from densedet.core.study.study import StudyRun
from densedet.core.text import say

WATCH_SECONDS = 0.5


@dataclass
class Trial:
    """One point of a search.

    Attributes:
        number: from 0.
        changes: to the recipe, as on the command line.
        recipe: with the changes.
        run: its run.
        value: the metric at the end; None where the run was pruned or has failed.
    """

    number: int
    changes: list[str]
    recipe: Recipe
    run: StudyRun
    value: float | None = None

    @property
    def pruned(self) -> bool:
        """Whether it was stopped, since it was worse than the median of the trials before."""
        return self.run.status == "pruned"


@dataclass
class Search:
    """A search that has ended.

    Attributes:
        metric: name of the number that was searched by.
        higher_is_better: whether a larger one is better.
        trials: in the order in which they were proposed.
        importance: share of each path in what the metric varies by, the largest first; empty where there are
            too few trials to tell.
    """

    metric: str
    higher_is_better: bool
    trials: list[Trial]
    importance: dict[str, float] = field(default_factory=dict)

    @property
    def best(self) -> Trial | None:
        """The trial with the best value; None where none has ended."""
        ended = [trial for trial in self.trials if trial.value is not None]
        pick = max if self.higher_is_better else min
        return pick(ended, key=lambda trial: trial.value or 0.0) if ended else None


def search(
    name: str,
    overrides: Sequence[str],
    spaces: Sequence[Space],
    *,
    trials: int,
    root: Path,
    launcher: Launcher,
    jobs: int = 1,
    seed: int = 0,
) -> Search:
    """Search for the best values.

    Optuna's proposals depend on the seed and on the results so far alone. So the same command proposes the
    same trials again, takes the runs that are finished, and goes on where it was interrupted.

    Args:
        name: the recipe.
        overrides: changes to it in all trials.
        spaces: what varies.
        trials: how many runs.
        root: folder of all studies.
        launcher: what runs them.
        jobs: trials that are proposed together.
        seed: of the proposals.

    Raises:
        UsageError: Optuna is not installed, or the recipe has nothing to evaluate on.
        RecipeError: the recipe is faulty.
    """
    try:
        import optuna
    except ImportError as error:
        raise UsageError("densedet tune needs Optuna: pip install 'densedet[tune]'") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    plain = load_recipe(name, overrides)
    for space in spaces:
        for text in space.ends:
            load_recipe(name, [*overrides, f"{space.path}={text}"])
    if plain.data.val is None and plain.data.holdout is None:
        raise UsageError("there is nothing to evaluate on: give data.val, or data.holdout=0.1")
    metric, larger = plain.evaluate.metric, plain.evaluate.higher_is_better
    engine = optuna.create_study(
        direction="maximize" if larger else "minimize",
        sampler=optuna.samplers.TPESampler(seed=seed),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4),
    )
    found = Search(metric, larger, [])
    placer = Placer(root)
    while len(found.trials) < trials:
        count = min(jobs, trials - len(found.trials))
        asked = [engine.ask() for _ in range(count)]
        together = [
            _placed(len(found.trials) + place, name, overrides, spaces, trial, placer)
            for place, trial in enumerate(asked)
        ]
        _run(together, asked, launcher, root, metric)
        for trial, own in zip(asked, together):
            _settle(engine, trial, own, metric)
        found.trials += together
    ended = [trial for trial in found.trials if trial.value is not None]
    if len(ended) > 3 and len({trial.value for trial in ended}) > 1:
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
        with contextlib.suppress(RuntimeError, ValueError):  # too few values of one of them
            found.importance = dict(optuna.importance.get_param_importances(engine, evaluator=evaluator))
    return found


def _placed(
    place: int, name: str, overrides: Sequence[str], spaces: Sequence[Space], trial: Any, placer: Placer
) -> Trial:
    changes = [space.suggest(trial) for space in spaces]
    recipe = load_recipe(name, [*overrides, *changes])
    run = StudyRun(f"trial {place}", "", recipe.train.seed, Path())
    placer.place(run, recipe)
    say(f"trial {place}: {' '.join(changes)}", error=True)
    return Trial(place, changes, recipe, run)


def _run(trials: Sequence[Trial], asked: Sequence[Any], launcher: Launcher, root: Path, metric: str) -> None:
    """Run those trials that have not ended; the pruner looks at their evaluations meanwhile."""
    watchers = [Watcher(trial, own, metric) for trial, own in zip(trials, asked)]
    for watcher in watchers:
        watcher.look()  # a run of an earlier process may have been pruned already
    left = [trial for trial in trials if trial.run.status == "planned"]
    if not left:
        return
    jobs = [job_of(trial.run, trial.recipe, root, launcher.cores) for trial in left]
    over = threading.Event()

    def watch() -> None:
        while not over.wait(WATCH_SECONDS):
            for watcher in watchers:
                watcher.look()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        carry_out([trial.run for trial in left], jobs, launcher)
    finally:
        over.set()
        thread.join()
    for watcher in watchers:
        watcher.look()  # what the pruner knows of a run does not depend on when it looked


class Watcher:
    """Feeds the evaluations of a run to Optuna's pruner, and stops the run where it says so.

    Args:
        trial: the trial.
        asked: Optuna's trial.
        metric: name of the number.
    """

    def __init__(self, trial: Trial, asked: Any, metric: str) -> None:
        self.trial, self._asked, self._metric = trial, asked, metric
        self._told = 0

    def look(self) -> None:
        """Report new evaluations. The last one of a run that has ended prunes nothing."""
        folder = self.trial.run.folder
        if self.trial.pruned or not (folder / "metrics.jsonl").is_file():
            return
        evaluations = read_run(folder).evaluations
        for place, event in enumerate(evaluations[self._told :], start=self._told):
            self._told = place + 1
            value = number(at_path(event.get("metrics"), self._metric))
            if value is None:
                continue
            self._asked.report(value, place)
            if self.trial.run.status == "planned" and self._asked.should_prune():
                self.trial.run.status = "pruned"
                end_run_in(folder)
                return


def end_run_in(folder: Path) -> None:
    """Ask the process that trains in a run folder to end, where it is one of this machine."""
    with contextlib.suppress(OSError, ValueError):
        holder = re.fullmatch(r"process (\d+) on (.*)", (folder / ".holder").read_text(encoding="utf-8"))
        if holder is not None and holder[2] == socket.gethostname():
            os.kill(int(holder[1]), signal.SIGTERM)


def _settle(engine: Any, asked: Any, trial: Trial, metric: str) -> None:
    """Tell Optuna how a trial ended."""
    import optuna

    if trial.run.status == "done":
        trial.value = read_run(trial.run.folder).value(metric)
    if trial.value is not None:
        engine.tell(asked, trial.value)
    elif trial.pruned:
        engine.tell(asked, state=optuna.trial.TrialState.PRUNED)
    else:
        engine.tell(asked, state=optuna.trial.TrialState.FAIL)
