"""Between a source's labels and the recipe's class table."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from densedet.core.errors import DataError
from densedet.core.types import Detections

EMPTY = ""
"""In a class table: a slot of the network that stands for no class, as COCO's unused ids in torchvision's
weights."""


def label_map(available: Sequence[str], classes: Sequence[str]) -> Tensor:
    """int64 (C_source,): the label in ``classes`` of each of the source's labels, by name; -1 where
    ``classes`` lacks it.

    Raises DataError where no name is in both, or a name of the source is empty or occurs twice.
    """
    if EMPTY in available or len(set(available)) < len(available):
        wrong = "an empty name" if EMPTY in available else "two classes of one name"
        raise DataError(f"the source has {wrong}: give each of its classes a name of its own")
    position = {name: label for label, name in enumerate(classes) if name != EMPTY}
    labels = [position.get(name, -1) for name in available]
    if all(label < 0 for label in labels):
        wanted, found = ", ".join([*filter(None, classes)][:20]), ", ".join(available[:20])
        raise DataError(
            f"the source has none of the classes {wanted}; it has {found}: name some of these in data.classes"
        )
    return torch.tensor(labels, dtype=torch.int64)


def relabel(labels: Tensor, table: Tensor) -> Tensor:
    """A source's labels (G,) through a `label_map`; -1 stays -1."""
    return table[labels.clamp(min=0)].masked_fill(labels < 0, -1)


def of_classes(detections: Detections, classes: Sequence[str]) -> Detections:
    """Without those of slots that stand for no class."""
    if EMPTY not in classes:
        return detections
    named = torch.tensor([name != EMPTY for name in classes], device=detections.labels.device)[
        detections.labels
    ]
    return detections.where(named)
