"""Roboflow's COCO JSON, whose first category may be the project instead of a class."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from densedet.core.errors import DataError
from densedet.core.sources import AnnotationTable
from densedet.plugins.sources._json_stream import ObjectStream
from densedet.plugins.sources.coco import CocoSource

STAND_IN = "\0project"
"""What the project's category is called until it is known whether a box is of it: a class may have the same
name."""


class RoboflowCoco(CocoSource):
    """`CocoSource` without the unused category 0 that all others name as their supercategory."""

    def _read(self) -> AnnotationTable:
        project = project_of(self.files[0])
        if project is None:
            return super()._read()
        self.renamed = {0: STAND_IN}
        table = super()._read()
        if not (table.labels == 0).any():
            labels = (table.labels - np.ones((), table.labels.dtype)).astype(table.labels.dtype)
            return replace(
                table, classes=table.classes[1:], category_ids=table.category_ids[1:], labels=labels
            )
        if project in table.classes:
            other = table.category_ids[table.classes.index(project)]
            raise DataError(
                f"annotation file {self.files[0]}: categories 0 and {other} are both called "
                f"{project!r} and there are boxes of both: rename one of them"
            )
        return replace(table, classes=(project, *table.classes[1:]))


def project_of(file: Path) -> str | None:
    """Return the name of category 0 if it is the lowest id and the supercategory of all others, or None."""
    rows: list[dict[str, Any]] = []
    with ObjectStream(file) as stream:
        for key in stream.members():
            if key == "categories":
                rows = [row for row in stream.entries() if isinstance(row, dict)]
                break
    ids = [row.get("id") for row in rows]
    if ids.count(0) != 1 or not all(isinstance(one, int) and one >= 0 for one in ids):
        return None
    name = rows[ids.index(0)].get("name")
    others = [row.get("supercategory") for row in rows if row.get("id") != 0]
    return name if isinstance(name, str) and others and all(other == name for other in others) else None
