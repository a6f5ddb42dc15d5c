"""What a search may set: --search PATH=low..high, PATH=log:low..high or PATH=a,b,c."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from densedet.core.errors import UsageError
from densedet.core.study.planning import split_values

NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
RANGE = re.compile(rf"(log:)?({NUMBER})\.\.({NUMBER})")
FORMS = "write train.optimizer.lr=log:1e-4..1e-2, model.head.depth=1..4 or model.neck=fpn,pan"


@dataclass(frozen=True)
class Space:
    """The values of one path.

    Attributes:
        path: dotted path in the recipe.
        choices: the values as text; empty for a range.
        low: smallest value of a range.
        high: largest value of a range.
        whole: whether a range has integers alone.
        log: whether a range is searched by its logarithm.
    """

    path: str
    choices: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    whole: bool = False
    log: bool = False

    @property
    def ends(self) -> tuple[str, ...]:
        """The choices, or both ends of a range, as text."""
        return self.choices or tuple(f"{int(end) if self.whole else end}" for end in (self.low, self.high))

    def suggest(self, trial: Any) -> str:
        """Ask Optuna's trial for a value. Returns the override."""
        if self.choices:
            return f"{self.path}={trial.suggest_categorical(self.path, list(self.choices))}"
        if self.whole:
            return f"{self.path}={trial.suggest_int(self.path, int(self.low), int(self.high), log=self.log)}"
        # Six digits, so that the number in the recipe is the one that the report shows.
        return f"{self.path}={trial.suggest_float(self.path, self.low, self.high, log=self.log):.6g}"


def spaces_of(given: Sequence[str]) -> list[Space]:
    """Read --search.

    Raises:
        UsageError: a text has another form, a range is empty, or a path is there twice.
    """
    found: list[Space] = []
    for text in given:
        path, equals, values = text.partition("=")
        if not equals or "." not in path or not values:
            raise UsageError(f"--search {text!r}: {FORMS}")
        if path == "train.seed" or path.startswith(("run.", "evaluate.", "data.val", "data.holdout")):
            raise UsageError(f"--search {path}: this changes what the numbers mean, not how good they are")
        if path in {space.path for space in found}:
            raise UsageError(f"--search {path} is there twice: give all of its values in one")
        found.append(_space(path, values))
    return found


def _space(path: str, values: str) -> Space:
    match = RANGE.fullmatch(values.strip())
    if match is None:
        choices = tuple(split_values(values))
        if len(set(choices)) < 2 or not all(choices):
            raise UsageError(f"--search {path}={values}: there is nothing to choose from; {FORMS}")
        return Space(path, choices)
    low, high = float(match[2]), float(match[3])
    if not low < high:
        raise UsageError(f"--search {path}={values}: the smaller number comes first")
    if match[1] and low <= 0:
        raise UsageError(f"--search {path}={values}: a logarithm begins above 0")
    whole = all(re.fullmatch(r"[-+]?\d+", number) for number in (match[2], match[3]))
    return Space(path, (), low, high, whole, bool(match[1]))
