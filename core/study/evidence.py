"""What is found out about finished runs for their report: judgements, intervals, costs and pictures."""

from __future__ import annotations

import contextlib
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import numpy as np
import torch
from rich.progress import Progress, TaskID

from densedet.core.data.loader import collate
from densedet.core.errors import OutputError, sentence
from densedet.core.files import temporary_folder
from densedet.core.judgement.analysis import disagreements, image_scores
from densedet.core.judgement.judgement import Judgement
from densedet.core.judgement.missed import missed_objects
from densedet.core.report.analysing import analysis_of
from densedet.core.report.arms import Analysis, Arm, Comparison, Measured, named_runs
from densedet.core.report.page import SHOWN
from densedet.core.report.pictures import write_run_pictures
from densedet.core.report.records import RunRecord, read_pictures
from densedet.core.report.run_charts import write_charts
from densedet.core.report.verdicts import Resampled, add_statistics
from densedet.core.statistics.differences import Difference
from densedet.core.statistics.samples import bootstrap_weights
from densedet.core.terminal import progress
from densedet.core.training.costs import measure_in_turns
from densedet.core.training.judging import Evaluation, judge, replayed

T = TypeVar("T")
PICTURES = "compare"
"""Folder in a run folder for what a comparison draws of it."""


@dataclass(frozen=True)
class Wanted:
    """What is to be found out.

    Attributes:
        rounds: how often speeds are measured; 0: not at all, the runs' own are shown.
        resamples: of the images, for the intervals.
        seconds: least duration of each measurement of a speed.
    """

    rounds: int = 5
    resamples: int = 1000
    seconds: float = 0.5


@contextlib.contextmanager
def evidence(comparisons: Sequence[Comparison], wanted: Wanted) -> Iterator[list[list[Difference]]]:
    """Add to comparisons what their runs' checkpoints and images tell; what cannot be found out is noted.

    Args:
        comparisons: one a data set; they and their arms are changed.
        wanted: what is to be found out.

    Yields:
        The differences of the metric for each pair of arms, for each data set. The pictures that the arms
        show are there until the end; the run folders have copies.
    """
    with TemporaryDirectory() as spare, progress() as bar:
        pairs = []
        for number, comparison in enumerate(comparisons):
            found = _Found(comparison, wanted)
            runs = [(arm, run) for arm in comparison.arms for run in named_runs(arm)]
            for arm, run in bar.track(runs, description="judging"):
                found.attempt(f"{run.name} could not be judged", partial(found.judge, arm, run))
            pairs.append(found.attempt("Intervals could not be computed", found.told) or [])
            drawn = partial(found.draw, Path(spare) / str(number))
            found.attempt("The images on which the arms disagree could not be drawn", drawn)
            if wanted.rounds:
                task = bar.add_task("measuring speed in turns", total=wanted.rounds + 1)
                measured = partial(found.measure, partial(_show, bar, task))
                found.attempt("The speeds could not be measured in turns", measured)
        yield pairs


