"""Which folder each run of a study gets: that of a finished run, of one that goes on, or a new one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from densedet.core import assembly
from densedet.core.data.fingerprint import differences, fingerprint
from densedet.core.errors import CheckpointError
from densedet.core.recipe.loading import Recipe
from densedet.core.study.places import places_of, with_other_files
from densedet.core.study.study import StudyRun
from densedet.core.training import checkpoint
from densedet.core.training.folders import stage_of, summary_of


class Placer:
    """Finds the folder of each run.

    A run counts only where its images and boxes are still those that it was trained on; else the run is
    trained anew in another folder, and a sentence says what has changed.

    Args:
        root: folder of all studies.

    Attributes:
        notes: what was found, a sentence each.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.notes: list[str] = []
        self._data: dict[str, dict[str, Any]] = {}

    def place(self, run: StudyRun, recipe: Recipe) -> None:
        """Set the folder and the status of a run.

        Args:
            run: the run.
            recipe: its recipe, with its seed.
        """
        for folder in places_of(recipe, self.root):
            stage = stage_of(folder)
            changed = [] if stage == "new" else self._changes(folder, recipe)
            if not changed:
                break
            self.notes.append(
                f"{run.title} is trained anew, since {', and '.join(changed)} since the run in {folder}, "
                f"which stays as it is"
            )
        if stage == "new" and (other := with_other_files(recipe, self.root)) is not None:
            self.notes.append(
                f"{run.title} is trained anew, since a plug-in, weights or another file of its recipe has "
                f"changed since the run in {other}, which stays as it is"
            )
        run.folder, run.status = folder, "done" if stage == "ended" else "planned"
        if stage == "ended":
            self.notes.append(f"{run.title}: finished already, in {folder}")
        elif stage == "begun":
            self.notes.append(f"{run.title}: goes on in {folder}")

    def _changes(self, folder: Path, recipe: Recipe) -> list[str]:
        """Say what of the data of a run has changed since."""
        then = summary_of(folder).get("fingerprints") or _of_checkpoint(folder)
        if not isinstance(then, dict):
            return []
        now = self._fingerprints(recipe)
        return [
            sentence
            for split, what in (("train", "training"), ("val", "validation"))
            if then.get(split) and now[split]
            for sentence in differences(then[split], now[split], what)
        ]

    def _fingerprints(self, recipe: Recipe) -> dict[str, Any]:
        """Return the fingerprints of a recipe's data as they are now; read once for each data section."""
        drawn = recipe.data.holdout is not None and recipe.data.holdout_seed is None
        key = json.dumps([recipe.values["data"], recipe.train.seed if drawn else None], sort_keys=True)
        if key not in self._data:
            train, val = assembly.build_sources(recipe)
            self._data[key] = {
                "train": fingerprint(train),
                "val": None if val is None else fingerprint(val),
            }
        return self._data[key]


def _of_checkpoint(folder: Path) -> Any:
    try:
        return checkpoint.load(folder / "last.pt")["fingerprints"]
    except CheckpointError:  # the run is told as broken when it is to go on
        return None
