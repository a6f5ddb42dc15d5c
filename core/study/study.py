"""A study: arms x data sets x seeds, each combination a run in a folder of its own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from densedet.core.errors import UsageError


@dataclass(frozen=True)
class Arm:
    """One side of a comparison: runs that differ in the seed and the data set alone.

    Attributes:
        name: in tables; different for each arm of a study.
        recipe: name of its recipe.
        varies: what `--vary` sets, by dotted path; empty where the arm is a recipe as it stands.
    """

    name: str
    recipe: str
    varies: dict[str, Any] = field(default_factory=dict)


@dataclass
class StudyRun:
    """One run of a study.

    Attributes:
        arm: name of its arm.
        data: name of its data set; "" where the study has one data set.
        seed: of the run.
        folder: the run folder.
        status: "planned", "done" (it has used its budget, or has stopped by a rule of its recipe), "failed",
            or "pruned" (a search has stopped it).
        reason: why it failed; empty for all others.
        changes: to its recipe, as on the command line, where the study judges a finished detector on other
            images than its own (`densedet.core.training.judging.judge` takes them); empty for all others.
    """

    arm: str
    data: str
    seed: int
    folder: Path
    status: str = "planned"
    reason: str = ""
    changes: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The run in messages: its arm, its data set and its seed."""
        return f"{self.arm}{f' on {self.data}' if self.data else ''} seed {self.seed}"


@dataclass
class Study:
    """What `densedet compare` compares.

    Attributes:
        arms: in the order in which they were given.
        data: names of the data sets, in the order in which they were given; [""] where there is one.
        runs: in the order in which they are trained: seed by seed, in it data set by data set and arm by arm.
        notes: sentences about what the reader must know of the runs.
    """

    arms: list[Arm]
    data: list[str]
    runs: list[StudyRun]
    notes: list[str] = field(default_factory=list)

    @property
    def seeds(self) -> list[int]:
        """All seeds, sorted."""
        return sorted({run.seed for run in self.runs})

    def runs_of(self, arm: str, data: str = "") -> list[StudyRun]:
        """Return the finished runs of an arm on a data set, sorted by seed."""
        found = [run for run in self.runs if (run.arm, run.data, run.status) == (arm, data, "done")]
        return sorted(found, key=lambda run: run.seed)

    @property
    def failed(self) -> list[StudyRun]:
        """The runs that failed."""
        return [run for run in self.runs if run.status == "failed"]

    def to_json(self) -> str:
        """Write the study down; `read_study` reads it."""
        return json.dumps({"format": 1, **asdict(self)}, indent=1, default=str)


def read_study(path: Path) -> Study:
    """Read study.json.

    Raises:
        UsageError: the file is not one that densedet has written.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        typed = [{"folder": Path(run["folder"]), "changes": tuple(run["changes"])} for run in values["runs"]]
        runs = [StudyRun(**run | as_typed) for run, as_typed in zip(values["runs"], typed)]
        arms = [Arm(**arm) for arm in values["arms"]]
        return Study(arms, list(values["data"]), runs, list(values["notes"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is not a study that densedet compare has written ({error})") from error


def in_turns(runs: Sequence[StudyRun]) -> list[StudyRun]:
    """Sort runs seed by seed, so that a study that is interrupted has as many seeds of each arm."""
    return sorted(runs, key=lambda run: run.seed)