class _Found:
    """What is found out about the arms of one comparison.

    Args:
        comparison: it and its arms are changed.
        wanted: what is to be found out.
    """

    def __init__(self, comparison: Comparison, wanted: Wanted) -> None:
        self.comparison, self.wanted = comparison, wanted
        self.judgements: dict[str, list[tuple[RunRecord, Judgement]]] = {a.name: [] for a in comparison.arms}

    def attempt(self, failed: str, act: Callable[[], T]) -> T | None:
        """Do something, or note why it failed: a report without it is better than none."""
        try:
            return act()
        except Exception as error:
            self.comparison.notes.append(f"{failed}: {sentence(error).rstrip('.')}.")
            return None

    def judge(self, arm: Arm, run: RunRecord) -> None:
        """Judge a run, or take the judgement that lies beside it, and analyse it."""
        judgement = judge(run.folder / "last.pt", run.changes, plugins=run.plugins)
        analysis = analysis_of(judgement)
        arm.analyses.append(analysis)
        self.judgements[arm.name].append((run, judgement))
        _keep_charts(replace(run, name=arm.name), analysis)

    def told(self) -> list[Difference]:
        """Add intervals and verdicts. An arm of which a run was not judged gets none."""
        whole = {a.name: self.judgements[a.name] for a in self.comparison.arms}
        whole = {a.name: whole[a.name] for a in self.comparison.arms if len(whole[a.name]) == len(a.runs)}
        sets = {judgement.image_ids for rows in whole.values() for _, judgement in rows}
        if len(sets) != 1:
            return []
        images = len(next(iter(sets)))
        weights = bootstrap_weights(images, resamples=self.wanted.resamples)
        resampled: dict[str, list[Resampled]] = {}
        for name, rows in whole.items():
            for run, judgement in rows:
                evaluator: Any = replayed(judgement, plugins=run.plugins)
                if not hasattr(evaluator, "resampled"):
                    return []
                resampled.setdefault(name, []).append(evaluator.resampled(weights))
        return add_statistics(self.comparison, resampled, images)

    def draw(self, spare: Path) -> None:
        """Draw the images on which the arms disagree most, those of the first seeds."""
        arms = self.comparison.pictured_arms
        first = [(arm, *rows[0]) for arm in arms if (rows := self.judgements[arm.name])]
        if not first:
            return
        places = _places([judgement for _, _, judgement in first])
        self.comparison.pictured = (
            "Images on which the arms disagree most" if len(first) > 1 else "Images with the most errors"
        )
        for number, (arm, run, judgement) in enumerate(first):
            arm.shown = self._drawn(run, judgement, places, spare / str(number))
            _keep_pictures(run.folder / PICTURES, arm.shown.folder / "pictures")

    def _drawn(self, run: RunRecord, judgement: Judgement, places: Sequence[int], folder: Path) -> RunRecord:
        about = Evaluation(run.folder / "last.pt", run.changes, plugins=run.plugins)
        predictor = about.predictor
        samples = [about.dataset[int(judgement.indices[place])] for place in places]
        batch = collate(samples, pad_to=about.recipe.data.pad_to).to(predictor.device)
        detector: Any = predictor.detector
        with torch.no_grad():
            inside = detector.explain(batch) if hasattr(detector, "explain") else None
            detections = detector.predict(batch)
        lowest = torch.tensor(judgement.thresholds, device=predictor.device)
        detections = [found.where(found.scores >= lowest[found.labels]) for found in detections]
        write_run_pictures(
            folder,
            batch,
            detections,
            inside,
            predictor.classes,
            min_score=min(judgement.thresholds),
            limit=len(places),
        )
        missed = missed_objects(judgement).missed
        pictures = read_pictures(folder)
        for row, place in zip(pictures["images"], places):
            row["missed"] = dict(Counter(one.reason for one in missed if one.image == place))
        return replace(run, folder=folder, pictures=pictures)

    def measure(self, on_round: Callable[[int], object]) -> None:
        """Measure the arms' first runs in turns."""
        arms = self.comparison.arms
        first, wanted = [arm.runs[0] for arm in arms], self.wanted
        costs = measure_in_turns(
            [run.folder for run in first],
            rounds=wanted.rounds,
            seconds=wanted.seconds,
            plugins=[run.plugins for run in first],
            on_round=on_round,
        )
        for arm, told in zip(arms, costs):
            arm.measured = {key: Measured(tuple(values)) for key, values in told.items()}


def _show(bar: Progress, task: TaskID, number: int) -> None:
    bar.update(task, completed=number + 1)


def _keep_charts(run: RunRecord, analysis: Analysis) -> None:
    """Write the charts of a run into its folder, once: a run that has ended does not change."""
    folder = run.folder / PICTURES / "charts"
    if run.changes or folder.exists():
        return
    with contextlib.suppress(OSError, OutputError), temporary_folder(folder) as made:
        write_charts(run, analysis, made)
        made.rename(folder)


def _keep_pictures(folder: Path, drawn: Path) -> None:
    """Copy pictures into a run's folder in place of those of an earlier comparison."""
    # A folder that cannot be written goes without.
    with contextlib.suppress(OSError, OutputError), temporary_folder(folder / drawn.name) as made:
        shutil.copytree(drawn, made, dirs_exist_ok=True)
        with temporary_folder(folder / "old") as old:
            with contextlib.suppress(FileNotFoundError):
                (folder / drawn.name).rename(old / drawn.name)
            made.rename(folder / drawn.name)


def _places(judgements: Sequence[Judgement]) -> list[int]:
    """Positions of the images that are shown: those on which the first differs most from any other; of one
    judgement alone those with the most errors."""
    first, *others = judgements
    if not others:
        scores = image_scores(first)
        errors = scores.missed + scores.false_alarms
        return [int(place) for place in np.argsort(-errors, kind="stable")[:SHOWN]]
    worth: Counter[int] = Counter()
    for other in others:
        if first.image_ids == other.image_ids:
            for one in disagreements(first, other, count=SHOWN):
                alarms = abs(one.false_alarms[0] - one.false_alarms[1])
                worth[one.image] += 1000 * (one.only_first + one.only_second) + alarms
    places = [place for place, _ in worth.most_common(SHOWN)]
    return places or list(range(min(SHOWN, len(first))))
