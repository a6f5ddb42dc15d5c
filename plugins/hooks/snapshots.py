"""snapshots/: the weights at several moments of the training, to look back at."""

from __future__ import annotations

from typing import Any

from densedet.core.arguments import PositiveInt
from densedet.core.hookspecs import hookimpl
from densedet.core.training import snapshots


class SnapshotsHook:
    """Keep the weights before the first step, and at ``count`` moments that are spread evenly over the
    training, each in a file of the folder ``snapshots``. `densedet show explain` shows with them how the
    score maps learn. A resumed run drops those after its checkpoint and takes them anew.

    Args:
        count: snapshots beside that of the untrained weights; the last one is taken at the end.
    """

    in_folder = True

    def __init__(self, *, count: PositiveInt = 8) -> None:
        self.count = count
        self._taken = 0

    @hookimpl
    def densedet_run_start(self, run: Any) -> None:
        snapshots.drop_later(run.folder, run.step)
        self._taken = self._due(run)
        if run.step == 0:
            snapshots.save(run)

    @hookimpl
    def densedet_run_step(self, run: Any) -> None:
        if self._due(run) > self._taken:
            self._taken = self._due(run)
            snapshots.save(run)

    def _due(self, run: Any) -> int:
        """Moments that have passed."""
        return int(run.progress * self.count + 1e-9)
